//! Claims stay as long as a pod uses them, and volumes as long as a claim has them: each has a finalizer, which goes with
//! the last use (`pvc-protection-controller`, `pv-protection-controller`).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;
use kube::api::{ListParams, ObjectMeta, PostParams};

use crate::answer::unless_gone;
use crate::context::Context;
use crate::ephemeral::plan::is_of;
use crate::view::{PodView, split};

/// The finalizer of claims.
pub const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
/// The finalizer of volumes.
pub const OF_VOLUMES: &str = "kubernetes.io/pv-protection";

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A claim, by namespace and name.
    Claim(String),
    /// A volume, by name.
    Volume(String),
}

/// What is to be done with a finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// It is missing: the object is older than those who set it at once.
    Add,
    /// It may go, if nobody uses the object.
    Remove,
}

fn holds(metadata: &ObjectMeta) -> Option<&'static str> {
    let of = |name: &&'static str| metadata.finalizers.iter().flatten().any(|own| own == name);
    [OF_CLAIMS, OF_VOLUMES].into_iter().find(|name| of(name))
}

/// What is to be done with an object's finalizer.
pub(super) fn wanted(metadata: &ObjectMeta) -> Option<Wanted> {
    match (holds(metadata).is_some(), metadata.deletion_timestamp.is_some()) {
        (true, true) => Some(Wanted::Remove),
        (false, false) => Some(Wanted::Add),
        _ => None,
    }
}

/// Whether anything is.
pub fn asks(metadata: &ObjectMeta) -> bool {
    wanted(metadata).is_some()
}

fn change(metadata: &mut ObjectMeta, finalizer: &str, wanted: Wanted) {
    let all = metadata.finalizers.get_or_insert_default();
    match wanted {
        Wanted::Add => all.push(finalizer.to_owned()),
        Wanted::Remove => all.retain(|own| own != finalizer),
    }
}

/// Looks at one claim or volume.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, key: Key) -> Result<Option<Duration>, kube::Error> {
    let copies = &context.informers.storage;
    match key {
        Key::Claim(key) => {
            let Some(claim) = copies.claims.get(&key) else { return Ok(None) };
            let Some(wanted) = wanted(&claim.metadata) else { return Ok(None) };
            if wanted == Wanted::Remove && is_used(context, &key, &claim).await? {
                return Ok(None);
            }
            let mut changed = (*claim).clone();
            change(&mut changed.metadata, OF_CLAIMS, wanted);
            let (namespace, name) = split(&key);
            let api: Api<PersistentVolumeClaim> =
                Api::namespaced(context.clients.claim_protection.clone(), namespace);
            unless_gone(api.replace(name, &PostParams::default(), &changed).await)?;
        }
        Key::Volume(name) => {
            let Some(volume) = copies.volumes.get(&name) else { return Ok(None) };
            let Some(wanted) = wanted(&volume.metadata) else { return Ok(None) };
            let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
            if wanted == Wanted::Remove && phase == Some("Bound") {
                return Ok(None);
            }
            let mut changed = (*volume).clone();
            change(&mut changed.metadata, OF_VOLUMES, wanted);
            let api: Api<PersistentVolume> = Api::all(context.clients.volume_protection.clone());
            unless_gone(api.replace(&name, &PostParams::default(), &changed).await)?;
        }
    }
    Ok(None)
}

/// Whether a pod uses a claim: by the copies, and where they know of none, by the server.
async fn is_used(
    context: &Arc<Context>,
    key: &str,
    claim: &PersistentVolumeClaim,
) -> Result<bool, kube::Error> {
    let known = context.informers.storage.users.of(key);
    if known.iter().filter_map(|pod| context.informers.pods.get(pod)).any(|pod| uses(&pod, claim)) {
        return Ok(true);
    }
    let (namespace, _) = split(key);
    let pods: Api<Pod> = Api::namespaced(context.clients.claim_protection.clone(), namespace);
    let all = pods.list(&ListParams::default()).await?;
    for pod in all.items {
        // One that cannot be read may use it.
        let pod: PodView =
            serde_json::to_value(pod).and_then(serde_json::from_value).map_err(kube::Error::SerdeError)?;
        if uses(&pod, claim) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a pod that is on a node uses a claim. One whose node has ended it needs what was made for it no more.
pub(super) fn uses(pod: &PodView, claim: &PersistentVolumeClaim) -> bool {
    let Some(name) = claim.metadata.name.as_ref().filter(|_| !pod.spec.node_name.is_empty()) else {
        return false;
    };
    pod.spec.volumes.named.contains(name)
        || (!pod.is_shut_down()
            && pod.spec.volumes.made.iter().any(|volume| pod.claim_of(volume) == *name)
            && is_of(claim, pod))
}
