//! Claims of dynamic resources (KEP-4381): made from templates for the pods that want them, taken from pods that do not
//! need them any more, and deallocated once nobody uses them.
//!
//! `pod` says what a pod lacks, `claim` what has become of a claim (both pure); `run` does it. Who gets which device is
//! the scheduler's.

mod claim;
mod follow;
mod pod;
mod run;

pub use follow::start_informers;
pub(crate) use pod::is_of as owns;
pub use run::{Key, ResourceClaims};

use k8s_openapi::api::core::v1::PodResourceClaim;

use crate::view::PodView;

/// Which claim of its pod a claim was made for.
const ANNOTATION: &str = "resource.kubernetes.io/pod-claim-name";
/// Keeps allocated claims from going.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// The claim that a pod means by one of its own names for claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named<'p> {
    /// This one; a generated one must be the pod's own.
    Claim { name: &'p str, is_generated: bool },
    /// None is needed.
    Unneeded,
    /// It is still to be made.
    Unmade,
}

pub(crate) fn named<'p>(pod: &'p PodView, claim: &'p PodResourceClaim) -> Named<'p> {
    if let Some(name) = &claim.resource_claim_name {
        return Named::Claim { name, is_generated: false };
    }
    match pod.status.resource_claim_statuses.iter().find(|known| known.name == claim.name) {
        None => Named::Unmade,
        Some(known) => match &known.resource_claim_name {
            Some(name) => Named::Claim { name, is_generated: true },
            None => Named::Unneeded,
        },
    }
}

/// What a pod names of claims and templates, for an index of pods: `claim/NAMESPACE/NAME`, `template/NAMESPACE/NAME`.
pub(crate) fn names(pod: &PodView) -> Vec<String> {
    let namespace = &pod.metadata.namespace;
    let of = |claim: &PodResourceClaim| {
        let claimed = match named(pod, claim) {
            Named::Claim { name, is_generated: false } => Some(claim_name(namespace, name)),
            _ => None,
        };
        let template = claim.resource_claim_template_name.as_deref();
        claimed.into_iter().chain(template.map(|name| template_name(namespace, name))).collect::<Vec<_>>()
    };
    pod.spec.resource_claims.iter().flat_map(of).collect()
}

fn claim_name(namespace: &str, name: &str) -> String {
    format!("claim/{namespace}/{name}")
}

fn template_name(namespace: &str, name: &str) -> String {
    format!("template/{namespace}/{name}")
}

/// Whether a pod neither runs nor will.
fn is_done(pod: &PodView) -> bool {
    pod.is_finished() || (pod.metadata.deletion_timestamp.is_some() && pod.spec.node_name.is_empty())
}

/// What is to be looked at when a pod changes or is gone.
pub fn keys(pod: &PodView, gone: bool) -> Vec<Key> {
    let extended = &pod.status.extended_resource_claim_status;
    if pod.spec.resource_claims.is_empty() && extended.is_none() {
        return Vec::new();
    }
    let key = |name: &str| crate::view::key(&pod.metadata.namespace, name);
    let mut keys = Vec::new();
    if gone || is_done(pod) {
        let names = pod.spec.resource_claims.iter().filter_map(|claim| match named(pod, claim) {
            Named::Claim { name, .. } => Some(name),
            Named::Unneeded | Named::Unmade => None,
        });
        keys.extend(names.map(|name| Key::Claim(key(name))));
        keys.extend(extended.iter().map(|made| Key::Claim(key(&made.resource_claim_name))));
    }
    if gone || pod.metadata.deletion_timestamp.is_none() {
        keys.push(Key::Pod(key(&pod.metadata.name)));
    }
    keys
}

#[cfg(test)]
mod tests;
