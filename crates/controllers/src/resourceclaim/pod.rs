//! What a pod lacks of its claims. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodResourceClaim;
use k8s_openapi::api::resource::v1::{
    ResourceClaim as Claim, ResourceClaimConsumerReference as Consumer, ResourceClaimTemplate as Template,
};
use kube::api::ObjectMeta;

use super::{ANNOTATION, Named, named};
use crate::view::PodView;

/// Leaves room for five random characters in a name of 63.
const LONGEST_BASE: usize = 57;
/// How many may use one claim.
const MOST_USERS: usize = 256;

/// What is to be done about one of a pod's claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack<'p> {
    /// It was made before, but the pod does not say so.
    Untold { claim: &'p str, name: String },
    /// It is to be made from a template.
    Unmade { claim: &'p str, template: &'p str },
}

/// The claim's controlling owner, if that is a pod: name and UID.
pub fn owner(claim: &Claim) -> Option<(&str, &str)> {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    let owner = owners
        .find(|owner| owner.controller == Some(true) && owner.api_version == "v1" && owner.kind == "Pod")?;
    Some((&owner.name, &owner.uid))
}

/// Whether a claim was made for this pod.
pub fn is_of(claim: &Claim, pod: &PodView) -> bool {
    owner(claim).is_some_and(|(_, uid)| uid == pod.metadata.uid)
}

/// What a pod lacks, in the order of its claims; `claims` are all of its namespace.
pub fn lacks<'p>(pod: &'p PodView, claims: &[Arc<Claim>]) -> Vec<Lack<'p>> {
    let of = |claim: &'p PodResourceClaim| {
        let template = claim.resource_claim_template_name.as_deref()?;
        match named(pod, claim) {
            Named::Unneeded => return None,
            Named::Claim { name, .. } => {
                let found = claims.iter().find(|known| known.metadata.name.as_deref() == Some(name));
                if found.is_some_and(|found| is_of(found, pod)) {
                    return None;
                }
            }
            Named::Unmade => {}
        }
        let told_for = |known: &Claim| {
            let annotations = known.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(ANNOTATION)).is_some_and(|name| *name == claim.name)
        };
        let made = claims.iter().find(|known| is_of(known, pod) && told_for(known));
        Some(match made.and_then(|made| made.metadata.name.clone()) {
            Some(name) => Lack::Untold { claim: &claim.name, name },
            None => Lack::Unmade { claim: &claim.name, template },
        })
    };
    pod.spec.resource_claims.iter().filter_map(of).collect()
}

/// What is added to the pod's status when claims were found or made: by the pod's name for each, the claim's.
pub fn statuses(new: &BTreeMap<String, String>) -> serde_json::Value {
    new.iter().map(|(name, claim)| serde_json::json!({"name": name, "resourceClaimName": claim})).collect()
}

/// The claim that a template makes for a pod; its name is generated.
pub fn made(pod: &PodView, claim: &str, template: &Template) -> Claim {
    let template = template.spec.clone().unwrap_or_default();
    let wanted = template.metadata.unwrap_or_default();
    let mut annotations = wanted.annotations.unwrap_or_default();
    annotations.insert(ANNOTATION.to_owned(), claim.to_owned());
    let owner = pod.as_owner(None);
    Claim {
        metadata: ObjectMeta {
            generate_name: Some(base(&pod.metadata.name, claim)),
            namespace: Some(pod.metadata.namespace.clone()),
            labels: wanted.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.unwrap_or_default()),
        status: None,
    }
}

/// What a generated name begins with: when both names do not fit, each is cut as much as its part in the length.
fn base(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= LONGEST_BASE {
        return whole;
    }
    let pod = pod.get(..pod.len() * LONGEST_BASE / whole.len()).unwrap_or(pod);
    let claim = claim.get(..claim.len() * LONGEST_BASE / whole.len()).unwrap_or(claim);
    format!("{pod}-{claim}")
}

/// Allocated claims that a pod on a node uses and that do not say so: it came there past the scheduler.
pub fn unreserved<'c>(pod: &PodView, claims: &'c [Arc<Claim>]) -> Vec<(&'c Claim, Consumer)> {
    if pod.spec.node_name.is_empty() || super::is_done(pod) {
        return Vec::new();
    }
    let of = |claim: &PodResourceClaim| {
        let Named::Claim { name, is_generated } = named(pod, claim) else { return None };
        let found = claims.iter().find(|known| known.metadata.name.as_deref() == Some(name))?;
        let status = found.status.as_ref()?;
        let users = status.reserved_for.as_deref().unwrap_or_default();
        let is_reserved = users.iter().any(|user| user.uid == pod.metadata.uid);
        let is_foreign = is_generated && !is_of(found, pod);
        if status.allocation.is_none() || is_reserved || is_foreign || users.len() >= MOST_USERS {
            return None;
        }
        Some((found.as_ref(), consumer(pod)))
    };
    pod.spec.resource_claims.iter().filter_map(of).collect()
}

fn consumer(pod: &PodView) -> Consumer {
    Consumer {
        api_group: None,
        resource: "pods".to_owned(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    }
}
