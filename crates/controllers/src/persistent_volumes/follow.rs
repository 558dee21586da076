//! Which changes concern which claims and volumes.

use std::sync::Arc;

use base::TaskGroup;
use client::{Change, Informer, Resource, WorkQueue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::claim::{helps, is_pending};
use super::matching::{self, claim_ref};
use super::{Copies, Key, protection};
use crate::context::Queues;
use crate::view::{PodView, key};

/// Begins to follow claims, volumes and classes.
pub fn start_informers(client: &kube::Client, queues: &Queues, tasks: &TaskGroup) -> Copies {
    let core = |kind, plural| Resource::all("", "v1", kind, plural);
    let mut claims: Informer<PersistentVolumeClaim> =
        Informer::new(client.clone(), core("PersistentVolumeClaim", "persistentvolumeclaims"));
    let (binder, ephemeral) = (queues.persistent_volumes.clone(), queues.ephemeral_volumes.clone());
    let protected = queues.protection.clone();
    claims.on_change(move |change| follow_claim(change, &binder, &ephemeral, &protected));
    let claims = claims.start(tasks);

    let mut volumes: Informer<PersistentVolume> =
        Informer::new(client.clone(), core("PersistentVolume", "persistentvolumes"));
    let (binder, protected, waiting) =
        (queues.persistent_volumes.clone(), queues.protection.clone(), claims.clone());
    volumes.on_change(move |change| {
        let name = change.key().to_owned();
        match change {
            Change::Set { new: volume, .. } => {
                if protection::asks(&volume.metadata) {
                    protected.add(protection::Key::Volume(name.clone()));
                }
                binder.add(Key::Volume(name));
                claimant(volume).into_iter().for_each(|key| binder.add(Key::Claim(key)));
                // One that is somebody's helps nobody else.
                if claim_ref(volume).is_none() {
                    let concerned = waiting.list().into_iter().filter(|(_, claim)| helps(claim, volume));
                    concerned.for_each(|(key, _)| binder.add(Key::Claim(key)));
                }
            }
            Change::Removed { old: volume, .. } => {
                claimant(volume).into_iter().for_each(|key| binder.add(Key::Claim(key)));
            }
        }
    });

    let mut classes: Informer<StorageClass> = Informer::new(
        client.clone(),
        Resource::all("storage.k8s.io", "v1", "StorageClass", "storageclasses"),
    );
    let (binder, waiting) = (queues.persistent_volumes.clone(), claims.clone());
    classes.on_change(move |change| {
        let Change::Set { new: class, .. } = change else { return };
        let is_default = matching::is_default(&class.metadata);
        for (key, claim) in waiting.list().into_iter().filter(|(_, claim)| is_pending(claim)) {
            let named = matching::class_of_claim(&claim);
            if Some(named) == class.metadata.name.as_deref() || (named.is_empty() && is_default) {
                binder.add(Key::Claim(key));
            }
        }
    });
    Copies {
        claims,
        volumes: volumes.start(tasks),
        classes: classes.start(tasks),
        users: Arc::new(client::Index::default()),
    }
}

/// Whose a volume is, by namespace and name.
pub(super) fn claimant(volume: &PersistentVolume) -> Option<String> {
    let owner = claim_ref(volume)?;
    Some(key(owner.namespace.as_deref().unwrap_or_default(), owner.name.as_deref().unwrap_or_default()))
}

fn follow_claim(
    change: &Change<'_, PersistentVolumeClaim>,
    binder: &WorkQueue<Key>,
    ephemeral: &WorkQueue<String>,
    protected: &WorkQueue<protection::Key>,
) {
    match change {
        Change::Set { key, new: claim, .. } => {
            if protection::asks(&claim.metadata) {
                protected.add(protection::Key::Claim((*key).to_owned()));
            }
            binder.add(Key::Claim((*key).to_owned()));
        }
        Change::Removed { old: claim, .. } => {
            if let Some(volume) = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()) {
                binder.add(Key::Volume(volume));
            }
            // One that is gone may have to be made again, and one that was in the way may be gone.
            let namespace = claim.metadata.namespace.as_deref().unwrap_or_default();
            let owners = claim.metadata.owner_references.iter().flatten();
            for owner in owners.filter(|owner| owner.kind == "Pod") {
                ephemeral.add(key(namespace, &owner.name));
            }
        }
    }
}

/// What a change of a pod means for the claims that it uses.
pub fn follow_pod(
    users: &client::Index,
    protected: &WorkQueue<protection::Key>,
    pod_key: &str,
    pod: &PodView,
    is_removed: bool,
) {
    let claims = pod.claims();
    if claims.is_empty() {
        return;
    }
    if is_removed {
        users.remove(pod_key);
    } else {
        users.set(pod_key, claims.iter().cloned());
    }
    // Only these may let go of a claim.
    if is_removed || pod.is_finished() || pod.spec.node_name.is_empty() || pod.is_shut_down() {
        claims.into_iter().for_each(|claim| protected.add(protection::Key::Claim(claim)));
    }
}
