//! Whether a node takes a pod that was given to it (`kubelet/lifecycle.predicateAdmitHandler`). Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use schema::quantity::Quantity;

use super::resources;
use super::spec::{PodExt, is_sidecar};
use crate::eviction::Condition;

/// Why a pod is refused, as its status says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

fn refuse(reason: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), message: message.into() }
}

/// What a pod takes of its node: amounts by resource (the processor in thousandths), and ports of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    pub amounts: BTreeMap<String, i64>,
    pub ports: Vec<HostPort>,
}

/// A port of the host: address, protocol, number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    address: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// Whether two cannot be had side by side.
    fn conflicts(&self, other: &Self) -> bool {
        let any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.address) || any(&other.address) || self.address == other.address)
    }
}

/// What a pod takes.
pub fn demand(pod: &Pod) -> Demand {
    let mut amounts: BTreeMap<String, i64> = BTreeMap::from([("pods".to_owned(), 1)]);
    for (name, text) in resources::pod_requests(pod) {
        let Ok(quantity) = text.0.parse::<Quantity>() else { continue };
        amounts.insert(name.clone(), if name == "cpu" { quantity.milli() } else { quantity.value() });
    }
    let lasting = pod.init_containers().iter().filter(|c| is_sidecar(c)).chain(pod.containers());
    let ports = lasting.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
        Some(HostPort {
            address: port.host_ip.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: port.host_port.filter(|port| *port > 0)?,
        })
    });
    Demand { amounts, ports: ports.collect() }
}

/// A node that shuts down takes no more pods, not even static ones.
///
/// # Errors
/// [`Refusal`].
pub fn while_closing(closing: bool) -> Result<(), Refusal> {
    match closing {
        true => Err(refuse("NodeShutdown", "Pod was rejected as the node is shutting down.")),
        false => Ok(()),
    }
}

/// What does not depend on other pods.
///
/// # Errors
/// [`Refusal`].
pub fn check(pod: &Pod) -> Result<(), Refusal> {
    let os = pod.spec().and_then(|spec| spec.os.as_ref()).map_or("linux", |os| os.name.as_str());
    if os != "linux" {
        return Err(refuse("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    check_sysctls(pod)
}

/// A node that is short of something takes no more pods (`eviction.managerImpl.Admit`).
///
/// # Errors
/// [`Refusal`].
pub fn under_pressure(pod: &Pod, is_static: bool, pressure: &BTreeSet<Condition>) -> Result<(), Refusal> {
    let spec = pod.spec();
    if pressure.is_empty() || is_static || pod.is_critical() {
        return Ok(());
    }
    if *pressure == BTreeSet::from([Condition::Memory]) {
        let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let tolerates = tolerations.iter().any(|toleration| {
            let key = toleration.key.as_deref().unwrap_or_default();
            let exists = toleration.operator.as_deref() == Some("Exists");
            let effect = toleration.effect.as_deref().unwrap_or_default();
            matches!(effect, "" | "NoSchedule")
                && (key == "node.kubernetes.io/memory-pressure" || key.is_empty() && exists)
        });
        if resources::qos(pod) != "BestEffort" || tolerates {
            return Ok(());
        }
    }
    let names: Vec<&str> = pressure.iter().map(|condition| condition.name()).collect();
    Err(refuse("Evicted", format!("The node had condition: [{}]. ", names.join(" "))))
}

/// Settings of the kernel that a pod may make without harm to others; upstream's list.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn check_sysctls(pod: &Pod) -> Result<(), Refusal> {
    let spec = pod.spec();
    let host_ipc = spec.and_then(|spec| spec.host_ipc).unwrap_or(false);
    for sysctl in pod.security().and_then(|security| security.sysctls.as_ref()).into_iter().flatten() {
        let name = sysctl.name.replace('/', ".");
        let forbid = |why: String| Err(refuse("SysctlForbidden", format!("forbidden sysctl: {why}")));
        if !SAFE.contains(&name.as_str()) {
            return forbid(format!("{name:?} not allowlisted"));
        }
        if name.starts_with("net.") && pod.host_network() {
            return forbid(format!("{name:?} not allowed with host net enabled"));
        }
        if name.starts_with("kernel.") && host_ipc {
            return forbid(format!("{name:?} not allowed with host ipc enabled"));
        }
    }
    Ok(())
}

/// Whether a node that can give `capacity` and has given `taken` can give this, too. What the node does not know of
/// (cluster-level resources) is not its to refuse.
///
/// # Errors
/// [`Refusal`], with upstream's reasons: `OutOfcpu`, `NodePorts`, …
pub fn fits<'d>(
    wanted: &Demand,
    taken: impl Iterator<Item = &'d Demand> + Clone,
    capacity: &BTreeMap<String, i64>,
) -> Result<(), Refusal> {
    // The order in which upstream looks.
    let first = ["pods", "cpu", "memory", "ephemeral-storage"];
    let others = wanted.amounts.keys().map(String::as_str).filter(|name| !first.contains(name));
    for name in first.into_iter().chain(others) {
        let requested = wanted.amounts.get(name).copied().unwrap_or(0);
        let Some(capacity) = capacity.get(name).copied().filter(|_| requested > 0) else { continue };
        let used: i64 = taken.clone().filter_map(|demand| demand.amounts.get(name)).sum();
        if requested + used > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Err(refuse(format!("OutOf{name}"), message));
        }
    }
    let conflict =
        |port: &HostPort| taken.clone().flat_map(|demand| &demand.ports).any(|have| have.conflicts(port));
    if wanted.ports.iter().any(conflict) {
        let message =
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(refuse("NodePorts", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_that_asks_for_too_much_is_refused_by_name() {
        let capacity = BTreeMap::from([("cpu".to_owned(), 2000), ("pods".to_owned(), 2)]);
        let asks = |cpu: &str| {
            demand(&pod(
                json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "example.com/x": "1"}}}]}),
            ))
        };
        let taken = [asks("1500m")];
        assert_eq!(fits(&asks("500m"), taken.iter(), &capacity), Ok(()));
        let refusal = fits(&asks("600m"), taken.iter(), &capacity).unwrap_err();
        assert_eq!(refusal.reason, "OutOfcpu");
        assert_eq!(
            refusal.message,
            "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
        );
        let full = [asks("0"), asks("0")];
        assert_eq!(fits(&asks("0"), full.iter(), &capacity).unwrap_err().reason, "OutOfpods");
    }

    #[test]
    fn a_port_of_the_host_is_had_once_for_each_address_and_protocol() {
        let asks =
            |port: serde_json::Value| demand(&pod(json!({"containers": [{"name": "c", "ports": [port]}]})));
        let have = [asks(json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"}))];
        for (port, free) in [
            (json!({"containerPort": 1, "hostPort": 80}), false),
            (json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.2"}), true),
            (json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"}), true),
            (json!({"containerPort": 80}), true),
        ] {
            let result = fits(&asks(port.clone()), have.iter(), &BTreeMap::new());
            assert_eq!(result.is_ok(), free, "{port}: {result:?}");
        }
    }

    #[test]
    fn a_node_without_memory_takes_whoever_asked_for_some() {
        let careless = pod(json!({"containers": [{"name": "c"}]}));
        let careful =
            pod(json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]}));
        let memory = BTreeSet::from([Condition::Memory]);
        let refusal = under_pressure(&careless, false, &memory).unwrap_err();
        assert_eq!(refusal.message, "The node had condition: [MemoryPressure]. ");
        assert_eq!(under_pressure(&careful, false, &memory), Ok(()));
        assert_eq!(under_pressure(&careless, true, &memory), Ok(()), "static pods are taken");
        assert!(under_pressure(&careful, false, &BTreeSet::from([Condition::Disk])).is_err());
        assert_eq!(under_pressure(&careless, false, &BTreeSet::new()), Ok(()));
    }

    #[test]
    fn only_safe_sysctls_are_set() {
        let with = |name: &str, host: bool| {
            check(&pod(
                json!({"hostNetwork": host, "securityContext": {"sysctls": [{"name": name, "value": "1"}]}, "containers": []}),
            ))
        };
        assert_eq!(with("net.ipv4.tcp_syncookies", false), Ok(()));
        let refusal = with("kernel.msgmax", false).unwrap_err();
        assert_eq!(
            (refusal.reason.as_str(), refusal.message.as_str()),
            ("SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted")
        );
        assert!(with("net.ipv4.tcp_syncookies", true).is_err());
    }
}
