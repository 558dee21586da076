//! PodTopologyLabels: pods carry the zone and the region of their node (KEP-4742).

use std::sync::Arc;

use schema::{Map, Object, Value};

use super::Attempt;
use super::pod::is_new_pod;
use crate::core::Core;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// The labels of a node that its pods get. They are in its entry: nothing is decoded for them.
pub fn of_node(core: &Arc<Core>, node: &str) -> Vec<(&'static str, String)> {
    let Some(entry) = core.cache("", "nodes").and_then(|nodes| nodes.get(node)) else { return Vec::new() };
    LABELS.into_iter().filter_map(|key| Some((key, entry.label(key)?.to_owned()))).collect()
}

/// Labels a new pod that has a node already.
pub fn mutate(attempt: &Attempt<'_>, pod: &mut Object) {
    if !is_new_pod(attempt) {
        return;
    }
    let node = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
    let found = if node.is_empty() { Vec::new() } else { of_node(attempt.core, node) };
    if found.is_empty() {
        return;
    }
    let Some(meta) = pod.struct_mut("metadata") else { return };
    let mut labels = meta.get("labels").and_then(Value::as_map).cloned().unwrap_or_else(Map::new);
    for (key, value) in found {
        labels.insert(key, value);
    }
    meta.set("labels", Value::Map(labels));
}
