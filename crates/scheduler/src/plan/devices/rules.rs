//! What must hold between the devices of one claim.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{
    Device, DeviceAttribute, DeviceConstraint, DeviceTaint, DeviceTaintRule, DeviceToleration,
};

/// A constraint, with the attributes of the devices that it was applied to.
#[derive(Debug)]
pub struct Rule<'c> {
    attribute: &'c str,
    /// All alike, or all different.
    is_match: bool,
    requests: &'c [String],
    seen: Vec<DeviceAttribute>,
}

/// A request's name, and that of the alternative that was taken.
pub type Names<'r> = (&'r str, Option<&'r str>);

impl<'c> Rule<'c> {
    /// `None` for a kind of constraint that is not known here.
    pub fn new(of: &'c DeviceConstraint) -> Option<Self> {
        let (attribute, is_match) = match (&of.match_attribute, &of.distinct_attribute) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) => return None,
        };
        let requests = of.requests.as_deref().unwrap_or_default();
        Some(Self { attribute, is_match, requests, seen: Vec::new() })
    }

    fn applies(&self, (request, sub): Names<'_>) -> bool {
        let is = |name: &String| {
            name == request
                || sub.is_some_and(|sub| name.split_once('/').is_some_and(|parts| parts == (request, sub)))
        };
        self.requests.is_empty() || self.requests.iter().any(is)
    }

    /// Whether a device may join the others; it then has.
    pub fn add(&mut self, names: Names<'_>, driver: &str, device: &Device) -> bool {
        if !self.applies(names) {
            return true;
        }
        let Some(found) = lookup(device, driver, self.attribute) else { return false };
        let is_same = |known: &DeviceAttribute| same(known, found);
        let fits = match self.is_match {
            true => self.seen.first().is_none_or(is_same),
            false => !self.seen.iter().any(is_same),
        };
        if fits {
            self.seen.push(found.clone());
        }
        fits
    }

    /// The device that was added last leaves.
    pub fn remove(&mut self, names: Names<'_>) {
        if self.applies(names) {
            self.seen.pop();
        }
    }
}

fn same(a: &DeviceAttribute, b: &DeviceAttribute) -> bool {
    let text = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    text(&a.string, &b.string)
        || text(&a.version, &b.version)
        || (a.int.is_some() && a.int == b.int)
        || (a.bool.is_some() && a.bool == b.bool)
}

/// By its full name, or without the domain when that is the driver's.
fn lookup<'d>(device: &'d Device, driver: &str, name: &str) -> Option<&'d DeviceAttribute> {
    let all: &BTreeMap<String, DeviceAttribute> = device.attributes.as_ref()?;
    all.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        if domain == driver { all.get(id) } else { None }
    })
}

/// Whether a rule that taints devices means this one. One without a selector means none, as the API says.
fn taints(rule: &DeviceTaintRule, driver: &str, pool: &str, device: &str) -> bool {
    let Some(selector) = &rule.spec.device_selector else { return false };
    let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
    is(&selector.driver, driver) && is(&selector.pool, pool) && is(&selector.device, device)
}

/// Whether a taint, its own or a rule's, keeps a device from a request that bears these.
pub fn keeps_away(
    rules: &[Arc<DeviceTaintRule>],
    (driver, pool): (&str, &str),
    device: &Device,
    tolerations: &[DeviceToleration],
) -> bool {
    let of_rules = rules.iter().filter(|rule| taints(rule, driver, pool, &device.name));
    let taints = device.taints.iter().flatten().chain(of_rules.map(|rule| &rule.spec.taint));
    let mut hard = taints.filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    hard.any(|taint| !tolerations.iter().any(|toleration| bears(toleration, taint)))
}

fn bears(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let or_any = |wanted: &Option<String>, is: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == is)
    };
    let value = |of: &Option<String>| of.clone().unwrap_or_default();
    or_any(&toleration.effect, &taint.effect)
        && or_any(&toleration.key, &taint.key)
        && match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => value(&toleration.value) == value(&taint.value),
            "Exists" => true,
            _ => false,
        }
}
