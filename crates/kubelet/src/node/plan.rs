//! What the node's object says. Pure.

use std::collections::{BTreeMap, BTreeSet};

use cri::v1 as wire;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeCondition, NodeDaemonEndpoints, NodeFeatures,
    NodeRuntimeHandler, NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use kinds::gates::{Gate, Gates};

use super::{allocatable, cloud};
use crate::Config;
use crate::eviction::Condition;
use crate::machine::Machine;

/// The most names of an image that are told, as upstream's.
const MAX_NAMES: usize = 5;

/// What is seen of the node now.
pub struct Facts {
    /// The runtime's conditions, or why it does not tell.
    pub conditions: Result<Vec<wire::RuntimeCondition>, String>,
    pub images: Vec<wire::Image>,
    /// What the runtime's handlers can do.
    pub handlers: Vec<wire::RuntimeHandler>,
    /// Whether the runtime knows `supplementalGroupsPolicy`.
    pub supplemental_groups: bool,
    /// Bytes.
    pub disk: u64,
    /// What the node is short of.
    pub pressure: BTreeSet<Condition>,
    /// Whether the machine is about to be shut down.
    pub closing: bool,
    /// What plugins provide: how much there is of each resource, and how much of it can be given.
    pub devices: BTreeMap<String, (i64, i64)>,
    /// Such as `containerd://2.1`.
    pub runtime: String,
    pub now: Timestamp,
}

impl Facts {
    /// What keeps the node from being ready.
    fn obstacles(&self) -> Vec<String> {
        let conditions = match &self.conditions {
            Ok(conditions) => conditions,
            Err(error) => return vec![format!("container runtime is down: {error}")],
        };
        let needed = [
            ("RuntimeReady", "container runtime not ready"),
            ("NetworkReady", "container runtime network not ready"),
        ];
        let unmet = needed.into_iter().filter_map(|(name, words)| {
            match conditions.iter().find(|condition| condition.r#type == name) {
                Some(condition) if condition.status => None,
                Some(c) => Some(format!("{words}: {name}=false reason:{} message:{}", c.reason, c.message)),
                None => Some(format!("{words}: {name} is not reported")),
            }
        });
        unmet.chain(self.closing.then(|| "node is shutting down".to_owned())).collect()
    }

    /// Whether pods can run.
    pub fn is_ready(&self) -> bool {
        self.obstacles().is_empty()
    }
}

/// The labels that the kubelet sets.
pub fn labels(config: &Config) -> BTreeMap<String, String> {
    let mut labels = config.labels.clone();
    let arch = architecture();
    for (key, value) in [
        ("kubernetes.io/hostname", config.hostname.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

/// Labels that a kubelet sets on a node that is there already, as upstream's `updateDefaultLabels`.
const LASTING: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
];

/// Those of the labels that are set on a node that is there already.
pub fn lasting(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.retain(|key, _| LASTING.contains(&key.as_str()));
    labels
}

/// What a cluster may ask whether the node can do it, by the names of upstream's gates (KEP-5328), in order.
fn declared(gates: Gates) -> Vec<String> {
    let in_memory = Gate::InPlacePodVerticalScalingMemoryBackedVolumes;
    let features = [
        ("ExtendWebSocketsToKubelet", true),
        ("InPlacePodLevelResourcesVerticalScaling", true),
        ("InPlacePodVerticalScalingInitContainers", true),
        (in_memory.name(), gates.has(in_memory)),
        ("RestartAllContainersOnContainerExits", true),
    ];
    features.into_iter().filter(|(_, has)| *has).map(|(name, _)| name.to_owned()).collect()
}

/// As Go calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A node that is not registered yet.
pub fn node(config: &Config, status: NodeStatus) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(config.node_name.clone()),
            labels: Some(labels(config)),
            annotations: Some(annotations(config)),
            ..ObjectMeta::default()
        },
        spec: spec(config),
        status: Some(status),
    }
}

fn annotations(config: &Config) -> BTreeMap<String, String> {
    let told = cloud::annotations(config.cloud, &config.node_ips(), None);
    let told = told.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let attached = "volumes.kubernetes.io/controller-managed-attach-detach";
    told.chain([(attached.to_owned(), "true".to_owned())]).collect()
}

/// What a node is given when it is made, and never again: its taints and its name at the cloud.
fn spec(config: &Config) -> Option<NodeSpec> {
    let fields = &config.configuration.fields;
    let taints = fields.register_with_taints.iter().cloned().chain(cloud::taint(config.cloud));
    let taints = Some(taints.collect::<Vec<_>>()).filter(|taints| !taints.is_empty());
    let provider_id = Some(fields.provider_id.clone()).filter(|id| !id.is_empty());
    (taints.is_some() || provider_id.is_some()).then(|| NodeSpec {
        taints,
        provider_id,
        ..NodeSpec::default()
    })
}

/// The node's status.
pub fn status(config: &Config, machine: &Machine, facts: &Facts, before: Option<&NodeStatus>) -> NodeStatus {
    let most = allocatable::pods(machine, config.max_pods, config.configuration.fields.pods_per_core);
    let capacity = allocatable::capacity(machine, most, facts.disk);
    // Reservations were looked at when the kubelet started: `run` refuses what is no quantity.
    let fields = &config.configuration.fields;
    let left = allocatable::allocatable(&capacity, fields, &config.eviction).unwrap_or_default();
    NodeStatus {
        addresses: Some(cloud::addresses(config.cloud, config.node_ips(), &config.hostname, before)),
        allocatable: Some(allocatable::with_devices(&left, &facts.devices, before, |(_, given)| given)),
        capacity: Some(allocatable::with_devices(&capacity, &facts.devices, before, |(all, _)| all)),
        conditions: Some(conditions(facts, before)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.listen.port()) }),
        }),
        images: Some(images(&facts.images, config.configuration.fields.node_status_max_images)),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(facts.supplemental_groups) }),
        declared_features: Some(declared(fields.gates)),
        runtime_handlers: Some(handlers(&facts.handlers)).filter(|handlers| !handlers.is_empty()),
        node_info: Some(NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: facts.runtime.clone(),
            kernel_version: machine.kernel_version.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: kinds::KUBERNETES_VERSION.to_owned(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            swap: (machine.swap > 0).then(|| NodeSwapStatus { capacity: i64::try_from(machine.swap).ok() }),
            running_in_user_namespace: Some(machine.in_user_namespace),
        }),
        ..NodeStatus::default()
    }
}

fn conditions(facts: &Facts, before: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let obstacles = facts.obstacles();
    let ready = match obstacles.is_empty() {
        true => ("Ready", "True", "KubeletReady", "kubelet is posting ready status".to_owned()),
        false => {
            let told = match obstacles.as_slice() {
                [one] => one.clone(),
                several => format!("[{}]", several.join(", ")),
            };
            ("Ready", "False", "KubeletNotReady", told)
        }
    };
    let kinds = [
        (
            Condition::Memory,
            "KubeletHasInsufficientMemory",
            "kubelet has insufficient memory available",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            Condition::Disk,
            "KubeletHasDiskPressure",
            "kubelet has disk pressure",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            Condition::Pid,
            "KubeletHasInsufficientPID",
            "kubelet has insufficient PID available",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
    ];
    let fine = kinds.into_iter().map(|(kind, short, too_little, enough, all_well)| {
        match facts.pressure.contains(&kind) {
            true => (kind.name(), "True", short, too_little.to_owned()),
            false => (kind.name(), "False", enough, all_well.to_owned()),
        }
    });
    let condition = |(name, status, reason, message): (&str, &str, &str, String)| {
        let known = before.and_then(|before| before.conditions.as_ref());
        let old = known.into_iter().flatten().find(|known| known.type_ == name);
        let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        NodeCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(Time(facts.now)),
            last_transition_time: since.or(Some(Time(facts.now))),
        }
    };
    fine.chain([ready]).map(condition).collect()
}

fn handlers(handlers: &[wire::RuntimeHandler]) -> Vec<NodeRuntimeHandler> {
    let told = handlers.iter().map(|handler| NodeRuntimeHandler {
        name: Some(handler.name.clone()),
        features: handler.features.as_ref().map(|features| NodeRuntimeHandlerFeatures {
            recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
            user_namespaces: Some(features.user_namespaces),
        }),
    });
    told.collect()
}

/// The largest images; all of them for -1.
fn images(images: &[wire::Image], most: i32) -> Vec<ContainerImage> {
    let mut sorted: Vec<&wire::Image> = images.iter().collect();
    sorted.sort_by_key(|image| std::cmp::Reverse(image.size));
    let told =
        sorted.into_iter().take(usize::try_from(most).unwrap_or(usize::MAX)).map(|image| ContainerImage {
            names: Some(image.repo_digests.iter().chain(&image.repo_tags).take(MAX_NAMES).cloned().collect()),
            size_bytes: i64::try_from(image.size).ok(),
        });
    told.collect()
}

/// Whether two statuses say something different, heartbeats apart.
pub fn differs(old: Option<&NodeStatus>, new: &NodeStatus) -> bool {
    let Some(old) = old else { return true };
    let known = |condition: &NodeCondition| {
        let same = |old: &&NodeCondition| {
            old.type_ == condition.type_
                && old.status == condition.status
                && old.reason == condition.reason
                && old.message == condition.message
        };
        old.conditions.iter().flatten().any(|old| same(&old))
    };
    old.addresses != new.addresses
        || allocatable::differ(old, new)
        || old.runtime_handlers.clone().unwrap_or_default()
            != new.runtime_handlers.clone().unwrap_or_default()
        || old.features != new.features
        || old.declared_features != new.declared_features
        || old.images.clone().unwrap_or_default() != new.images.clone().unwrap_or_default()
        || old.node_info != new.node_info
        || old.daemon_endpoints != new.daemon_endpoints
        || !new.conditions.iter().flatten().all(known)
}

/// The status as a strategic merge patch: addresses are replaced, conditions of others stay, and amounts go that are
/// no longer there.
pub fn patch(status: &NodeStatus, before: Option<&NodeStatus>) -> serde_json::Value {
    let mut value = serde_json::json!(status);
    let old = before.map(|before| [("capacity", &before.capacity), ("allocatable", &before.allocatable)]);
    for (field, amounts) in old.into_iter().flatten() {
        let Some(serde_json::Value::Object(new)) = value.get_mut(field) else { continue };
        for name in amounts.iter().flatten().map(|(name, _)| name) {
            new.entry(name).or_insert(serde_json::Value::Null);
        }
    }
    if let Some(serde_json::Value::Array(addresses)) = value.get_mut("addresses") {
        addresses.insert(0, serde_json::json!({"$patch": "replace"}));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_that_are_gone_are_taken_back() {
        let status = |amounts: serde_json::Value| -> NodeStatus {
            serde_json::from_value(serde_json::json!({"capacity": amounts, "allocatable": amounts})).unwrap()
        };
        let before = status(serde_json::json!({"cpu": "2", "example.com/dongle": "4"}));
        let patch = patch(&status(serde_json::json!({"cpu": "2"})), Some(&before));
        let wanted = serde_json::json!({"cpu": "2", "example.com/dongle": null});
        assert_eq!((&patch["capacity"], &patch["allocatable"]), (&wanted, &wanted));
    }
}
