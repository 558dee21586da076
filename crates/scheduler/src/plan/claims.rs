//! Which claims of dynamic resources a pod needs, and whether it can have them at all (the first half of upstream's
//! `DynamicResources`). Pure.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::PodResourceClaim;
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceClass, ResourceClaim as Claim};

use super::devices::{Refusal, Site, World};
use super::extended::{ForNode, Special};
use crate::snapshot::Amounts;
use crate::view::PodView;

/// How many may use one claim.
const MOST_USERS: usize = 256;
/// What the first of several alternatives is worth.
const BEST: usize = 8;

/// What a pod needs of devices.
pub struct Needs<'a> {
    /// All devices.
    pub world: World<'a>,
    /// All claims of the pod, in its order.
    pub claims: Vec<Arc<Claim>>,
    /// The claim for its extended resources.
    pub special: Option<Special>,
    /// Claims (by their place) with devices that will not get ready.
    pub stuck: Vec<usize>,
}

/// What a node offers a pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offer {
    /// What claims get that have nothing yet, in the pod's order; the special claim's comes last.
    pub devices: Vec<AllocationResult>,
    /// What the special claim asks for here, if the pod needs one here.
    pub extended: Option<ForNode>,
}

/// `NAMESPACE/NAME`.
pub fn key(claim: &Claim) -> String {
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    format!("{}/{}", text(&claim.metadata.namespace), text(&claim.metadata.name))
}

/// The claim's UID.
pub fn uid(claim: &Claim) -> &str {
    claim.metadata.uid.as_deref().unwrap_or_default()
}

/// What it was given, if anything.
pub fn allocation(claim: &Claim) -> Option<&AllocationResult> {
    claim.status.as_ref()?.allocation.as_ref()
}

/// Whether a pod may use a claim.
pub fn is_reserved(claim: &Claim, pod: &PodView) -> bool {
    users(claim).any(|user| user == pod.metadata.uid)
}

/// UIDs of those who may use a claim.
pub fn users(claim: &Claim) -> impl Iterator<Item = &str> {
    let users = claim.status.as_ref().and_then(|status| status.reserved_for.as_ref());
    users.into_iter().flatten().map(|user| user.uid.as_str())
}

/// The name of a claim that a pod means, and whether it must be the pod's own; `None` when none is needed.
fn name(pod: &PodView, claim: &PodResourceClaim) -> Result<Option<(String, bool)>, String> {
    if let Some(name) = &claim.resource_claim_name {
        return Ok(Some((name.clone(), false)));
    }
    let found = pod.status.resource_claim_statuses.iter().find(|known| known.name == claim.name);
    match found {
        Some(found) => Ok(found.resource_claim_name.clone().map(|name| (name, true))),
        None => {
            let meta = &pod.metadata;
            Err(format!("pod \"{}/{}\": ResourceClaim not created yet", meta.namespace, meta.name))
        }
    }
}

/// The claims of a pod; `find` knows those of its namespace.
///
/// # Errors
/// Why the pod must wait for one, in upstream's words.
pub fn of_pod(pod: &PodView, find: impl Fn(&str) -> Option<Arc<Claim>>) -> Result<Vec<Arc<Claim>>, String> {
    let mut claims = Vec::new();
    for wanted in &pod.spec.resource_claims {
        let Some((name, is_own)) = name(pod, wanted)? else { continue };
        let found = find(&name);
        let found = found.ok_or_else(|| format!("resourceclaim.resource.k8s.io \"{name}\" not found"))?;
        if found.metadata.deletion_timestamp.is_some() {
            return Err(format!("resourceclaim {name:?} is being deleted"));
        }
        let mut owners = found.metadata.owner_references.iter().flatten();
        if is_own && !owners.any(|owner| owner.controller == Some(true) && owner.uid == pod.metadata.uid) {
            let meta = &pod.metadata;
            return Err(format!(
                "ResourceClaim {} was not created for pod {}/{} (pod is not owner)",
                key(&found),
                meta.namespace,
                meta.name
            ));
        }
        claims.push(found);
    }
    Ok(claims)
}

/// Whether any node may do.
///
/// # Errors
/// Why none does, in upstream's words.
pub fn check(
    pod: &PodView,
    claims: &[Arc<Claim>],
    is_pending: impl Fn(&str) -> bool,
    classes: &HashMap<String, Arc<DeviceClass>>,
) -> Result<(), String> {
    let known = |class: &str, request: &str| match classes.contains_key(class) {
        true => Ok(()),
        false => Err(format!("request {request}: device class {class} does not exist")),
    };
    for claim in claims {
        if allocation(claim).is_some() {
            if users(claim).count() >= MOST_USERS && !is_reserved(claim, pod) {
                return Err("resourceclaim in use".to_owned());
            }
            continue;
        }
        if is_pending(uid(claim)) {
            return Err(format!("resource claim {} is in the process of being allocated", key(claim)));
        }
        let devices = claim.spec.as_ref().and_then(|spec| spec.devices.as_ref());
        for request in devices.and_then(|devices| devices.requests.as_ref()).into_iter().flatten() {
            match (&request.exactly, request.first_available.as_deref().unwrap_or_default()) {
                (Some(exactly), _) => known(&exactly.device_class_name, &request.name)?,
                (None, []) => {
                    let (claim, request) = (key(claim), &request.name);
                    return Err(format!("resource claim {claim}, request {request}: unknown request type"));
                }
                (None, all) => {
                    for sub in all {
                        known(&sub.device_class_name, &format!("{}/{}", request.name, sub.name))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Claims that are in a pod's way on some node: they are allocated elsewhere, or have devices that do not get ready.
pub fn unavailable(needs: &Needs<'_>, node: Site<'_>) -> Vec<usize> {
    let is_elsewhere = |claim: &Claim| {
        let selector = allocation(claim).and_then(|allocation| allocation.node_selector.as_ref());
        selector.is_some_and(|selector| !node.is_in(selector))
    };
    let all = needs.claims.iter().enumerate();
    all.filter(|(at, claim)| is_elsewhere(claim) || needs.stuck.contains(at)).map(|(at, _)| at).collect()
}

/// What a pod's claims that have nothing yet would get on a node which has so much of its own.
///
/// # Errors
/// Why the node does not do.
pub fn on_node(
    needs: &Needs<'_>,
    pod: &PodView,
    asked: &Amounts,
    node: Site<'_>,
    allocatable: &Amounts,
) -> Result<Offer, Refusal> {
    let mut open: Vec<_> = needs.claims.iter().filter(|claim| allocation(claim).is_none()).cloned().collect();
    let extended = match &needs.special {
        None => None,
        // It is from an earlier attempt: what it was given then may not hold any more.
        Some(special) if special.is_made() => {
            return Err(Refusal::Node("cannot schedule extended resource claim".to_owned()));
        }
        Some(special) => special.on(pod, asked, allocatable).inspect(|found| {
            let mut claim = (*special.claim).clone();
            let spec = claim.spec.get_or_insert_default();
            spec.devices.get_or_insert_default().requests = Some(found.requests.clone());
            open.push(Arc::new(claim));
        }),
    };
    if !unavailable(needs, node).is_empty() {
        return Err(Refusal::Node("resourceclaim not available on the node".to_owned()));
    }
    if open.is_empty() {
        return Ok(Offer { devices: Vec::new(), extended });
    }
    let found = needs.world.allocate(node, &open)?;
    let devices = found.ok_or_else(|| Refusal::Node("cannot allocate all claims".to_owned()))?;
    Ok(Offer { devices, extended })
}

/// The claim that somebody else could have used elsewhere: nobody uses it but perhaps the pod, and it is in its way on
/// every node, so that it is better given anew (upstream's `PostFilter`).
pub fn to_free<'c>(pod: &PodView, claims: &'c [Arc<Claim>], blocking: &[usize]) -> Option<&'c Arc<Claim>> {
    let is_idle = |claim: &Claim| users(claim).all(|user| user == pod.metadata.uid);
    blocking.iter().filter_map(|at| claims.get(*at)).find(|claim| is_idle(claim))
}

/// How good what a node gives is: each request with alternatives counts by how early the one was that is there.
fn worth(claims: &[Arc<Claim>], given: &[AllocationResult]) -> usize {
    let mut given = given.iter();
    let of = |claim: &Arc<Claim>| {
        let Some(allocation) = allocation(claim).or_else(|| given.next()) else { return 0 };
        let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
        let taken: Vec<&str> = results.map(|result| result.request.as_str()).collect();
        let devices = claim.spec.as_ref().and_then(|spec| spec.devices.as_ref());
        let requests = devices.and_then(|devices| devices.requests.as_ref()).into_iter().flatten();
        let worths = requests.flat_map(|request| {
            let subs = request.first_available.iter().flatten().enumerate();
            let taken = &taken;
            subs.filter(move |(_, sub)| taken.contains(&format!("{}/{}", request.name, sub.name).as_str()))
                .map(|(at, _)| BEST.saturating_sub(at))
        });
        worths.sum::<usize>()
    };
    claims.iter().map(of).sum()
}

/// How good each node is by that: 0 to 100.
pub fn scores(claims: &[Arc<Claim>], given: &BTreeMap<String, Offer>) -> BTreeMap<String, i64> {
    let worths: BTreeMap<&String, usize> =
        given.iter().map(|(node, given)| (node, worth(claims, &given.devices))).collect();
    let most = worths.values().copied().max().unwrap_or_default();
    let score =
        |worth: usize| i64::try_from((worth * 100).checked_div(most).unwrap_or_default()).unwrap_or_default();
    worths.into_iter().map(|(node, worth)| (node.clone(), score(worth))).collect()
}

#[cfg(test)]
mod tests;
