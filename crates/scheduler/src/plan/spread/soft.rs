//! Rules by which nodes are compared.

use super::{Alike, HOSTNAME, Rule, Selection, own};
use crate::snapshot::{NodeInfo, Snapshot};
use crate::view::PodView;

/// How pods spread that say nothing about it: key and how uneven they may be.
const BY_DEFAULT: [(&str, i32); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

/// No node that is compared is in this domain.
const NOWHERE: i64 = i64::MIN;

/// What one rule counts in each domain.
struct Counted<'p> {
    rule: Rule<'p>,
    domains: Vec<i64>,
    /// How much each pod counts: more where there are more domains.
    weight: f64,
}

impl Counted<'_> {
    fn score(&self, info: &NodeInfo) -> f64 {
        let Some(domain) = self.rule.domain(info) else { return 0.0 };
        let count = match self.rule.is_of_hosts {
            true => self.rule.count(info),
            false => self.domains.get(domain as usize).copied().unwrap_or_default(),
        };
        count as f64 * self.weight + (self.rule.max_skew - 1) as f64
    }
}

fn rules<'p>(pod: &'p PodView, alike: Option<&'p Alike>, snapshot: &Snapshot) -> Vec<Rule<'p>> {
    if !pod.spec.topology_spread_constraints.is_empty() {
        return own(pod, "ScheduleAnyway", snapshot);
    }
    let Some(alike) = alike.filter(|alike| !alike.is_empty()) else { return Vec::new() };
    let about = |(key, skew)| Rule::about(pod, key, skew, Selection::Alike(alike), snapshot);
    BY_DEFAULT.into_iter().map(about).collect()
}

/// How well each of these nodes spreads pods that are alike, 0 to 100; `None` for a pod without such rules.
pub(in crate::plan) fn scores(
    pod: &PodView,
    alike: Option<&Alike>,
    nodes: &[&NodeInfo],
    snapshot: &Snapshot,
) -> Option<Vec<i64>> {
    let rules = rules(pod, alike, snapshot);
    if rules.is_empty() {
        return None;
    }
    // A node without a zone has still its own name.
    let needs_all = !pod.spec.topology_spread_constraints.is_empty();
    let ignored = |info: &NodeInfo| needs_all && rules.iter().any(|rule| rule.domain(info).is_none());
    let compared: Vec<bool> = nodes.iter().map(|info| !ignored(info)).collect();
    let kept: Vec<&NodeInfo> =
        nodes.iter().zip(&compared).filter(|(_, compared)| **compared).map(|(info, _)| *info).collect();
    let rules: Vec<Counted<'_>> = rules.into_iter().map(|rule| counted(rule, &kept, snapshot)).collect();
    let rules = count_all(pod, rules, needs_all, snapshot);
    let raw = |info: &NodeInfo| rules.iter().map(|rule| rule.score(info)).sum::<f64>().round() as i64;
    let raw: Vec<Option<i64>> =
        nodes.iter().zip(compared).map(|(info, compared)| compared.then(|| raw(info))).collect();
    Some(scaled(&raw))
}

/// The domains of the nodes that are compared.
fn counted<'p>(rule: Rule<'p>, nodes: &[&NodeInfo], snapshot: &Snapshot) -> Counted<'p> {
    let (mut domains, mut size) = (Vec::new(), nodes.len());
    if !rule.is_of_hosts {
        domains = vec![NOWHERE; snapshot.pairs()];
        let (mut known, mut outside) = (0, false);
        for info in nodes {
            let Some(domain) = rule.domain(info) else {
                outside = true;
                continue;
            };
            if let Some(count) = domains.get_mut(domain as usize).filter(|count| **count == NOWHERE) {
                *count = 0;
                known += 1;
            }
        }
        // Those without a domain are one together.
        size = known + usize::from(outside);
    }
    Counted { rule, domains, weight: ((size + 2) as f64).ln() }
}

/// Counts the pods of all nodes, also of those that are not compared.
fn count_all<'p>(
    pod: &PodView,
    mut rules: Vec<Counted<'p>>,
    needs_all: bool,
    snapshot: &Snapshot,
) -> Vec<Counted<'p>> {
    let is_counted = |counted: &Counted<'_>| !counted.rule.is_of_hosts && !counted.rule.kin.is_empty();
    if !rules.iter().any(is_counted) {
        return rules;
    }
    let keys: Vec<Option<u32>> = rules.iter().map(|counted| counted.rule.key).collect();
    let is_left_out =
        |info: &NodeInfo| needs_all && keys.iter().any(|key| key.and_then(|key| info.pair(key)).is_none());
    for info in snapshot.nodes() {
        let Some(node) = info.node.as_deref() else { continue };
        for counted in rules.iter_mut().filter(|counted| is_counted(counted)) {
            let more = counted.rule.count(info);
            let domain = (more > 0).then(|| counted.rule.domain(info)).flatten();
            let domain = domain.filter(|_| !is_left_out(info) && counted.rule.concerns(pod, node));
            let count = domain.and_then(|domain| counted.domains.get_mut(domain as usize));
            if let Some(count) = count.filter(|count| **count != NOWHERE) {
                *count += more;
            }
        }
    }
    rules
}

/// The fewer, the better; nodes that are not compared are worth nothing.
fn scaled(raw: &[Option<i64>]) -> Vec<i64> {
    let least = raw.iter().flatten().copied().min().unwrap_or(i64::MAX);
    let most = raw.iter().flatten().copied().max().unwrap_or_default().max(0);
    let of = |score: i64| if most == 0 { 100 } else { 100 * (most + least - score) / most };
    raw.iter().map(|score| score.map_or(0, of)).collect()
}
