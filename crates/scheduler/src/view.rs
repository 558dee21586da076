//! The few fields of pods and nodes that scheduling looks at.

mod group;
mod resize;
mod volume;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, PodResourceClaim, PodResourceClaimStatus, Taint, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;

pub use group::{NamespaceView, Owner, ServiceSpec, ServiceView, SetSpec, SetView};
pub use resize::ContainerStatus;
pub use volume::{
    AttachmentView, CapacityView, ClaimRef, ClaimView, ClassView, CsiNodeView, DriverView, PodVolume,
    PodVolumes, VolumeMeta, VolumeView,
};

/// Metadata.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The UID.
    pub uid: String,
    /// Counts changes of its specification.
    pub generation: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Set while it is being deleted.
    pub deletion_timestamp: Option<String>,
    /// Who looks after it.
    #[serde(rename = "ownerReferences", deserialize_with = "group::controller")]
    pub controller: Option<Owner>,
}

impl Meta {
    /// `NAMESPACE/NAME`, or `NAME`.
    pub fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

/// A pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodView {
    /// Metadata.
    pub metadata: Meta,
    /// What it asks for.
    pub spec: PodSpec,
    /// Where it is in its life.
    pub status: PodStatus,
}

/// What a pod asks for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Its node, once it has one.
    pub node_name: String,
    /// Who is to schedule it.
    pub scheduler_name: String,
    /// How much it matters.
    pub priority: i64,
    /// `Never` if nobody is to make way for it.
    pub preemption_policy: String,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Rules about its node and its neighbours.
    pub affinity: Option<Affinity>,
    /// Taints that it bears.
    pub tolerations: Vec<Toleration>,
    /// How it wants to be spread.
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Containers that run before.
    pub init_containers: Vec<Container>,
    /// What it needs as a whole.
    pub resources: Option<Resources>,
    /// What it costs beside its containers.
    pub overhead: BTreeMap<String, String>,
    /// What holds it back.
    pub scheduling_gates: Vec<Gate>,
    /// Whether ports are the node's own.
    pub host_network: bool,
    /// Its claims of dynamic resources.
    pub resource_claims: Vec<PodResourceClaim>,
    /// Its volumes for which claims stand.
    pub volumes: PodVolumes,
}

/// A gate that holds a pod back.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Gate {
    /// Its name.
    pub name: String,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// What it needs.
    pub resources: Resources,
    /// Its ports.
    pub ports: Vec<Port>,
    /// `Always` for a sidecar among init containers.
    pub restart_policy: String,
}

/// What a container needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// At least.
    pub requests: BTreeMap<String, String>,
}

/// A port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// On the node; 0 for none.
    pub host_port: i32,
    /// On this address of the node.
    #[serde(rename = "hostIP")]
    pub host_ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// Where a pod is in its life.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, …
    pub phase: String,
    /// Claims that were made for it.
    pub resource_claim_statuses: Vec<PodResourceClaimStatus>,
    /// The node on which others make way for it.
    pub nominated_node_name: String,
    /// When its node took it (RFC 3339).
    pub start_time: Option<String>,
    /// What was noted of it.
    pub conditions: Vec<Condition>,
    /// What is known of its containers.
    pub container_statuses: Vec<ContainerStatus>,
    /// What is known of those that run before.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// What it has as a whole.
    pub resources: Option<Resources>,
    /// What its node has promised it as a whole.
    pub allocated_resources: BTreeMap<String, String>,
}

/// Something that was noted of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Of what kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why.
    pub reason: String,
}

impl PodView {
    /// Whether it takes up room on its node.
    pub fn takes_room(&self) -> bool {
        !self.spec.node_name.is_empty() && !matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }
}

/// How many of some pods may be disrupted (`PodDisruptionBudget`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BudgetView {
    /// Metadata.
    pub metadata: Meta,
    /// Which pods.
    pub spec: BudgetSpec,
    /// How many.
    pub status: BudgetStatus,
}

/// Which pods a budget is about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct BudgetSpec {
    /// By their labels.
    pub selector: Option<LabelSelector>,
}

/// What a budget allows now.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BudgetStatus {
    /// So many.
    pub disruptions_allowed: i64,
    /// Pods that are counted already, by name: when.
    pub disrupted_pods: BTreeMap<String, String>,
}

/// A node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeView {
    /// Metadata.
    pub metadata: Meta,
    /// What keeps pods away.
    pub spec: NodeSpec,
    /// What it has.
    pub status: NodeStatus,
}

/// What keeps pods away from a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Cordoned.
    pub unschedulable: bool,
    /// Taints.
    pub taints: Vec<Taint>,
}

/// What a node has.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// What pods may use.
    pub allocatable: BTreeMap<String, String>,
    /// Images that are there.
    pub images: Vec<Image>,
}

/// An image on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    /// Its names.
    pub names: Vec<String>,
    /// Its size.
    pub size_bytes: i64,
}
