//! What has become of a claim: who still uses it, and whether anybody will. Pure.

use k8s_openapi::api::resource::v1::{ResourceClaim as Claim, ResourceClaimConsumerReference as Consumer};

use super::{FINALIZER, is_done, pod};
use crate::view::PodView;

/// What is to be done with a claim, in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// The status becomes another: those who still use it, and whether it keeps its devices.
    pub status: Option<(Vec<Consumer>, Keeps)>,
    /// It may go.
    pub release: bool,
    /// It was made for a pod that does not need it any more.
    pub delete: bool,
}

/// What becomes of a claim's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// They stay the claim's.
    Devices,
    /// They are anybody's.
    Nothing,
}

/// What is known of a user of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// It uses the claim, or is of a kind that nobody here knows.
    Stays,
    /// It is gone, another one of its name, or will not run any more.
    Gone,
    /// It is not known here; who is asked must be the API server.
    Unknown,
}

/// What is known of a user; `pod` is the one of its name.
pub fn user(consumer: &Consumer, pod: Option<&PodView>) -> User {
    if consumer.api_group.as_deref().is_some_and(|group| !group.is_empty()) || consumer.resource != "pods" {
        return User::Stays;
    }
    match pod {
        None => User::Unknown,
        Some(pod) if pod.metadata.uid != consumer.uid || is_done(pod) => User::Gone,
        Some(_) => User::Stays,
    }
}

/// What is to be done, when `remaining` use it and `owner` is the pod of its owner's name.
///
/// A claim gives its devices back as soon as its last user leaves; one that nobody has used yet keeps them.
pub fn plan(claim: &Claim, remaining: Vec<Consumer>, owner: Option<&PodView>) -> Plan {
    let status = claim.status.as_ref();
    let users = status.and_then(|status| status.reserved_for.as_ref()).map_or(0, Vec::len);
    let is_allocated = status.is_some_and(|status| status.allocation.is_some());
    let is_held = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
    let is_going = claim.metadata.deletion_timestamp.is_some();
    let is_unused = remaining.is_empty();
    let mut plan = Plan::default();
    if remaining.len() < users {
        let keeps = if is_unused && is_held { Keeps::Nothing } else { Keeps::Devices };
        plan.release = is_held && (keeps == Keeps::Nothing || !is_allocated);
        plan.status = Some((remaining, keeps));
    } else if is_held && is_going && is_unused {
        plan.status = is_allocated.then_some((remaining, Keeps::Nothing));
        plan.release = true;
    }
    let owned_by = pod::owner(claim).map(|(_, uid)| uid);
    let is_orphan =
        owner.is_some_and(|owner| Some(owner.metadata.uid.as_str()) != owned_by || is_done(owner));
    plan.delete = is_unused && owned_by.is_some() && is_orphan && !is_going;
    plan
}
