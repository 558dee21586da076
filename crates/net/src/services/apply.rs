//! Writes the maps, always as one transaction: everything at first, then just what differs.

use std::collections::BTreeSet;

use super::plan::{NEAR, Tables, affinity_chain, chain};
use super::stale::Moved;
use crate::conntrack;
use crate::nft::expr::{Expressions, R0, R1, R2, R3};
use crate::nft::{Batch, Element, Hook, MapSpec, NftError, Socket};

const IPV4: u32 = 7;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const MARK: u32 = 19;
const CLIENTS: u32 = 1 << 20;
const TCP: u8 = 6;

fn concat(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, kind| (all << 6) | kind)
}

/// The table of one node's Services.
pub struct Table {
    name: String,
    /// The pods of the cluster: whoever is outside of it comes back only by way of this node.
    cluster: (u32, u8),
    socket: Socket,
    now: Option<Tables>,
}

impl Table {
    /// The table `name` of the calling thread's namespace; `cluster` is base and length of the pod network.
    ///
    /// # Errors
    /// When the kernel has no nftables.
    pub fn open(name: &str, cluster: (u32, u8)) -> Result<Self, NftError> {
        Ok(Self { name: name.to_owned(), cluster, socket: Socket::open()?, now: None })
    }

    /// Makes the table hold what is wanted.
    ///
    /// # Errors
    /// What the kernel refuses; the table then holds what it held, and the next call writes it anew.
    pub fn apply(&mut self, wanted: &Tables) -> Result<(), NftError> {
        let batch = match &self.now {
            Some(now) => self.difference(now, wanted),
            None => self.everything(wanted),
        };
        let done = self.socket.commit(&batch);
        if done.is_ok() {
            forget(&Moved::between(self.now.as_ref(), wanted));
        }
        self.now = done.is_ok().then(|| wanted.clone());
        done
    }

    /// Removes the table. One that is not there is no error.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove(&self) -> Result<(), NftError> {
        let mut batch = Batch::new(&self.name);
        batch.table().delete_table();
        self.socket.commit(&batch)
    }

    fn everything(&self, wanted: &Tables) -> Batch {
        let mut batch = Batch::new(&self.name);
        // Made so that it can be removed, whatever was there, and made anew.
        batch.table().delete_table().table();
        let endpoint = concat(&[IPV4, PORT]);
        let service = concat(&[IPV4, PROTOCOL, PORT]);
        let verdicts = Some(None);
        batch.map("svc-ips", MapSpec { key_type: service, key_len: 12, data: verdicts, dynamic: None });
        let slot = concat(&[IPV4, PROTOCOL, PORT, MARK]);
        batch.map(
            "endpoints",
            MapSpec { key_type: slot, key_len: 16, data: Some(Some((endpoint, 8))), dynamic: None },
        );
        let client = concat(&[IPV4, IPV4, PROTOCOL, PORT]);
        batch.map(
            "affinity",
            MapSpec {
                key_type: client,
                key_len: 16,
                data: Some(Some((endpoint, 8))),
                dynamic: Some(CLIENTS),
            },
        );
        batch.map("aff-svcs", MapSpec { key_type: service, key_len: 12, data: verdicts, dynamic: None });
        batch.map("near", MapSpec { key_type: service, key_len: 12, data: verdicts, dynamic: None });
        batch.map("refused", MapSpec { key_type: service, key_len: 12, ..MapSpec::default() });
        batch.map("dropped", MapSpec { key_type: service, key_len: 12, ..MapSpec::default() });
        batch.map("addresses", MapSpec { key_type: IPV4, key_len: 4, ..MapSpec::default() });
        batch.map("kept", MapSpec { key_type: service, key_len: 12, ..MapSpec::default() });
        batch.map("hairpins", MapSpec { key_type: concat(&[IPV4, IPV4]), key_len: 8, ..MapSpec::default() });
        self.chains(&mut batch);
        wanted.sizes.iter().for_each(|&size| size_chain(&mut batch, size, false));
        wanted.near_sizes.iter().for_each(|&size| size_chain(&mut batch, size, true));
        wanted.times.iter().for_each(|&seconds| time_chain(&mut batch, seconds));
        let list = |set: &BTreeSet<Element>| set.iter().cloned().collect::<Vec<_>>();
        for (map, set) in maps(wanted) {
            batch.add(map, &list(set));
        }
        batch
    }

    fn chains(&self, batch: &mut Batch) {
        let nat = |number, priority| Some(Hook { number, priority, kind: "nat" });
        let filter = |number| Some(Hook { number, priority: 0, kind: "filter" });
        let (base, bits) = self.cluster;
        let of_pods = Expressions::new().source(R0).within(R0, base, bits, false);
        // What this node itself sends is of the cluster as well.
        for (name, number, near) in [("prerouting", 0, of_pods), ("output", 3, Expressions::new())] {
            batch.chain(name, nat(number, -100));
            batch.rule(name, &service_key(near).lookup("near", Some(0)));
            batch.rule(name, &service_key(Expressions::new()).lookup("svc-ips", Some(0)));
        }
        for (name, number) in [("filter-input", 1), ("filter-forward", 2), ("filter-output", 3)] {
            batch.chain(name, filter(number));
            batch.rule(name, &service_key(Expressions::new()).lookup("dropped", None).drop());
            let address = || Expressions::new().destination(R0).protocol(R1);
            for (set, key) in [("refused", service_key(Expressions::new())), ("addresses", address())] {
                // A reset always arrives, while of the other answer the kernel sends few: a client would wait.
                batch.rule(name, &key.clone().compare(R1, false, &[TCP]).lookup(set, None).reset());
                batch.rule(name, &key.lookup(set, None).reject());
            }
        }
        batch.chain("affinity", nat(4, 90));
        let original = Expressions::new()
            .first_of_connection()
            .original_destination(R0)
            .protocol(R1)
            .original_destination_port(R2);
        batch.rule("affinity", &original.lookup("aff-svcs", Some(0)));
        batch.chain("postrouting", nat(4, 100));
        // What goes back to whence it came, or came from outside, must return through this node: from one of its own
        // pods it does so anyhow.
        batch.rule(
            "postrouting",
            &Expressions::new().translated().source(R0).destination(R1).lookup("hairpins", None).masquerade(),
        );
        // A node's own calls may come from an address that is the Service's, at which no answer would arrive.
        batch.rule("postrouting", &Expressions::new().translated().from_this_machine().masquerade());
        let kept = Expressions::new()
            .translated()
            .original_destination(R0)
            .protocol(R1)
            .original_destination_port(R2);
        batch.rule("postrouting", &kept.lookup("kept", None).leave());
        batch.rule(
            "postrouting",
            &Expressions::new().translated().source(R0).within(R0, base, bits, true).masquerade(),
        );
        // Pods reach the world under the node's address.
        let leaving = Expressions::new()
            .source(R0)
            .within(R0, base, bits, false)
            .destination(R0)
            .within(R0, base, bits, true);
        batch.rule("postrouting", &leaving.masquerade());
    }

    fn difference(&self, now: &Tables, wanted: &Tables) -> Batch {
        let mut batch = Batch::new(&self.name);
        wanted.sizes.difference(&now.sizes).for_each(|&size| size_chain(&mut batch, size, false));
        wanted.near_sizes.difference(&now.near_sizes).for_each(|&size| size_chain(&mut batch, size, true));
        for &seconds in wanted.times.difference(&now.times) {
            time_chain(&mut batch, seconds);
        }
        for ((map, old), (_, new)) in maps(now).into_iter().zip(maps(wanted)) {
            let gone: Vec<Element> = old.difference(new).cloned().collect();
            let come: Vec<Element> = new.difference(old).cloned().collect();
            batch.remove(map, &gone).add(map, &come);
        }
        batch
    }
}

fn forget(moved: &Moved) {
    if moved.is_empty() {
        return;
    }
    if let Err(error) = conntrack::forget(|flow| moved.is_stale(flow)) {
        // New clients are led right; the others are when they are silent for a while.
        tracing::warn!(%error, "clients of whoever no longer stands behind a Service are not forgotten");
    }
}

fn maps(tables: &Tables) -> [(&'static str, &BTreeSet<Element>); 9] {
    [
        ("svc-ips", &tables.services),
        ("endpoints", &tables.endpoints),
        ("near", &tables.near),
        ("refused", &tables.refused),
        ("dropped", &tables.dropped),
        ("addresses", &tables.addresses),
        ("aff-svcs", &tables.sticky),
        ("kept", &tables.kept),
        ("hairpins", &tables.hairpins),
    ]
}

fn service_key(expressions: Expressions) -> Expressions {
    expressions.destination(R0).protocol(R1).destination_port(R2)
}

/// The chain for a number of endpoints. Chains that are no longer needed stay: they are few, and may be again.
fn size_chain(batch: &mut Batch, (count, sticky): (u32, bool), near: bool) {
    let name = chain(count, sticky, near);
    batch.chain(&name, None);
    if sticky {
        let known = Expressions::new().source(R0).destination(R1).protocol(R2).destination_port(R3);
        batch.rule(&name, &known.lookup("affinity", Some(R0)).translate());
    }
    let first = if near { NEAR } else { 0 };
    let chosen = service_key(Expressions::new()).random(first, count, R3).lookup("endpoints", Some(R0));
    batch.rule(&name, &chosen.translate());
}

fn time_chain(batch: &mut Batch, seconds: u32) {
    let name = affinity_chain(seconds);
    batch.chain(&name, None);
    let key = Expressions::new()
        .original_source(R0)
        .original_destination(R1)
        .protocol(R2)
        .original_destination_port(R3)
        .destination(R3 + 1)
        .destination_port(R3 + 2);
    batch.rule(&name, &key.remember("affinity", R3 + 1, u64::from(seconds) * 1000));
}

#[cfg(test)]
mod tests;
