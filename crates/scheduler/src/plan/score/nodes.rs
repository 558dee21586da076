//! What a pod would like of its node.

use kinds::matching::{selects, tolerates};

use super::normalized;
use crate::snapshot::NodeInfo;
use crate::view::PodView;

/// By the terms that a pod would like nodes to meet (`NodeAffinity`).
pub(super) fn preferred(pod: &PodView, nodes: &[&NodeInfo]) -> Vec<i64> {
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let terms =
        affinity.and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution.as_deref());
    let terms = terms.unwrap_or_default();
    if terms.is_empty() {
        return Vec::new();
    }
    let met = |info: &&NodeInfo| {
        let Some(node) = &info.node else { return 0 };
        let met =
            terms.iter().filter(|term| selects(&term.preference, &node.metadata.name, &node.metadata.labels));
        met.map(|term| i64::from(term.weight)).sum()
    };
    normalized(nodes.iter().map(met).collect())
}

/// By taints that would rather keep the pod away (`TaintToleration`).
pub(super) fn untainted(pod: &PodView, nodes: &[&NodeInfo]) -> Vec<i64> {
    let about = |effect: &Option<String>| matches!(effect.as_deref(), None | Some("" | "PreferNoSchedule"));
    let bears: Vec<_> = pod.spec.tolerations.iter().filter(|toleration| about(&toleration.effect)).collect();
    let disliked = |info: &&NodeInfo| {
        let taints = info.node.iter().flat_map(|node| &node.spec.taints);
        let disliked = taints
            .filter(|taint| taint.effect == "PreferNoSchedule")
            .filter(|taint| !bears.iter().any(|toleration| tolerates(toleration, taint)));
        i64::try_from(disliked.count()).unwrap_or(i64::MAX)
    };
    let disliked: Vec<i64> = nodes.iter().map(disliked).collect();
    normalized(disliked).into_iter().map(|score| 100 - score).collect()
}
