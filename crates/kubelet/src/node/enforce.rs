//! `enforceNodeAllocatable`: pods as a whole get no more than they can be given, and what is reserved for the system or
//! for Kubernetes is all that its cgroup gets.

use std::sync::Arc;
use std::time::Duration;

use kinds::gates::Gate;

use super::{allocatable, classes, reference};
use crate::Shared;
use crate::cgroups::Limits;
use crate::configuration::Fields;
use crate::eviction::pods_group;
use crate::machine::Machine;

/// Before a limit that the kernel refused is tried again, as upstream: pods may use more than it at the moment.
const AGAIN: Duration = Duration::from_secs(60);
const SHARES_OF_A_PROCESSOR: i64 = 1024;

/// A cgroup and what it may use.
#[derive(Debug, PartialEq, Eq)]
pub struct Enforced {
    pub group: String,
    pub limits: Limits,
    /// It is ours to make; others must be there.
    pub is_pods: bool,
}

/// What is enforced on a node of this size whose pods' cgroups are below `root`. Pure.
///
/// # Errors
/// Names a reservation that is no quantity.
pub fn plan(machine: &Machine, fields: &Fields, root: &str) -> Result<Vec<Enforced>, String> {
    let mut enforced = Vec::new();
    let has = |name: &str| fields.enforce_node_allocatable.iter().any(|entry| entry == name);
    // Others' groups keep what is reserved for them.
    let keeps = fields.gates.has(Gate::MemoryQos);
    let limits = |amounts: &allocatable::Amounts, memory: bool| Limits {
        cpu_shares: amounts.get("cpu").map(|millis| (millis * SHARES_OF_A_PROCESSOR / 1000).max(2)),
        memory: amounts.get("memory").copied().filter(|_| memory),
        ..Limits::default()
    };
    if has("pods") && fields.cgroups_per_qos {
        let left = allocatable::together(machine, fields)?;
        let group = format!("{}/kubepods", root.trim_end_matches('/'));
        enforced.push(Enforced { group, limits: limits(&left, true), is_pods: true });
    }
    for (part, group, reserved) in [
        ("system-reserved", &fields.system_reserved_cgroup, &fields.system_reserved),
        ("kube-reserved", &fields.kube_reserved_cgroup, &fields.kube_reserved),
    ] {
        let whole = has(part);
        if !whole && !has(&format!("{part}-compressible")) {
            continue;
        }
        let mut amounts = allocatable::Amounts::new();
        for (name, text) in reserved {
            let quantity: schema::quantity::Quantity =
                text.parse().map_err(|_| format!("{part}: {name}: {text:?} is no quantity"))?;
            let amount = if name == "cpu" { quantity.milli() } else { quantity.value() };
            amounts.insert(name.clone(), amount);
        }
        let mut limits = limits(&amounts, whole);
        limits.kept.never_taken = limits.memory.filter(|_| keeps);
        enforced.push(Enforced { group: group.clone(), limits, is_pods: false });
    }
    Ok(enforced)
}

/// Sets the limits, and tries again what the kernel refuses.
pub async fn run(shared: Arc<Shared>, mut enforced: Vec<Enforced>) {
    while !enforced.is_empty() {
        let mut left = Vec::new();
        for entry in enforced {
            if !set(&shared, &entry).await {
                left.push(entry);
            }
        }
        enforced = left;
        if !enforced.is_empty() {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Limits all pods together again, should somebody have removed their group while it was empty: the next pod would bring
/// one without limits.
pub async fn restore(shared: &Shared) {
    if shared.cgroups.exists(&pods_group(shared)) {
        return classes::restore(shared).await;
    }
    let planned = plan(&shared.machine, &shared.config.configuration.fields, &shared.config.cgroup_root);
    // Reservations that make no sense have kept the kubelet from starting.
    for entry in planned.unwrap_or_default().iter().filter(|entry| entry.is_pods) {
        set(shared, entry).await;
    }
    classes::restore(shared).await;
}

async fn set(shared: &Shared, Enforced { group, limits, is_pods }: &Enforced) -> bool {
    let done = match is_pods {
        true => shared.cgroups("create", shared.cgroups.make(group, limits)).await,
        false => {
            let group = shared.cgroups.named(group);
            shared.cgroups("update", shared.cgroups.apply(&group, limits)).await
        }
    };
    match done {
        Ok(()) => {
            let whose = if *is_pods { "pods" } else { group };
            let message = format!("Updated Node Allocatable limit across {whose}");
            shared.recorder.normal(reference(shared), "NodeAllocatableEnforced", message);
            true
        }
        Err(error) => {
            let message = format!("Failed to update Node Allocatable Limits {group:?}: {error}");
            tracing::error!("{message}");
            shared.recorder.warning(reference(shared), "FailedNodeAllocatableEnforcement", message);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Configuration;

    fn planned(flags: serde_json::Value) -> Vec<(String, Option<i64>, Option<i64>)> {
        let serde_json::Value::Object(flags) = flags else { panic!("an object") };
        let fields = Configuration::merge(&[], flags).unwrap().0.fields;
        let machine = Machine::read(Some((4000, 8 << 30))).unwrap();
        let of = |e: Enforced| (e.group, e.limits.cpu_shares, e.limits.memory);
        plan(&machine, &fields, "/k").unwrap().into_iter().map(of).collect()
    }

    #[test]
    fn pods_have_what_is_not_reserved_and_others_what_is() {
        let pods = "/k/kubepods".to_owned();
        assert_eq!(planned(json!({})), [(pods.clone(), Some(4096), Some(8 << 30))], "evictions are no limit");
        let both = json!({
            "kubeReserved": {"cpu": "500m", "memory": "1Gi"}, "kubeReservedCgroup": "/kube",
            "systemReserved": {"memory": "1Gi"}, "systemReservedCgroup": "/sys",
            "enforceNodeAllocatable": ["pods", "system-reserved", "kube-reserved-compressible"],
        });
        assert_eq!(
            planned(both),
            [
                (pods, Some(3584), Some(6 << 30)),
                ("/sys".to_owned(), None, Some(1 << 30)),
                ("/kube".to_owned(), Some(512), None)
            ]
        );
        assert_eq!(planned(json!({"enforceNodeAllocatable": ["none"]})), []);
    }
}
