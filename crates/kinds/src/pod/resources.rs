//! What the containers of a pod need together (`component-helpers/resource`), and the class of service that
//! follows.

use std::collections::BTreeMap;

use schema::Object;
use schema::quantity::Quantity;

use super::validate::read::{amounts, items, sub, text};

type Amounts = BTreeMap<String, Quantity>;

/// Whether a pod as a whole may ask for the resource.
pub(crate) fn pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn of(container: &Object, which: &str) -> Amounts {
    let Some(resources) = sub(container, "resources") else { return Amounts::new() };
    amounts(resources, which).map(|(name, amount)| (name.to_owned(), amount)).collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone());
        entry.and_modify(|had| *had = had.add(amount)).or_insert_with(|| amount.clone());
    }
}

fn raise(sum: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        let entry = sum.entry(name.clone());
        entry
            .and_modify(|had| {
                if amount > had {
                    *had = amount.clone();
                }
            })
            .or_insert_with(|| amount.clone());
    }
}

/// The sum of all containers, or what the start of the pod needs where that is more: each init container runs
/// alone, beside the sidecars that were started before it.
fn together(spec: &Object, which: &str) -> Amounts {
    let mut sum = Amounts::new();
    for container in items(spec, "containers") {
        add(&mut sum, &of(container, which));
    }
    let (mut sidecars, mut peak) = (Amounts::new(), Amounts::new());
    for container in items(spec, "initContainers") {
        let mut own = of(container, which);
        if text(container, "restartPolicy") == "Always" {
            add(&mut sum, &own);
            add(&mut sidecars, &own);
            own = sidecars.clone();
        } else {
            add(&mut own, &sidecars);
        }
        raise(&mut peak, &own);
    }
    raise(&mut sum, &peak);
    sum
}

/// What all containers request together.
pub(crate) fn container_requests(spec: &Object) -> Amounts {
    together(spec, "requests")
}

/// What all containers are limited to together.
pub(crate) fn container_limits(spec: &Object) -> Amounts {
    together(spec, "limits")
}

/// What the pod requests as a whole: where it says so itself that, else what its containers do, and its overhead.
pub(crate) fn requests(spec: &Object) -> Amounts {
    let mut sum = container_requests(spec);
    sum.extend(of(spec, "requests").into_iter().filter(|(name, _)| pod_level(name)));
    let overhead = amounts(spec, "overhead").map(|(name, amount)| (name.to_owned(), amount)).collect();
    add(&mut sum, &overhead);
    sum
}

/// The quality of service that requests and limits amount to (`core/helper/qos.ComputePodQOS`).
pub fn qos_class(pod: &Object) -> &'static str {
    let Some(spec) = sub(pod, "spec") else { return "BestEffort" };
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut guaranteed = true;
    let mut look = |resources: &Object| -> bool {
        for (name, amount) in amounts(resources, "requests").filter(compute) {
            add(&mut requests, &Amounts::from([(name.to_owned(), amount)]));
        }
        let mut limited = 0;
        for (name, amount) in amounts(resources, "limits").filter(compute) {
            limited += 1;
            add(&mut limits, &Amounts::from([(name.to_owned(), amount)]));
        }
        limited == 2
    };
    // A pod that says what it needs as a whole is judged by that alone (KEP-2837).
    match sub(spec, "resources").filter(|own| is_pod_level(own)) {
        Some(pod) => guaranteed &= look(pod),
        None => {
            for container in items(spec, "containers").chain(items(spec, "initContainers")) {
                guaranteed &= sub(container, "resources").is_some_and(&mut look);
            }
        }
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    let equal = requests.len() == limits.len()
        && requests.iter().all(|(name, amount)| limits.get(name).is_some_and(|limit| limit == amount));
    if guaranteed && equal { "Guaranteed" } else { "Burstable" }
}

/// Whether a pod says as a whole what it needs (`component-helpers/resource.IsPodLevelResourcesSet`).
fn is_pod_level(own: &Object) -> bool {
    let mut names = ["requests", "limits"].into_iter().flat_map(|which| amounts(own, which));
    names.any(|(name, _)| pod_level(name))
}

fn compute((name, amount): &(&str, Quantity)) -> bool {
    matches!(*name, "cpu" | "memory") && amount.sign() > 0
}
