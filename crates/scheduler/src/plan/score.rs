//! How good a node is: each rule gives 0 to 100, weighted as upstream weighs it.

use kinds::matching::{selects, tolerates};
use kinds::selector;

use super::{Candidate, filter};
use crate::snapshot::{NodeInfo, Snapshot, likeness};
use crate::view::PodView;

/// Upstream counts a container without requests as this much, so that such pods are spread as well.
const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// The best of the nodes that are possible.
pub(super) fn best<'n>(
    candidate: &Candidate<'_>,
    nodes: &[&'n NodeInfo],
    snapshot: &Snapshot,
    tie: u64,
) -> Option<&'n NodeInfo> {
    if let [only] = nodes {
        return Some(only);
    }
    let spread = spread_scores(candidate.pod, nodes, snapshot);
    let scored: Vec<(i64, &NodeInfo)> = nodes
        .iter()
        .zip(spread)
        .map(|(info, spread)| {
            let (least, balance) = resources(candidate, info);
            let score = least
                + balance
                + locality(candidate.pod, info)
                + 2 * spread
                + 2 * preferred(candidate.pod, info)
                + 3 * untainted(candidate.pod, info)
                + 2 * equipped(candidate, info);
            (score, *info)
        })
        .collect();
    let top = scored.iter().map(|(score, _)| *score).max()?;
    let equal: Vec<&NodeInfo> =
        scored.iter().filter(|(score, _)| *score == top).map(|(_, info)| *info).collect();
    let at = usize::try_from(tie.checked_rem(equal.len() as u64)?).ok()?;
    equal.get(at).copied()
}

/// How much is left, and how evenly processor and memory are used.
fn resources(candidate: &Candidate<'_>, info: &NodeInfo) -> (i64, i64) {
    let count = i64::try_from(candidate.pod.spec.containers.len()).unwrap_or_default();
    let share = |resource: &str, default: i64| {
        let has = info.allocatable.get(resource).copied().unwrap_or_default();
        let used = info.used.get(resource).copied().unwrap_or_default();
        let needed = match candidate.needs.get(resource).copied().unwrap_or_default() {
            0 => default * count,
            needed => needed,
        };
        let crowd = i64::try_from(info.pods.len()).unwrap_or_default() * default;
        if has == 0 { 1.0 } else { ((used.max(crowd) + needed) as f64 / has as f64).min(1.0) }
    };
    let (cpu, memory) = (share("cpu", DEFAULT_CPU), share("memory", DEFAULT_MEMORY));
    let least = ((1.0 - cpu) + (1.0 - memory)) * 50.0;
    let balance = (1.0 - (cpu - memory).abs() / 2.0) * 100.0;
    (least as i64, balance as i64)
}

/// Images that need not be fetched: nothing below 23 MiB counts, everything above 1,000 MiB the same.
fn locality(pod: &PodView, info: &NodeInfo) -> i64 {
    const LEAST: i64 = 23 << 20;
    const MOST: i64 = 1000 << 20;
    let Some(node) = &info.node else { return 0 };
    let known = |image: &str| {
        let tagged = if image.rsplit('/').next().is_some_and(|name| name.contains(':')) {
            image.to_owned()
        } else {
            format!("{image}:latest")
        };
        let found = node.status.images.iter().find(|there| {
            there.names.iter().any(|name| *name == tagged || name.ends_with(&format!("/{tagged}")))
        });
        found.map_or(0, |image| image.size_bytes)
    };
    let total: i64 = pod.spec.containers.iter().map(|container| known(&container.image)).sum();
    (total.clamp(LEAST, MOST) - LEAST) * 100 / (MOST - LEAST)
}

fn preferred(pod: &PodView, info: &NodeInfo) -> i64 {
    let Some(node) = &info.node else { return 0 };
    let affinity = pod.spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let terms =
        affinity.and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution.as_deref());
    let terms = terms.unwrap_or_default();
    let all: i64 = terms.iter().map(|term| i64::from(term.weight)).sum();
    let met: i64 = terms
        .iter()
        .filter(|term| selects(&term.preference, &node.metadata.name, &node.metadata.labels))
        .map(|term| i64::from(term.weight))
        .sum();
    if all == 0 { 0 } else { met * 100 / all }
}

fn untainted(pod: &PodView, info: &NodeInfo) -> i64 {
    let Some(node) = &info.node else { return 0 };
    let disliked = node
        .spec
        .taints
        .iter()
        .filter(|taint| taint.effect == "PreferNoSchedule")
        .filter(|taint| !pod.spec.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
        .count();
    100 - 50 * i64::try_from(disliked).unwrap_or(2).min(2)
}

fn equipped(candidate: &Candidate<'_>, info: &NodeInfo) -> i64 {
    let name = info.node.as_ref().map(|node| node.metadata.name.as_str()).unwrap_or_default();
    candidate.equipped.get(name).copied().unwrap_or_default()
}

/// Pods with the same labels are kept apart: by the pod's own soft constraints, or by default over nodes.
fn spread_scores(pod: &PodView, nodes: &[&NodeInfo], snapshot: &Snapshot) -> Vec<i64> {
    let soft: Vec<_> = pod
        .spec
        .topology_spread_constraints
        .iter()
        .filter(|rule| rule.when_unsatisfiable == "ScheduleAnyway")
        .collect();
    if soft.is_empty() {
        let likeness = likeness(pod);
        return rank(nodes.iter().map(|info| likeness.map_or(0, |likeness| info.alike(likeness))).collect());
    }
    let counts: Vec<i64> = nodes
        .iter()
        .map(|info| {
            let Some(node) = &info.node else { return 0 };
            soft.iter()
                .map(|rule| {
                    let selected = |other: &PodView| {
                        other.metadata.namespace == pod.metadata.namespace
                            && selector::matches(rule.label_selector.as_ref(), &other.metadata.labels)
                    };
                    let domains = filter::domains(snapshot, &rule.topology_key, selected);
                    let domain = node.metadata.labels.get(&rule.topology_key);
                    domain.and_then(|domain| domains.get(domain)).copied().unwrap_or_default()
                })
                .sum()
        })
        .collect();
    rank(counts)
}

/// The fewer there are, the better.
fn rank(counts: Vec<i64>) -> Vec<i64> {
    let most = counts.iter().copied().max().unwrap_or_default();
    counts.into_iter().map(|count| if most == 0 { 100 } else { (most - count) * 100 / most }).collect()
}
