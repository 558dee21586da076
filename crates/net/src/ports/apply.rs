//! Writes the tables of both families, each as one transaction.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::plan::{Record, Tables, plan};
use crate::error::{NetError, Result};
use crate::nft::expr::{Expressions, R0};
use crate::nft::{Batch, Element, Family, Hook, MapSpec, Socket};

const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
const LOOPBACK: u32 = 0x7f00_0000;

/// What differs between the families.
#[derive(Clone, Copy)]
struct Shape {
    family: Family,
    /// The type of an address, its bytes, and how many registers it fills.
    kind: u32,
    bytes: u32,
    registers: u32,
}

const SHAPES: [Shape; 2] = [
    Shape { family: Family::V4, kind: 7, bytes: 4, registers: 1 },
    Shape { family: Family::V6, kind: 8, bytes: 16, registers: 4 },
];

fn concat(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, kind| (all << 6) | kind)
}

impl Shape {
    fn destination(self, from: Expressions, to: u32) -> Expressions {
        if self.family == Family::V4 { from.destination(to) } else { from.destination_v6(to) }
    }

    fn source(self, from: Expressions, to: u32) -> Expressions {
        if self.family == Family::V4 { from.source(to) } else { from.source_v6(to) }
    }

    /// Address, protocol and port of where a packet goes.
    fn whole(self, from: Expressions) -> Expressions {
        self.destination(from, R0).protocol(R0 + self.registers).destination_port(R0 + self.registers + 1)
    }
}

/// Makes both tables hold what the records say. A port without an address is not on those of `reserved`, which are the
/// cluster's and not the node's.
pub fn write(table: &str, records: &[Record], reserved: &[IpAddr]) -> Result<()> {
    let failed = |error: crate::nft::NftError| NetError::Other(format!("host ports: {error}"));
    let socket = Socket::open().map_err(failed)?;
    for shape in SHAPES {
        let wanted = plan(records, reserved, shape.family);
        let mut batch = Batch::of(shape.family, table);
        // Made so that it can be removed, whatever was there.
        batch.table().delete_table();
        if !wanted.is_empty() {
            everything(&mut batch, shape, &wanted);
        }
        match socket.commit(&batch) {
            // A kernel without IPv6 has no table to remove.
            Err(_) if shape.family == Family::V6 && wanted.is_empty() => {}
            done => done.map_err(failed)?,
        }
    }
    Ok(())
}

fn everything(batch: &mut Batch, shape: Shape, wanted: &Tables) {
    batch.table();
    let to = Some(Some((concat(&[shape.kind, PORT]), shape.bytes + 4)));
    let whole = concat(&[shape.kind, PROTOCOL, PORT]);
    let spec = |key_type, key_len, data| MapSpec { key_type, key_len, data, dynamic: None };
    batch.map("any", spec(concat(&[PROTOCOL, PORT]), 8, to));
    batch.map("one", spec(whole, shape.bytes + 8, to));
    batch.map("reserved", spec(shape.kind, shape.bytes, None));
    batch.map("targets", spec(whole, shape.bytes + 8, None));
    batch.map("hairpins", spec(concat(&[shape.kind, shape.kind]), shape.bytes * 2, None));
    let nat = |number, priority| Some(Hook { number, priority, kind: "nat" });
    for (name, number) in [("prerouting", 0), ("output", 3)] {
        batch.chain(name, nat(number, -100));
        let one = shape.whole(Expressions::new()).lookup("one", Some(R0));
        batch.rule(name, &one.translate_in(shape.family));
        let others = shape.destination(Expressions::new(), R0).lookup("reserved", None);
        batch.rule(name, &others.leave());
        let any = Expressions::new().to_this_machine().protocol(R0).destination_port(R0 + 1);
        batch.rule(name, &any.lookup("any", Some(R0)).translate_in(shape.family));
    }
    // Before the chains of Services, which hide every client from outside.
    batch.chain("postrouting", nat(4, 95));
    let both = shape.source(Expressions::new().translated(), R0);
    let both = shape.destination(both, R0 + shape.registers);
    batch.rule("postrouting", &both.lookup("hairpins", None).masquerade());
    if shape.family == Family::V4 {
        // A pod cannot answer to a loopback that is not its own.
        let local = Expressions::new().translated().source(R0).within(R0, LOOPBACK, 8, false);
        batch.rule("postrouting", &local.masquerade());
        // Links of pods with ports take packets for the loopback: only from us, who translate them.
        batch.chain("guard", Some(Hook { number: 0, priority: -300, kind: "filter" }));
        let strange = Expressions::new().from_outside().destination(R0).within(R0, LOOPBACK, 8, false);
        batch.rule("guard", &strange.drop());
    }
    let ours = shape.whole(Expressions::new().translated()).lookup("targets", None);
    batch.rule("postrouting", &shape.source(ours, R0).keep_source(shape.family));
    let list = |set: &BTreeSet<Element>| set.iter().cloned().collect::<Vec<_>>();
    batch.add("reserved", &list(&wanted.reserved));
    batch.add("any", &list(&wanted.any)).add("one", &list(&wanted.one));
    batch.add("targets", &list(&wanted.targets)).add("hairpins", &list(&wanted.hairpins));
}
