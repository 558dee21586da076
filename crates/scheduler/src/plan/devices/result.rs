//! Writes down what a claim gets.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::search::{Claim, Given, Search};

/// The allocation of one claim.
pub fn of(search: &Search<'_>, claim: &Claim<'_>) -> AllocationResult {
    let results: Vec<_> = claim.given.iter().filter_map(|given| device(search, claim, given)).collect();
    let config = config(claim);
    let devices = DeviceAllocationResult {
        config: Some(config).filter(|config| !config.is_empty()),
        results: Some(results).filter(|results| !results.is_empty()),
    };
    AllocationResult {
        allocation_timestamp: None,
        devices: Some(devices),
        node_selector: selector(search, claim),
    }
}

fn device(search: &Search<'_>, claim: &Claim<'_>, given: &Given) -> Option<DeviceRequestAllocationResult> {
    let (pool, _, device) = search.device(given.place)?;
    let request = claim.requests.get(given.request)?;
    let wanted = request.alternatives.get(given.alternative)?;
    let consumed = given.share.as_ref().filter(|share| !share.is_empty()).map(|share| {
        let amounts = share.iter().map(|(name, amount)| (name.clone(), Text(amount.to_string())));
        amounts.collect::<BTreeMap<_, _>>()
    });
    Some(DeviceRequestAllocationResult {
        request: wanted.full_name(request.name),
        driver: pool.driver.clone(),
        pool: pool.name.clone(),
        device: device.name.clone(),
        admin_access: wanted.is_admin.then_some(true),
        tolerations: Some(wanted.tolerations.to_vec()).filter(|tolerations| !tolerations.is_empty()),
        share_id: given.share.as_ref().map(|_| String::new()),
        consumed_capacity: consumed,
        binding_conditions: device.binding_conditions.clone(),
        binding_failure_conditions: device.binding_failure_conditions.clone(),
        ..DeviceRequestAllocationResult::default()
    })
}

/// What drivers are told: first what the classes say, each once with all its requests, then what the claim says.
fn config(claim: &Claim<'_>) -> Vec<DeviceAllocationConfiguration> {
    let mut all: Vec<DeviceAllocationConfiguration> = Vec::new();
    let mut known: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let taken = |request: usize| {
        let given = claim.given.iter().find(|given| given.request == request);
        given.map_or(0, |given| given.alternative)
    };
    let mut names = Vec::new();
    for (number, request) in claim.requests.iter().enumerate() {
        let Some(wanted) = request.alternatives.get(taken(number)) else { continue };
        let name = wanted.full_name(request.name);
        names.push((request.name, name.clone()));
        let class = wanted.class.metadata.name.as_deref().unwrap_or_default();
        if let Some((first, last)) = known.get(class) {
            let there = all.iter_mut().skip(*first).take(last - first);
            there.for_each(|config| config.requests.get_or_insert_default().push(name.clone()));
            continue;
        }
        let first = all.len();
        let configs = wanted.class.spec.as_ref().and_then(|spec| spec.config.as_ref());
        all.extend(configs.into_iter().flatten().map(|config| DeviceAllocationConfiguration {
            source: "FromClass".to_owned(),
            requests: Some(vec![name.clone()]),
            opaque: config.opaque.clone(),
        }));
        known.insert(class, (first, all.len()));
    }
    let devices = claim.object.spec.as_ref().and_then(|spec| spec.devices.as_ref());
    for config in devices.and_then(|devices| devices.config.as_ref()).into_iter().flatten() {
        let wanted = config.requests.as_deref().unwrap_or_default();
        let means = |(request, full): &(&str, String)| {
            wanted.iter().any(|wanted| wanted == request || wanted == full)
        };
        let times = if wanted.is_empty() { 1 } else { names.iter().filter(|name| means(name)).count() };
        all.extend((0..times).map(|_| DeviceAllocationConfiguration {
            source: "FromClaim".to_owned(),
            requests: config.requests.clone(),
            opaque: config.opaque.clone(),
        }));
    }
    all
}

/// On which nodes the devices can be used; `None` for everywhere.
fn selector(search: &Search<'_>, claim: &Claim<'_>) -> Option<NodeSelector> {
    let (mut fields, mut labels) = (Vec::new(), Vec::new());
    for given in &claim.given {
        let Some((_, slice, device)) = search.device(given.place) else { continue };
        let (name, selector) = match slice.spec.per_device_node_selection {
            Some(true) => (&device.node_name, &device.node_selector),
            _ => (&slice.spec.node_name, &slice.spec.node_selector),
        };
        if name.as_deref().is_some_and(|name| !name.is_empty()) || device.binds_to_node == Some(true) {
            let only = NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![search.node.name.to_owned()]),
            };
            return Some(of_term(vec![only], Vec::new()));
        }
        if let Some(term) = selector.as_ref().and_then(|selector| selector.node_selector_terms.first()) {
            add(&mut fields, term.match_fields.as_deref().unwrap_or_default());
            add(&mut labels, term.match_expressions.as_deref().unwrap_or_default());
        }
    }
    (!fields.is_empty() || !labels.is_empty()).then(|| of_term(fields, labels))
}

fn of_term(fields: Vec<NodeSelectorRequirement>, labels: Vec<NodeSelectorRequirement>) -> NodeSelector {
    NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_fields: Some(fields).filter(|fields| !fields.is_empty()),
            match_expressions: Some(labels).filter(|labels| !labels.is_empty()),
        }],
    }
}

fn add(all: &mut Vec<NodeSelectorRequirement>, more: &[NodeSelectorRequirement]) {
    let sorted = |of: &NodeSelectorRequirement| {
        let mut values = of.values.clone().unwrap_or_default();
        values.sort();
        values
    };
    for requirement in more {
        let is_same = |known: &NodeSelectorRequirement| {
            known.key == requirement.key
                && known.operator == requirement.operator
                && sorted(known) == sorted(requirement)
        };
        if !all.iter().any(is_same) {
            all.push(requirement.clone());
        }
    }
}
