//! What rules a node out, in upstream's words and order.

use k8s_openapi::api::core::v1::{PodAffinityTerm, Taint};
use kinds::matching::{selects, tolerates};
use kinds::selector;

use super::{Candidate, site, volumes};
use crate::snapshot::{NodeInfo, Snapshot, repels};
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
}

impl Against {
    /// It lasts, whoever makes way.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], lasts: true, by_volumes: false }
    }

    /// Others could make way.
    fn passing(reason: impl Into<String>) -> Self {
        Self { reasons: vec![reason.into()], lasts: false, by_volumes: false }
    }
}

/// Why the candidate cannot go to a node; `None` when it can.
pub(super) fn against(candidate: &Candidate<'_>, info: &NodeInfo, snapshot: &Snapshot) -> Option<Against> {
    let node = info.node.as_deref()?;
    let one = |why: &str| Some(Against::lasting(format!("node(s) {why}")));
    let pod = candidate.pod;
    if node.spec.unschedulable && !tolerates_unschedulable(pod) {
        return one("were unschedulable");
    }
    if !pod.spec.node_name.is_empty() && pod.spec.node_name != node.metadata.name {
        return one("didn't match the requested node name");
    }
    if let Some(taint) = untolerated(pod, node) {
        let value = taint.value.as_deref().unwrap_or_default();
        return one(&format!("had untolerated taint(s) {{{}: {value}}}", taint.key));
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
    spread(pod, node, snapshot).or_else(|| neighbours(candidate, node, snapshot))
}

fn tolerates_unschedulable(pod: &PodView) -> bool {
    let taint = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    pod.spec.tolerations.iter().any(|toleration| tolerates(toleration, &taint))
}

fn untolerated<'n>(pod: &PodView, node: &'n NodeView) -> Option<&'n Taint> {
    node.spec
        .taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
        .find(|taint| !pod.spec.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

fn fits_affinity(pod: &PodView, node: &NodeView) -> bool {
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
    pod.spec.containers.iter().flat_map(|container| &container.ports).filter(|port| port.host_port > 0)
}

fn ports_taken(pod: &PodView, info: &NodeInfo) -> bool {
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
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
    (!short.is_empty()).then_some(Against { reasons: short, lasts, by_volumes: false })
}

fn without_volumes(candidate: &Candidate<'_>, node: &NodeView, info: &NodeInfo) -> Option<Against> {
    let wanted = candidate.volumes?;
    let passing = |why| Some(Against { by_volumes: true, ..Against::passing(why) });
    if candidate.in_use {
        return passing(volumes::IN_USE);
    }
    if volumes::is_too_much(wanted, &node.metadata.name, info) {
        return passing(volumes::FULL);
    }
    let found = volumes::on_node(wanted, site(node)).map(drop);
    let found = found.and_then(|()| volumes::in_zones(wanted, site(node)).map_err(|why| vec![why]));
    let reasons = found.err()?.into_iter().map(str::to_owned).collect();
    Some(Against { reasons, lasts: true, by_volumes: true })
}

/// How many pods a spread constraint counts in each domain.
pub(super) fn domains(
    snapshot: &Snapshot,
    key: &str,
    counts: impl Fn(&PodView) -> bool,
) -> std::collections::BTreeMap<String, i64> {
    let mut domains = std::collections::BTreeMap::new();
    for info in snapshot.nodes() {
        let Some(domain) = info.node.as_ref().and_then(|node| node.metadata.labels.get(key)) else {
            continue;
        };
        let here =
            info.pods.values().filter(|pod| pod.metadata.deletion_timestamp.is_none() && counts(pod)).count();
        *domains.entry(domain.clone()).or_default() += i64::try_from(here).unwrap_or_default();
    }
    domains
}

fn spread(pod: &PodView, node: &NodeView, snapshot: &Snapshot) -> Option<Against> {
    let hard =
        pod.spec.topology_spread_constraints.iter().filter(|rule| rule.when_unsatisfiable == "DoNotSchedule");
    for rule in hard {
        let Some(domain) = node.metadata.labels.get(&rule.topology_key) else {
            let why = "node(s) didn't match pod topology spread constraints (missing required label)";
            return Some(Against::lasting(why));
        };
        let selected = |other: &PodView| {
            other.metadata.namespace == pod.metadata.namespace
                && selector::matches(rule.label_selector.as_ref(), &other.metadata.labels)
        };
        let domains = domains(snapshot, &rule.topology_key, selected);
        let least = domains.values().copied().min().unwrap_or_default();
        let own = i64::from(selector::matches(rule.label_selector.as_ref(), &pod.metadata.labels));
        let here = domains.get(domain).copied().unwrap_or_default();
        if here + own - least > i64::from(rule.max_skew) {
            return Some(Against::passing("node(s) didn't match pod topology spread constraints"));
        }
    }
    None
}

fn in_scope(term: &PodAffinityTerm, owner: &PodView, other: &PodView) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let namespace = match named.is_empty() && term.namespace_selector.is_none() {
        true => other.metadata.namespace == owner.metadata.namespace,
        false => {
            named.contains(&other.metadata.namespace)
                || term.namespace_selector.as_ref().is_some_and(|s| *s == Default::default())
        }
    };
    namespace && selector::matches(term.label_selector.as_ref(), &other.metadata.labels)
}

fn is_near(term: &PodAffinityTerm, owner: &PodView, node: &NodeView, snapshot: &Snapshot) -> bool {
    let Some(domain) = node.metadata.labels.get(&term.topology_key) else { return false };
    snapshot.nodes().any(|info| {
        info.node.as_ref().and_then(|node| node.metadata.labels.get(&term.topology_key)) == Some(domain)
            && info.pods.values().any(|other| in_scope(term, owner, other))
    })
}

/// Where pods that are there keep this one away: key and value of the labels of such nodes.
pub(super) fn repelled(pod: &PodView, snapshot: &Snapshot) -> Vec<(String, String)> {
    let mut domains = Vec::new();
    for other in snapshot.repelling() {
        let at = snapshot.node(&other.spec.node_name).and_then(|info| info.node.as_ref());
        let Some(labels) = at.map(|node| &node.metadata.labels) else { continue };
        for term in repels(other).iter().filter(|term| in_scope(term, other, pod)) {
            if let Some(value) = labels.get(&term.topology_key) {
                domains.push((term.topology_key.clone(), value.clone()));
            }
        }
    }
    domains.sort_unstable();
    domains.dedup();
    domains
}

fn neighbours(candidate: &Candidate<'_>, node: &NodeView, snapshot: &Snapshot) -> Option<Against> {
    let pod = candidate.pod;
    let affinity = pod.spec.affinity.as_ref();
    let wanted = affinity
        .and_then(|affinity| affinity.pod_affinity.as_ref())
        .and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_deref())
        .unwrap_or_default();
    for term in wanted {
        // The first of a group that wants to be together has nobody to be with yet.
        let alone = in_scope(term, pod, pod)
            && !snapshot.nodes().any(|info| info.pods.values().any(|other| in_scope(term, pod, other)));
        let labelled = node.metadata.labels.contains_key(&term.topology_key);
        let first = alone && labelled;
        if !first && !is_near(term, pod, node, snapshot) {
            return Some(Against::lasting("node(s) didn't match pod affinity rules"));
        }
    }
    if repels(pod).iter().any(|term| is_near(term, pod, node, snapshot)) {
        return Some(Against::passing("node(s) didn't match pod anti-affinity rules"));
    }
    let repelled = candidate.repelled.iter().any(|(key, value)| node.metadata.labels.get(key) == Some(value));
    repelled.then(|| Against::passing("node(s) didn't satisfy existing pods anti-affinity rules"))
}
