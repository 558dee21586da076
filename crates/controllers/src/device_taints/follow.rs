//! Follows what drivers publish and the rules that taint it: what each change makes worth a look.

use std::sync::Arc;

use base::TaskGroup;
use client::{Change, Index, Informer, Reflector, Resource, WorkQueue};
use k8s_openapi::api::resource::v1::{DeviceTaintRule, ResourceClaim as Claim, ResourceSlice};

use super::Key;
use super::plan::given;
use crate::context::Queues;
use crate::view::key;

/// The copies that this controller has for itself.
#[derive(Clone)]
pub struct Copies {
    /// What drivers publish. Older API servers have none.
    pub slices: Reflector<ResourceSlice>,
    /// Slices by driver and pool.
    pub pools: Arc<Index>,
    /// Rules that taint. API servers before v1.37 have none by default.
    pub rules: Reflector<DeviceTaintRule>,
}

/// The name of a pool in the index.
pub fn pool(driver: &str, name: &str) -> String {
    format!("{driver}/{name}")
}

/// The pods that use a claim.
pub fn users(claim: &Claim) -> Vec<Key> {
    let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
    let users = claim.status.as_ref().and_then(|status| status.reserved_for.as_ref()).into_iter().flatten();
    let pods = users
        .filter(|user| user.resource == "pods" && user.api_group.as_deref().unwrap_or_default().is_empty());
    pods.map(|user| Key::Pod(key(namespace, &user.name))).collect()
}

fn affected(queue: &WorkQueue<Key>, claims: &Reflector<Claim>, uses: impl Fn(&Claim) -> bool) {
    for (_, claim) in claims.list().iter().filter(|(_, claim)| uses(claim)) {
        users(claim).into_iter().for_each(|pod| queue.add(pod));
    }
}

fn evicts(slice: &ResourceSlice) -> bool {
    let mut taints = slice.spec.devices.iter().flatten().flat_map(|device| device.taints.iter().flatten());
    taints.any(|taint| taint.effect == "NoExecute")
}

/// Begins the informers of slices and rules.
pub fn start_informers(
    client: &kube::Client,
    queues: &Queues,
    claims: &Reflector<Claim>,
    tasks: &TaskGroup,
) -> Copies {
    let resource = |kind, plural| Resource::all("resource.k8s.io", "v1", kind, plural);
    let mut slices: Informer<ResourceSlice> =
        Informer::new(client.clone(), resource("ResourceSlice", "resourceslices"));
    let pools = Arc::new(Index::default());
    let index = pools.clone();
    slices.on_change(move |change| match change {
        Change::Set { key, new, .. } => index.set(key, [pool(&new.spec.driver, &new.spec.pool.name)]),
        Change::Removed { key, .. } => index.remove(key),
    });
    let (queue, known) = (queues.device_taints.clone(), claims.clone());
    slices.on_change(move |change| {
        let (slice, old) = match change {
            Change::Set { new, old, .. } => (*new, *old),
            Change::Removed { old, .. } => (*old, None),
        };
        // Another generation may take taints away that a slice had which is still there.
        let is_other = old.is_none_or(|old| old.spec.pool.generation != slice.spec.pool.generation);
        if is_other || evicts(slice) || old.is_some_and(|old| evicts(old)) {
            let of = (&slice.spec.driver, &slice.spec.pool.name);
            affected(&queue, &known, |claim| {
                given(claim).iter().any(|given| (&given.driver, &given.pool) == of)
            });
        }
    });
    let mut rules: Informer<DeviceTaintRule> =
        Informer::new(client.clone(), resource("DeviceTaintRule", "devicetaintrules"));
    let (queue, known) = (queues.device_taints.clone(), claims.clone());
    rules.on_change(move |change| {
        if let Change::Set { new, old: Some(old), .. } = change
            && new.spec == old.spec
            && new.metadata.uid == old.metadata.uid
        {
            return;
        }
        // First it is told what it is about to do.
        if let Change::Set { key, .. } = change {
            queue.add(Key::Rule((*key).to_owned()));
        }
        affected(&queue, &known, |claim| !given(claim).is_empty());
    });
    Copies { slices: slices.start(tasks), pools, rules: rules.start(tasks) }
}
