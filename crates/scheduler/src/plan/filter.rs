//! What rules a node out, in upstream's words and order.

use k8s_openapi::api::core::v1::Taint;
use kinds::matching::{selects, tolerates};

use super::{Candidate, site, volumes};
use crate::snapshot::NodeInfo;
use crate::view::{NodeView, PodView, Port};

/// Why a pod cannot go to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Against {
    /// In upstream's words.
    pub reasons: Vec<String>,
    /// Whether it would not help if others made way (upstream's `UnschedulableAndUnresolvable`).
    pub lasts: bool,
    /// Whether it is for the pod's volumes.
    pub by_volumes: bool,
    /// Whether other pods could help by being there.
    pub by_others: bool,
}

impl Against {
    /// It lasts, whoever makes way.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], lasts: true, by_volumes: false, by_others: false }
    }

    /// Others could make way.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], lasts: false, by_volumes: false, by_others: false }
    }
}

/// Why the candidate cannot go to a node; `None` when it can.
pub(super) fn against(candidate: &Candidate<'_>, info: &NodeInfo) -> Option<Against> {
    let node = info.node.as_deref()?;
    let one = |why: &str| Some(Against::lasting(format!("node(s) {why}")));
    let pod = candidate.pod;
    if node.spec.unschedulable && !tolerates_unschedulable(pod) {
        return one("were unschedulable");
    }
    if !pod.spec.node_name.is_empty() && pod.spec.node_name != node.metadata.name {
        return one("didn't match the requested node name");
    }
    if untolerated(pod, node).is_some() {
        return one("had untolerated taint(s)");
    }
    if !fits_affinity(pod, node) {
        return one("didn't match Pod's node affinity/selector");
    }
    if ports_taken(pod, info) {
        return Some(Against::passing("node(s) didn't have free ports for the requested pod ports"));
    }
    if let Some(short) = missing(candidate, info) {
        return Some(short);
    }
    if let Some(against) = without_volumes(candidate, node, info) {
        return Some(against);
    }
    let others = candidate.spread.against(info).or_else(|| candidate.neighbours.against(info));
    others.map(|against| Against { by_others: true, ..against })
}

fn tolerates_unschedulable(pod: &PodView) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    pod.spec.tolerations.iter().any(|toleration| tolerates(toleration, &taint))
}

/// A taint of a node that the pod does not bear.
pub(super) fn untolerated<'n>(pod: &PodView, node: &'n NodeView) -> Option<&'n Taint> {
    node.spec
        .taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !pod.spec.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether a node is one of those that the pod asks for.
pub(super) fn fits_affinity(pod: &PodView, node: &NodeView) -> bool {
    let labels = &node.metadata.labels;
    if !pod.spec.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| selects(term, &node.metadata.name, labels))
    })
}

fn host_ports(pod: &PodView) -> impl Iterator<Item = &Port> {
    let sidecars = pod.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
    let containers = sidecars.chain(&pod.spec.containers);
    containers.flat_map(|container| &container.ports).filter(|port| port.host_port > 0)
}

fn ports_taken(pod: &PodView, info: &NodeInfo) -> bool {
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0";
    let clash = |a: &Port, b: &Port| {
        a.host_port == b.host_port
            && a.protocol == b.protocol
            && (any(&a.host_ip) || any(&b.host_ip) || a.host_ip == b.host_ip)
    };
    host_ports(pod)
        .any(|wanted| info.pods.values().any(|other| host_ports(other).any(|taken| clash(wanted, taken))))
}

fn missing(candidate: &Candidate<'_>, info: &NodeInfo) -> Option<Against> {
    let (mut short, mut lasts) = (Vec::new(), false);
    let most = info.allocatable.get("pods").copied().unwrap_or(i64::MAX);
    if i64::try_from(info.pods.len()).unwrap_or(i64::MAX) >= most {
        short.push("Too many pods".to_owned());
    }
    for (resource, &needed) in candidate.needs.iter().filter(|(_, needed)| **needed > 0) {
        let has = info.allocatable.get(resource).copied().unwrap_or_default();
        if has <= 0 && candidate.backed.is_some_and(|backed| backed.contains_key(resource)) {
            continue;
        }
        let used = info.used.get(resource).copied().unwrap_or_default();
        if needed > has - used {
            short.push(format!("Insufficient {resource}"));
            lasts |= needed > has;
        }
    }
    (!short.is_empty()).then_some(Against { reasons: short, lasts, by_volumes: false, by_others: false })
}

fn without_volumes(candidate: &Candidate<'_>, node: &NodeView, info: &NodeInfo) -> Option<Against> {
    let wanted = candidate.volumes?;
    let passing = |why| Some(Against { by_volumes: true, ..Against::passing(why) });
    if candidate.clashes > 0 {
        return passing(volumes::IN_USE);
    }
    if volumes::is_too_much(wanted, &node.metadata.name, info) {
        return passing(volumes::FULL);
    }
    let found = volumes::on_node(wanted, site(node)).map(drop);
    let found = found.and_then(|()| volumes::in_zones(wanted, site(node)).map_err(|why| vec![why]));
    let reasons = found.err()?.into_iter().map(str::to_owned).collect();
    Some(Against { reasons, lasts: true, by_volumes: true, by_others: false })
}
