//! What pods need.

use std::collections::BTreeMap;

use schema::quantity::Quantity;

use crate::view::{Container, PodView, Resources};

/// Amounts by resource: processor in thousandths, everything else in units.
pub type Amounts = BTreeMap<String, i64>;

/// A container that asks for none is counted as so much processor (in thousandths) and memory where nodes are compared.
const LITTLE: [(&str, i64); 2] = [("cpu", 100), ("memory", 200 << 20)];

fn amount(resource: &str, text: &str) -> i64 {
    let Ok(quantity) = text.parse::<Quantity>() else { return 0 };
    if resource == "cpu" { quantity.milli() } else { quantity.value() }
}

pub(super) fn amounts(map: &BTreeMap<String, String>) -> Amounts {
    map.iter().map(|(name, text)| (name.clone(), amount(name, text))).collect()
}

pub(super) fn add(total: &mut Amounts, more: &Amounts, sign: i64) {
    for (name, value) in more {
        match total.get_mut(name) {
            Some(known) => *known += sign * value,
            None => {
                total.insert(name.clone(), sign * value);
            }
        }
    }
}

fn raise(total: &mut Amounts, least: &Amounts) {
    for (name, value) in least {
        let entry = total.entry(name.clone()).or_default();
        *entry = (*entry).max(*value);
    }
}

/// Whether the node can never give what a resize wants.
fn is_impossible(pod: &PodView) -> bool {
    let mut resizing = pod.status.conditions.iter().filter(|noted| noted.kind == "PodResizePending");
    resizing.next().is_some_and(|noted| noted.reason == "Infeasible")
}

/// What counts while a resize is under way: the most of what is wanted, promised and in use; what is wanted does not
/// count where the node can never give it.
fn effective(pod: &PodView, wanted: &Amounts, actual: &Resources, promised: &Amounts) -> Amounts {
    let mut most = amounts(&actual.requests);
    raise(&mut most, promised);
    if !is_impossible(pod) {
        raise(&mut most, wanted);
    }
    most
}

/// What one container needs. What a container uses that ends before the others start cannot be changed.
fn of_container(pod: &PodView, container: &Container, stays: bool, missing: &[(&str, i64)]) -> Amounts {
    let mut needed = amounts(&container.resources.requests);
    let status = pod.status.container(&container.name).filter(|_| stays);
    if let Some((actual, status)) = status.and_then(|status| Some((status.resources.as_ref()?, status))) {
        needed = effective(pod, &needed, actual, &amounts(&status.allocated_resources));
    }
    for (name, little) in missing {
        needed.entry((*name).to_owned()).or_insert(*little);
    }
    needed
}

/// The sum of a pod's containers and sidecars, or more while an init container runs.
fn of_containers(pod: &PodView, missing: &[(&str, i64)]) -> Amounts {
    let mut total = Amounts::new();
    for container in &pod.spec.containers {
        add(&mut total, &of_container(pod, container, true, missing), 1);
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in &pod.spec.init_containers {
        let stays = container.restart_policy == "Always";
        let mut needed = sidecars.clone();
        add(&mut needed, &of_container(pod, container, stays, missing), 1);
        raise(&mut peak, &needed);
        if stays {
            sidecars = needed;
        }
    }
    add(&mut total, &sidecars, 1);
    raise(&mut total, &peak);
    total
}

/// Whether a pod may ask for a resource as a whole (KEP-2837).
fn is_for_pods(resource: &str) -> bool {
    matches!(resource, "cpu" | "memory") || resource.starts_with("hugepages-")
}

fn total(pod: &PodView, missing: &[(&str, i64)]) -> Amounts {
    let mut total = of_containers(pod, missing);
    let wanted = pod.spec.resources.iter().flat_map(|resources| &resources.requests);
    let wanted: Amounts = wanted
        .filter(|(name, _)| is_for_pods(name))
        .map(|(name, text)| (name.clone(), amount(name, text)))
        .collect();
    if !wanted.is_empty() {
        let promised = amounts(&pod.status.allocated_resources);
        let actual = pod.status.resources.as_ref();
        let whole = actual.map(|actual| effective(pod, &wanted, actual, &promised));
        let whole = whole.unwrap_or_else(|| wanted.clone());
        total.extend(whole.into_iter().filter(|(name, _)| wanted.contains_key(name)));
    }
    add(&mut total, &amounts(&pod.spec.overhead), 1);
    total
}

/// What a pod needs: what its containers need together, or what it asks for as a whole; plus overhead
/// (`component-helpers/resource.PodRequests`, KEP-753).
pub fn requests(pod: &PodView) -> Amounts {
    total(pod, &[])
}

/// Processor and memory as nodes are compared by them (`NonZeroRequested`): pods that ask for nothing count as well.
pub fn weight(pod: &PodView, needs: &Amounts) -> [i64; 2] {
    let of = |needs: &Amounts| LITTLE.map(|(name, _)| needs.get(name).copied().unwrap_or_default());
    let as_a_whole =
        pod.spec.resources.as_ref().is_some_and(|whole| whole.requests.keys().any(|name| is_for_pods(name)));
    let lacks = |container: &Container| {
        LITTLE.iter().any(|(name, _)| !container.resources.requests.contains_key(*name))
    };
    let complete = !pod.spec.containers.iter().chain(&pod.spec.init_containers).any(lacks);
    if complete && !is_impossible(pod) {
        return of(needs);
    }
    let missing = LITTLE.iter().filter(|(name, _)| !as_a_whole || !needs.contains_key(*name));
    of(&total(pod, &missing.copied().collect::<Vec<_>>()))
}

/// The same of a pod that looks for a node. As upstream has it (1.36), what it asks for as a whole is left out.
pub fn weight_of_new(pod: &PodView, needs: &Amounts) -> [i64; 2] {
    if pod.spec.resources.is_none() {
        return weight(pod, needs);
    }
    let mut total = of_containers(pod, &LITTLE);
    add(&mut total, &amounts(&pod.spec.overhead), 1);
    LITTLE.map(|(name, _)| total.get(name).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests;
