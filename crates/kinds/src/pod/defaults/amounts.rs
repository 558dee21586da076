//! Requests that follow from limits, and amounts that are finer than a thousandth.

use schema::quantity::Quantity;
use schema::{Map, Object, Value};

use super::super::resources::{container_limits, container_requests, pod_level as may_be_pod_level};
use super::super::validate::read::{amounts, entries, items, sub};
use super::super::validate::resources::{is_huge, may_overcommit};
use crate::edit::made;

/// What a container is limited to, it is promised.
pub(super) fn requests_from_limits(container: &mut Object) {
    let Some(Value::Map(limits)) = container.at(&["resources", "limits"]) else { return };
    let limits = limits.clone();
    made(container, "resources", |resources| add(resources, "requests", &limits));
}

fn add(resources: &mut Object, field: &str, amounts: &Map) {
    let Some(map) = resources.map_mut(field) else { return };
    for (name, amount) in amounts.iter() {
        if !map.contains_key(name) {
            map.insert(name, amount.clone());
        }
    }
}

/// A pod that says part of what it needs as a whole gets the rest from its containers (KEP-2837).
pub(in crate::pod) fn pod_level(spec: &mut Object) {
    let Some(own) = sub(spec, "resources") else { return };
    let is_set = |own: &Object, field: &str| entries(own, field).next().is_some();
    if !is_set(own, "limits") && !is_set(own, "requests") {
        return;
    }
    let huge: Map = container_limits(spec)
        .into_iter()
        .filter(|(name, _)| is_huge(name) && own.at(&["requests", name]).is_none())
        .map(|(name, amount)| (name, Value::Str(amount.to_string())))
        .fold(Map::new(), collect);
    if !huge.is_empty() {
        made(spec, "resources", |own| add(own, "limits", &huge));
    }
    let mut requests: Map = container_requests(spec)
        .into_iter()
        .filter(|(name, _)| may_be_pod_level(name) && may_overcommit(name))
        .map(|(name, amount)| (name, Value::Str(amount.to_string())))
        .fold(Map::new(), collect);
    let limits = sub(spec, "resources").and_then(|own| own.map_at(&["limits"]));
    for (name, amount) in limits.into_iter().flat_map(Map::iter).filter(|(name, _)| may_be_pod_level(name)) {
        if !requests.contains_key(name) {
            requests.insert(name, amount.clone());
        }
    }
    if !requests.is_empty() {
        made(spec, "resources", |own| add(own, "requests", &requests));
    }
    limits_from_containers(spec);
}

/// A pod whose containers are all limited is limited to what they are together, and to no less than it is promised.
fn limits_from_containers(spec: &mut Object) {
    let Some(own) = sub(spec, "resources") else { return };
    let all_limited = |name: &str| {
        ["containers", "initContainers"]
            .iter()
            .flat_map(|list| items(spec, list))
            .all(|container| container.at(&["resources", "limits", name]).is_some())
    };
    let together = container_limits(spec);
    let mut limits = Map::new();
    for (name, request) in amounts(own, "requests").filter(|(name, _)| may_be_pod_level(name)) {
        let Some(sum) = together.get(name) else { continue };
        if own.at(&["limits", name]).is_none() && all_limited(name) {
            limits.insert(name, Value::Str(request.max(sum.clone()).to_string()));
        }
    }
    if !limits.is_empty() {
        made(spec, "resources", |own| add(own, "limits", &limits));
    }
}

fn collect(mut map: Map, (name, amount): (String, Value)) -> Map {
    map.insert(name, amount);
    map
}

/// Rounds requests and limits.
pub(super) fn round_requirements(resources: &mut Object) {
    round(resources, "limits");
    round(resources, "requests");
}

/// Amounts are kept to the thousandth, rounded up.
pub(crate) fn round(object: &mut Object, field: &str) {
    let Some(Value::Map(map)) = object.get_mut(field) else { return };
    for (_, value) in map.iter_mut() {
        let Value::Str(text) = value else { continue };
        // Whole amounts, which nearly all are, need no look at their value.
        if !text.ends_with(['n', 'u']) && !text.contains(['.', 'e', 'E']) {
            continue;
        }
        let Ok(exact) = text.parse::<Quantity>() else { continue };
        // What is larger than a count of thousandths can be has none of their parts.
        if exact.milli() == i64::MAX {
            continue;
        }
        let rounded = Quantity::from_milli(exact.milli(), exact.format());
        if rounded != exact {
            *text = rounded.to_string();
        }
    }
}
