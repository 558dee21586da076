//! What is watched of the node's own object: others change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Change, Informer, Resource};
use k8s_openapi::api::core::v1::{Node, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::devices::is_extended;

/// What decides over pods, and what the node is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeView {
    pub metadata: NodeMeta,
    pub spec: NodeSpecView,
    pub status: NodeStatusView,
}

/// Its name, identity and labels.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeMeta {
    pub name: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
}

/// Its taints, and the pod networks that it was given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeSpecView {
    pub taints: Vec<Taint>,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<String>,
    pub unschedulable: bool,
}

/// Watches the node's own object, and tells when somebody else changed it.
pub fn informer(client: &kube::Client, name: &str, changed: Arc<Notify>) -> Informer<NodeView> {
    let own = Resource::all("", "v1", "Node", "nodes").with_fields(format!("metadata.name={name}"));
    let mut own: Informer<NodeView> = Informer::new(client.clone(), own);
    own.on_change(move |change| {
        if concerns(change) {
            changed.notify_one();
        }
    });
    own
}

/// Whether a change is one of others. The node's status is this kubelet's own, but for what is said of it when it was
/// silent.
fn concerns(change: &Change<'_, NodeView>) -> bool {
    match change {
        Change::Set { old: Some(old), new, .. } => {
            old.metadata != new.metadata
                || old.spec != new.spec
                || new.is_given_up()
                || !new.advertises_as(old)
        }
        Change::Set { .. } | Change::Removed { .. } => true,
    }
}

/// What pods can be given of it, quantities by resource, and what is said of its health.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NodeStatusView {
    pub capacity: BTreeMap<String, String>,
    pub allocatable: BTreeMap<String, String>,
    pub conditions: Vec<ConditionView>,
}

/// What is said of one condition.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ConditionView {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

impl NodeView {
    /// Whether nobody knows any more of the node's health: it was silent for a while, and others have said so.
    pub fn is_given_up(&self) -> bool {
        self.status.conditions.iter().any(|one| one.kind == "Ready" && one.status == "Unknown")
    }
}

impl NodeView {
    /// Whether both have the same of what is no part of every node: plugins provide it, or somebody wrote it there.
    pub fn advertises_as(&self, other: &Self) -> bool {
        fn advertised(view: &NodeView) -> impl Iterator<Item = (&String, &String)> {
            view.status.capacity.iter().filter(|(name, _)| is_extended(name))
        }
        advertised(self).eq(advertised(other))
    }
}

impl From<&Node> for NodeView {
    fn from(node: &Node) -> Self {
        let (spec, status) = (node.spec.clone().unwrap_or_default(), node.status.as_ref());
        let amounts = |all: Option<&BTreeMap<String, Text>>| {
            all.into_iter().flatten().map(|(name, text)| (name.clone(), text.0.clone())).collect()
        };
        Self {
            metadata: NodeMeta {
                name: node.metadata.name.clone().unwrap_or_default(),
                uid: node.metadata.uid.clone().unwrap_or_default(),
                labels: node.metadata.labels.clone().unwrap_or_default(),
            },
            spec: NodeSpecView {
                taints: spec.taints.unwrap_or_default(),
                pod_cidr: spec.pod_cidr.unwrap_or_default(),
                pod_cidrs: spec.pod_cidrs.unwrap_or_default(),
                unschedulable: spec.unschedulable.unwrap_or_default(),
            },
            status: NodeStatusView {
                capacity: amounts(status.and_then(|status| status.capacity.as_ref())),
                allocatable: amounts(status.and_then(|status| status.allocatable.as_ref())),
                conditions: status
                    .into_iter()
                    .flat_map(|status| status.conditions.iter().flatten())
                    .map(|one| ConditionView { kind: one.type_.clone(), status: one.status.clone() })
                    .collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_advertises_by_hand_is_noticed() {
        let node = |capacity: serde_json::Value| -> NodeView {
            serde_json::from_value(serde_json::json!({"status": {"capacity": capacity}})).unwrap()
        };
        let plain = node(serde_json::json!({"cpu": "2", "hugepages-2Mi": "0"}));
        assert!(plain.advertises_as(&node(serde_json::json!({"cpu": "4"}))));
        let more = node(serde_json::json!({"cpu": "2", "example.com/dongle": "4"}));
        assert!(!plain.advertises_as(&more));
        assert!(!more.advertises_as(&node(serde_json::json!({"example.com/dongle": "5"}))));
    }
}
