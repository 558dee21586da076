//! The few fields of an object that controllers look at. Nobody keeps whole Pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    EphemeralVolumeSource, ObjectReference, PersistentVolumeClaimTemplate, PersistentVolumeClaimVolumeSource,
    PodExtendedResourceClaimStatus, PodResourceClaim, PodResourceClaimStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde::Deserialize;

/// The metadata that every controller needs.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The name.
    pub name: String,
    /// Empty for what lives in no namespace.
    pub namespace: String,
    /// The UID.
    pub uid: String,
    /// The version.
    pub resource_version: String,
    /// How often what it is to be has changed.
    pub generation: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Owners.
    pub owner_references: Vec<OwnerReference>,
    /// What holds it up when it is deleted.
    pub finalizers: Vec<String>,
    /// When it was made.
    pub creation_timestamp: Option<Time>,
    /// Set while it is being deleted.
    pub deletion_timestamp: Option<Time>,
    /// How long that may take, in seconds.
    pub deletion_grace_period_seconds: Option<i64>,
}

impl Meta {
    /// `NAMESPACE/NAME`, or `NAME`.
    pub fn key(&self) -> String {
        key(&self.namespace, &self.name)
    }

    /// The owner that controls it.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller == Some(true))
    }
}

/// `NAMESPACE/NAME`, or `NAME`.
pub fn key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

/// Namespace and name of a key.
pub fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// Any object: its metadata.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct AnyView {
    /// The metadata.
    pub metadata: Meta,
}

/// A pod.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PodView {
    /// The metadata.
    pub metadata: Meta,
    /// What it is to be.
    pub spec: PodSpecView,
    /// What it is.
    pub status: PodStatusView,
}

/// The specification of a pod.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpecView {
    /// The node, once it has one.
    pub node_name: String,
    /// The host name, for DNS.
    pub hostname: String,
    /// The headless Service that names it.
    pub subdomain: String,
    /// Its containers' ports.
    pub containers: Vec<ContainerView>,
    /// Those of the containers that run before, of which some go on.
    pub init_containers: Vec<ContainerView>,
    /// What taints it bears.
    pub tolerations: Vec<k8s_openapi::api::core::v1::Toleration>,
    /// Its volumes that are claimed; others are not kept.
    #[serde(deserialize_with = "claimed")]
    pub volumes: ClaimedView,
    /// Its claims of dynamic resources.
    pub resource_claims: Vec<PodResourceClaim>,
}

impl PodSpecView {
    /// The containers that run all along.
    pub fn serving(&self) -> impl Iterator<Item = &ContainerView> {
        let beside = self.init_containers.iter().filter(|container| container.restart_policy == "Always");
        self.containers.iter().chain(beside)
    }
}

/// The volumes of a pod that are claimed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ClaimedView {
    /// The claims that it names.
    pub named: Vec<String>,
    /// Volumes whose claims are made for it.
    pub made: Vec<EphemeralView>,
}

/// A volume whose claim is made for its pod.
#[derive(Debug, Clone, PartialEq)]
pub struct EphemeralView {
    /// The volume's name.
    pub name: String,
    /// What the claim is to be.
    pub template: PersistentVolumeClaimTemplate,
}

fn claimed<'de, D: serde::Deserializer<'de>>(from: D) -> Result<ClaimedView, D::Error> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Any {
        name: String,
        ephemeral: Option<EphemeralVolumeSource>,
        persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    }
    let mut view = ClaimedView::default();
    for any in Option::<Vec<Any>>::deserialize(from)?.unwrap_or_default() {
        if let Some(claim) = any.persistent_volume_claim {
            view.named.push(claim.claim_name);
        } else if let Some(template) = any.ephemeral.and_then(|source| source.volume_claim_template) {
            view.made.push(EphemeralView { name: any.name, template });
        }
    }
    Ok(view)
}

/// A container of a pod.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerView {
    /// `Always` for one that goes on beside those that it comes before.
    pub restart_policy: String,
    /// Ports with names.
    pub ports: Vec<PortView>,
}

/// A port of a container.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PortView {
    /// The name.
    pub name: String,
    /// The number.
    pub container_port: i32,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// The status of a pod.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatusView {
    /// `Pending`, `Running`, …
    pub phase: String,
    /// Why it is in that phase, such as `Evicted`.
    pub reason: String,
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: String,
    /// All of them, that one first.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIpView>,
    /// `Ready` and others.
    pub conditions: Vec<ConditionView>,
    /// Claims that were made for it.
    pub resource_claim_statuses: Vec<PodResourceClaimStatus>,
    /// The claim that the scheduler made for plain resources of it.
    pub extended_resource_claim_status: Option<PodExtendedResourceClaimStatus>,
}

/// One of a pod's addresses.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct PodIpView {
    /// It.
    pub ip: String,
}

impl PodStatusView {
    /// Its address of IPv4, which Services lead to; empty for none.
    pub fn ipv4(&self) -> &str {
        let all = self.pod_ips.iter().map(|pod| pod.ip.as_str()).chain([self.pod_ip.as_str()]);
        all.into_iter().find(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok()).unwrap_or_default()
    }
}

/// A condition.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ConditionView {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why.
    pub reason: Option<Box<str>>,
    /// When that last changed.
    pub last_transition_time: Option<Time>,
}

impl PodView {
    /// What an event about the pod refers to.
    pub fn reference(&self) -> ObjectReference {
        let meta = &self.metadata;
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(meta.name.clone()),
            namespace: Some(meta.namespace.clone()),
            uid: Some(meta.uid.clone()),
            resource_version: Some(meta.resource_version.clone()),
            field_path: None,
        }
    }

    /// The reference by which the pod owns what is made for it and is to go with it.
    pub fn as_owner(&self, blocks_deletion: Option<bool>) -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: self.metadata.name.clone(),
            uid: self.metadata.uid.clone(),
            controller: Some(true),
            block_owner_deletion: blocks_deletion,
        }
    }

    /// The condition `Ready`, if it is true.
    pub fn ready(&self) -> Option<&ConditionView> {
        self.status
            .conditions
            .iter()
            .find(|condition| condition.kind == "Ready" && condition.status == "True")
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// The name of the claim that is made for a volume.
    pub fn claim_of(&self, volume: &EphemeralView) -> String {
        format!("{}-{}", self.metadata.name, volume.name)
    }

    /// The claims that it uses, by namespace and name.
    pub fn claims(&self) -> Vec<String> {
        let volumes = &self.spec.volumes;
        let made = volumes.made.iter().map(|volume| self.claim_of(volume));
        volumes.named.iter().cloned().chain(made).map(|name| key(&self.metadata.namespace, &name)).collect()
    }

    /// Whether its node has ended it, and only somebody's finalizer keeps it; or it was deleted without grace.
    pub fn is_shut_down(&self) -> bool {
        self.metadata.deletion_timestamp.is_some() && self.metadata.deletion_grace_period_seconds == Some(0)
    }

    /// Whether it counts: not ended, not going.
    pub fn is_active(&self) -> bool {
        !self.is_finished() && self.metadata.deletion_timestamp.is_none()
    }
}
