//! When a pod must leave its devices, and why. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::resource::v1::{
    Device, DeviceRequestAllocationResult as Given, DeviceTaint, DeviceTaintRule as Rule, DeviceToleration,
    ResourceClaim as Claim, ResourceSlice,
};

use crate::resourceclaim::{Named, named, owns};
use crate::view::PodView;

/// That a pod must go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// From then on.
    pub when: Timestamp,
    /// UIDs of the rules that are among the reasons.
    pub rules: BTreeSet<String>,
}

impl Eviction {
    fn join(self, other: Self) -> Self {
        Self { when: self.when.min(other.when), rules: &self.rules | &other.rules }
    }
}

/// What is known of devices.
pub struct Known<'k> {
    /// The slices of a pool, by driver and name.
    pub pool: &'k dyn Fn(&str, &str) -> Vec<Arc<ResourceSlice>>,
    /// All rules.
    pub rules: &'k [Arc<Rule>],
}

/// A rule's UID.
pub fn uid(rule: &Rule) -> &str {
    rule.metadata.uid.as_deref().unwrap_or_default()
}

/// The devices that a claim has.
pub fn given(claim: &Claim) -> &[Given] {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    let devices = allocation.and_then(|allocation| allocation.devices.as_ref());
    devices.and_then(|devices| devices.results.as_deref()).unwrap_or_default()
}

/// Whether a rule means a device; without a selector it means none.
pub fn selects(rule: &Rule, driver: &str, pool: &str, device: &str) -> bool {
    let Some(selector) = &rule.spec.device_selector else { return false };
    let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
    is(&selector.driver, driver) && is(&selector.pool, pool) && is(&selector.device, device)
}

/// The slices of a pool that count: those of its newest generation.
pub fn newest(slices: &[Arc<ResourceSlice>]) -> impl Iterator<Item = &Arc<ResourceSlice>> {
    let newest = slices.iter().map(|slice| slice.spec.pool.generation).max();
    slices.iter().filter(move |slice| Some(slice.spec.pool.generation) == newest)
}

/// The devices of a pool.
pub fn devices(slices: &[Arc<ResourceSlice>]) -> impl Iterator<Item = &Device> {
    newest(slices).flat_map(|slice| slice.spec.devices.iter().flatten())
}

fn bears(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let or_any = |wanted: &Option<String>, is: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == is)
    };
    or_any(&toleration.effect, &taint.effect)
        && or_any(&toleration.key, &taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => {
                toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
            }
            "Exists" => true,
            _ => false,
        }
}

/// Until when a device is borne with a taint; `None` for as long as one likes.
fn until(given: &Given, taint: &DeviceTaint) -> Option<Timestamp> {
    let since = taint.time_added.as_ref()?.0;
    let mut least = None;
    for toleration in given.tolerations.iter().flatten().filter(|toleration| bears(toleration, taint)) {
        let seconds = toleration.toleration_seconds?.max(0);
        least = Some(least.map_or(seconds, |known: i64| known.min(seconds)));
    }
    let pause = SignedDuration::from_secs(least.unwrap_or_default());
    Some(since.checked_add(pause).unwrap_or(Timestamp::MAX))
}

/// When those who use a claim must go.
pub fn of_claim(claim: &Claim, known: &Known<'_>) -> Option<Eviction> {
    let mut all = None::<Eviction>;
    for given in given(claim) {
        let slices = (known.pool)(&given.driver, &given.pool);
        let device = devices(&slices).find(|device| device.name == given.device);
        let own = device.into_iter().flat_map(|device| device.taints.iter().flatten());
        let own = own.map(|taint| (taint, BTreeSet::new()));
        let meant =
            known.rules.iter().filter(|rule| selects(rule, &given.driver, &given.pool, &given.device));
        let ruled = meant.map(|rule| (&rule.spec.taint, BTreeSet::from([uid(rule).to_owned()])));
        for (taint, rules) in own.chain(ruled).filter(|(taint, _)| taint.effect == "NoExecute") {
            let Some(when) = until(given, taint) else { continue };
            let this = Eviction { when, rules };
            all = Some(match all {
                Some(known) => known.join(this),
                None => this,
            });
        }
    }
    all
}

/// When a pod must go; `find` knows the claims of its namespace.
pub fn of_pod(
    pod: &PodView,
    find: impl Fn(&str) -> Option<Arc<Claim>>,
    known: &Known<'_>,
) -> Option<Eviction> {
    if pod.spec.node_name.is_empty() {
        return None;
    }
    let of = |claim| {
        let Named::Claim { name, is_generated } = named(pod, claim) else { return None };
        let found = find(name).filter(|found| !is_generated || owns(found, pod))?;
        let users = found.status.as_ref().and_then(|status| status.reserved_for.as_deref());
        let is_user = users.unwrap_or_default().iter().any(|user| user.uid == pod.metadata.uid);
        if is_user { of_claim(&found, known) } else { None }
    };
    pod.spec.resource_claims.iter().filter_map(of).reduce(Eviction::join)
}
