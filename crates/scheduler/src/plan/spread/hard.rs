//! Rules that rule out nodes.

use std::collections::BTreeMap;

use super::{Rule, own};
use crate::plan::filter::Against;
use crate::snapshot::{NodeInfo, Snapshot};
use crate::view::PodView;

/// No node is in this domain.
const NOWHERE: i64 = i64::MIN;

/// What one rule counts.
#[derive(Debug)]
struct Counted<'p> {
    rule: Rule<'p>,
    /// Whether the pod counts itself.
    own: i64,
    /// How many there are, by the number of a domain's label.
    domains: Vec<i64>,
    /// How many domains have so many.
    by_count: BTreeMap<i64, usize>,
    known: usize,
}

impl Counted<'_> {
    fn get(&self, domain: u32) -> Option<i64> {
        self.domains.get(domain as usize).copied().filter(|count| *count != NOWHERE)
    }

    fn add(&mut self, domain: u32, by: i64) {
        let at = domain as usize;
        if at >= self.domains.len() {
            self.domains.resize(at + 1, NOWHERE);
        }
        if let Some(count) = self.domains.get_mut(at) {
            *count = by + if *count == NOWHERE { 0 } else { *count };
        }
    }

    /// As [`Self::add`], with the counts of counts.
    fn change(&mut self, domain: u32, by: i64) {
        if let Some(count) = self.get(domain) {
            let domains = self.by_count.entry(count).or_default();
            *domains = domains.saturating_sub(1);
            if *domains == 0 {
                self.by_count.remove(&count);
            }
        } else {
            self.known += 1;
        }
        self.add(domain, by);
        *self.by_count.entry(self.get(domain).unwrap_or_default()).or_default() += 1;
    }

    fn summed_up(mut self) -> Self {
        for &count in self.domains.iter().filter(|count| **count != NOWHERE) {
            *self.by_count.entry(count).or_default() += 1;
            self.known += 1;
        }
        self
    }

    /// The fewest in a domain; none at all if there are too few domains.
    fn least(&self) -> i64 {
        let least = self.by_count.first_key_value().map_or(0, |(count, _)| *count);
        if self.known < self.rule.least_domains { 0 } else { least }
    }
}

/// What all hard rules of a pod count.
#[derive(Debug)]
pub(in crate::plan) struct Hard<'p> {
    pod: &'p PodView,
    rules: Vec<Counted<'p>>,
}

impl<'p> Hard<'p> {
    pub fn new(pod: &'p PodView, snapshot: &Snapshot) -> Self {
        let counted = |rule: Rule<'p>| {
            let own = i64::from(rule.selection.includes(&pod.metadata.labels));
            let domains = vec![NOWHERE; snapshot.pairs()];
            Counted { rule, own, domains, by_count: BTreeMap::new(), known: 0 }
        };
        let mut hard =
            Self { pod, rules: own(pod, "DoNotSchedule", snapshot).into_iter().map(counted).collect() };
        if hard.rules.is_empty() {
            return hard;
        }
        for info in snapshot.nodes() {
            hard.in_domains(info, |counted, domain| counted.add(domain, counted.rule.count(info)));
        }
        hard.rules = hard.rules.into_iter().map(Counted::summed_up).collect();
        hard
    }

    /// Does something for each rule that concerns a node which is in a domain of all of them.
    fn in_domains(&mut self, info: &NodeInfo, mut act: impl FnMut(&mut Counted<'p>, u32)) {
        let Some(node) = info.node.as_deref() else { return };
        if self.rules.iter().any(|counted| counted.rule.domain(info).is_none()) {
            return;
        }
        for counted in &mut self.rules {
            if let Some(domain) = counted.rule.domain(info).filter(|_| counted.rule.concerns(self.pod, node))
            {
                act(counted, domain);
            }
        }
    }

    /// Counts another pod on a node as well (1), or not any more (-1).
    pub fn change(&mut self, other: &PodView, info: &NodeInfo, by: i64) {
        if self.rules.is_empty() || other.metadata.namespace != self.pod.metadata.namespace {
            return;
        }
        self.in_domains(info, |counted, domain| {
            if counted.rule.selection.includes(&other.metadata.labels) {
                counted.change(domain, by);
            }
        });
    }

    /// Why the pod cannot go to a node.
    pub fn against(&self, info: &NodeInfo) -> Option<Against> {
        for counted in &self.rules {
            let Some(domain) = counted.rule.domain(info) else {
                let why = "node(s) didn't match pod topology spread constraints (missing required label)";
                return Some(Against::lasting(why));
            };
            let here = counted.get(domain).unwrap_or_default();
            if here + counted.own - counted.least() > counted.rule.max_skew {
                return Some(Against::passing("node(s) didn't match pod topology spread constraints"));
            }
        }
        None
    }
}
