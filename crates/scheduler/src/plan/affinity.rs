//! Rules of pods about other pods (upstream's `InterPodAffinity`). All pods are counted once for each decision, by the
//! labels of their nodes; then each node is looked at in a few steps.

use k8s_openapi::api::core::v1::{PodAffinityTerm, WeightedPodAffinityTerm};
use kinds::selector;

use super::counts::{Counts, Shares, any};
use super::filter::Against;
use crate::snapshot::{
    Kin, NodeInfo, Snapshot, preferred_apart, preferred_near, required_apart, required_near,
};
use crate::view::PodView;

/// So much counts that a pod which is there must be near this one (`hardPodAffinityWeight`).
const MUST_BE_NEAR: i64 = 1;

/// Whether a term of a pod in the namespace `owner` is about pods with these labels in that namespace.
fn covers(term: &PodAffinityTerm, owner: &str, kin: &Kin, snapshot: &Snapshot) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let by_labels = term.namespace_selector.as_ref();
    let in_scope = match (named, by_labels) {
        ([], None) => kin.namespace == owner,
        _ => {
            named.contains(&kin.namespace)
                || by_labels
                    .is_some_and(|labels| selector::matches(Some(labels), snapshot.namespace(&kin.namespace)))
        }
    };
    in_scope && selector::matches(term.label_selector.as_ref(), &kin.labels)
}

fn all_cover(terms: &[PodAffinityTerm], owner: &str, kin: &Kin, snapshot: &Snapshot) -> bool {
    !terms.is_empty() && terms.iter().all(|term| covers(term, owner, kin, snapshot))
}

/// The number of a term's key; `None` if no node has it.
fn key(term: &PodAffinityTerm, snapshot: &Snapshot) -> Option<u32> {
    snapshot.key(&term.topology_key)
}

/// Pods that a pod must be near to or away from, and those that keep it away.
#[derive(Debug)]
pub(super) struct Neighbours {
    kin: Kin,
    /// Pods that all its terms of affinity are about.
    wanted: Counts,
    /// The keys of those terms.
    wanted_keys: Vec<Option<u32>>,
    /// Whether it is such a pod itself.
    is_wanted: bool,
    /// Pods that its terms of anti-affinity are about.
    unwanted: Counts,
    unwanted_keys: Vec<u32>,
    /// Pods whose terms of anti-affinity are about it.
    repelling: Counts,
}

impl Neighbours {
    pub fn new(pod: &PodView, snapshot: &Snapshot) -> Self {
        let kin = Kin::of(pod);
        let affinity = pod.spec.affinity.as_ref();
        let (near, apart) = (required_near(affinity), required_apart(affinity));
        let (mut wanted, mut unwanted, mut repelling) =
            (Shares::default(), Shares::default(), Shares::default());
        if !near.is_empty() || !apart.is_empty() {
            for (number, other) in snapshot.kin().iter() {
                if all_cover(near, &kin.namespace, other, snapshot) {
                    let keys = near.iter().filter_map(|term| key(term, snapshot));
                    keys.for_each(|key| wanted.of_kin(number, key, 1));
                }
                let met = apart.iter().filter(|term| covers(term, &kin.namespace, other, snapshot));
                met.filter_map(|term| key(term, snapshot)).for_each(|key| unwanted.of_kin(number, key, 1));
            }
        }
        for (number, bond) in snapshot.bonds().iter() {
            let terms = required_apart(Some(&bond.affinity)).iter();
            let met = terms.filter(|term| covers(term, &bond.namespace, &kin, snapshot));
            met.filter_map(|term| key(term, snapshot)).for_each(|key| repelling.of_bond(number, key, 1));
        }
        Self {
            wanted: wanted.counted(snapshot),
            wanted_keys: near.iter().map(|term| key(term, snapshot)).collect(),
            is_wanted: all_cover(near, &kin.namespace, &kin, snapshot),
            unwanted: unwanted.counted(snapshot),
            unwanted_keys: apart.iter().filter_map(|term| key(term, snapshot)).collect(),
            repelling: repelling.counted(snapshot),
            kin,
        }
    }

    /// Why the pod cannot go to a node for others' sake.
    pub fn against(&self, info: &NodeInfo) -> Option<Against> {
        if !self.are_near(info) {
            return Some(Against::lasting("node(s) didn't match pod affinity rules"));
        }
        let mut pairs = self.unwanted_keys.iter().filter_map(|key| info.pair(*key));
        if pairs.any(|pair| self.unwanted.get(pair) > 0) {
            return Some(Against::passing("node(s) didn't match pod anti-affinity rules"));
        }
        any(&self.repelling, info)
            .then(|| Against::passing("node(s) didn't satisfy existing pods anti-affinity rules"))
    }

    fn are_near(&self, info: &NodeInfo) -> bool {
        let mut all = true;
        for key in &self.wanted_keys {
            let Some(pair) = key.and_then(|key| info.pair(key)) else { return false };
            all &= self.wanted.get(pair) > 0;
        }
        // The first of a group that wants to be together has nobody to be with yet.
        all || (self.wanted.is_empty() && self.is_wanted)
    }

    /// Counts another pod on a node as well (1), or not any more (-1).
    pub fn change(&mut self, pod: &PodView, other: &PodView, info: &NodeInfo, by: i64, snapshot: &Snapshot) {
        let affinity = pod.spec.affinity.as_ref();
        let (near, apart) = (required_near(affinity), required_apart(affinity));
        let theirs = required_apart(other.spec.affinity.as_ref());
        if near.is_empty() && apart.is_empty() && theirs.is_empty() {
            return;
        }
        let kin = Kin::of(other);
        let at = |term: &PodAffinityTerm| key(term, snapshot).and_then(|key| info.pair(key));
        for term in theirs.iter().filter(|term| covers(term, &kin.namespace, &self.kin, snapshot)) {
            at(term).into_iter().for_each(|pair| self.repelling.add(pair, by));
        }
        if all_cover(near, &self.kin.namespace, &kin, snapshot) {
            near.iter().filter_map(at).for_each(|pair| self.wanted.add(pair, by));
        }
        for term in apart.iter().filter(|term| covers(term, &self.kin.namespace, &kin, snapshot)) {
            at(term).into_iter().for_each(|pair| self.unwanted.add(pair, by));
        }
    }
}

/// Whether a pod has a rule about another one that it must keep.
pub(super) fn concerns(pod: &PodView, other: &PodView, snapshot: &Snapshot) -> bool {
    let kin = Kin::of(other);
    let affinity = pod.spec.affinity.as_ref();
    let mut terms = required_near(affinity).iter().chain(required_apart(affinity));
    terms.any(|term| covers(term, &pod.metadata.namespace, &kin, snapshot))
}

/// How much pods like each other on each of these nodes, 0 to 100.
pub(super) fn scores(pod: &PodView, nodes: &[&NodeInfo], snapshot: &Snapshot) -> Vec<i64> {
    let counts = liking(pod, snapshot).counted(snapshot);
    if counts.is_empty() {
        return vec![0; nodes.len()];
    }
    let sum = |info: &&NodeInfo| info.pairs().map(|pair| counts.get(pair)).sum::<i64>();
    let sums: Vec<i64> = nodes.iter().map(sum).collect();
    let least = sums.iter().copied().min().unwrap_or_default();
    let range = sums.iter().copied().max().unwrap_or_default() - least;
    let scaled = |sum: i64| (100.0 * ((sum - least) as f64 / range as f64)) as i64;
    sums.into_iter().map(|sum| if range > 0 { scaled(sum) } else { 0 }).collect()
}

/// What each pod that is there adds for its node's labels: by this pod's terms, and by its own.
fn liking(pod: &PodView, snapshot: &Snapshot) -> Shares {
    let kin = Kin::of(pod);
    let affinity = pod.spec.affinity.as_ref();
    let mut shares = Shares::default();
    let own = weighted(preferred_near(affinity), 1).chain(weighted(preferred_apart(affinity), -1));
    for (term, weight) in own {
        let Some(key) = key(term, snapshot) else { continue };
        for (number, _) in
            snapshot.kin().iter().filter(|(_, other)| covers(term, &kin.namespace, other, snapshot))
        {
            shares.of_kin(number, key, weight);
        }
    }
    for (number, bond) in snapshot.bonds().iter() {
        let affinity = Some(&bond.affinity);
        let required = required_near(affinity).iter().map(|term| (term, MUST_BE_NEAR));
        let preferred = weighted(preferred_near(affinity), 1).chain(weighted(preferred_apart(affinity), -1));
        for (term, weight) in
            required.chain(preferred).filter(|(term, _)| covers(term, &bond.namespace, &kin, snapshot))
        {
            if let Some(key) = key(term, snapshot) {
                shares.of_bond(number, key, weight);
            }
        }
    }
    shares
}

fn weighted(terms: &[WeightedPodAffinityTerm], sign: i64) -> impl Iterator<Item = (&PodAffinityTerm, i64)> {
    terms.iter().map(move |term| (&term.pod_affinity_term, sign * i64::from(term.weight)))
}

#[cfg(test)]
mod tests;
