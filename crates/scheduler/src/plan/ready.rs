//! Devices that must be made ready before their pod may go to its node (KEP-5007). Pure.

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{
    AllocatedDeviceStatus, DeviceRequestAllocationResult as Given, ResourceClaim as Claim,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::claims::allocation;

/// How far devices are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// The pod may go there.
    Ready,
    /// It must wait.
    Waiting,
    /// It will not get them; in upstream's words.
    Failed(String),
}

fn given(claim: &Claim) -> impl Iterator<Item = &Given> {
    let devices = allocation(claim).and_then(|allocation| allocation.devices.as_ref());
    devices.and_then(|devices| devices.results.as_ref()).into_iter().flatten()
}

fn conditions(of: &Option<Vec<String>>) -> &[String] {
    of.as_deref().unwrap_or_default()
}

fn status<'c>(claim: &'c Claim, given: &Given) -> Option<&'c AllocatedDeviceStatus> {
    let all = claim.status.as_ref().and_then(|status| status.devices.as_ref())?;
    all.iter().find(|status| {
        (&status.device, &status.driver, &status.pool) == (&given.device, &given.driver, &given.pool)
    })
}

fn holds<'s>(status: &'s AllocatedDeviceStatus, name: &str) -> Option<&'s Condition> {
    let all = status.conditions.iter().flatten();
    all.into_iter().find(|condition| condition.type_ == name && condition.status == "True")
}

/// Drivers of devices that have such conditions, one for each device.
pub fn drivers(claim: &Claim) -> impl Iterator<Item = &str> {
    given(claim)
        .filter(|given| !conditions(&given.binding_conditions).is_empty())
        .map(|given| given.driver.as_str())
}

/// Drivers of all devices of a claim, one for each device.
pub fn all_drivers(claim: &Claim) -> impl Iterator<Item = &str> {
    given(claim).map(|given| given.driver.as_str())
}

/// How far the devices of a claim are; one that has nothing waits for some.
pub fn readiness(claim: &Claim) -> Readiness {
    if allocation(claim).is_none() {
        return Readiness::Waiting;
    }
    for given in given(claim) {
        let needed = conditions(&given.binding_conditions);
        if needed.is_empty() {
            continue;
        }
        let Some(status) = status(claim, given) else { return Readiness::Waiting };
        let mut failures = conditions(&given.binding_failure_conditions).iter();
        if let Some(failed) = failures.find_map(|name| holds(status, name)) {
            return Readiness::Failed(format!(
                "device binding failed: claim={}, reason={}, message={:?}",
                claim.metadata.name.as_deref().unwrap_or_default(),
                failed.reason,
                failed.message
            ));
        }
        if !needed.iter().all(|name| holds(status, name).is_some()) {
            return Readiness::Waiting;
        }
    }
    Readiness::Ready
}

/// Whether a claim's devices have been awaited for too long.
pub fn is_late(claim: &Claim, now: Timestamp, patience: std::time::Duration) -> bool {
    let since = allocation(claim).and_then(|allocation| allocation.allocation_timestamp.as_ref());
    let Some(since) = since else { return false };
    let is_over = now.duration_since(since.0).unsigned_abs() > patience && now > since.0;
    is_over && given(claim).any(|given| given.binding_conditions.is_some())
}

/// Claims (by their place) whose devices will not get ready.
pub fn stuck(claims: &[std::sync::Arc<Claim>], now: Timestamp, patience: std::time::Duration) -> Vec<usize> {
    let is_stuck = |claim: &Claim| {
        allocation(claim).is_some()
            && match readiness(claim) {
                Readiness::Ready => false,
                Readiness::Waiting => is_late(claim, now, patience),
                Readiness::Failed(_) => true,
            }
    };
    claims.iter().enumerate().filter(|(_, claim)| is_stuck(claim)).map(|(at, _)| at).collect()
}

#[cfg(test)]
mod tests;
