//! How good a node is: each rule gives 0 to 100, weighted as upstream's default profile weighs it.

mod images;
mod nodes;
mod resources;

use super::{Candidate, affinity, spread};
use crate::snapshot::{NodeInfo, Snapshot};

/// What each rule says of each node, before weights.
#[derive(Debug, Default)]
pub(super) struct Scores {
    rules: Vec<(&'static str, i64, Vec<i64>)>,
}

impl Scores {
    /// Of nodes that are all possible.
    pub fn of(candidate: &Candidate<'_>, nodes: &[&NodeInfo], snapshot: &Snapshot) -> Self {
        let pod = candidate.pod;
        let mut scores = Self::default();
        let mut add = |name, weight, of: Vec<i64>| scores.rules.push((name, weight, of));
        add("TaintToleration", 3, nodes::untainted(pod, nodes));
        add("NodeAffinity", 2, nodes::preferred(pod, nodes));
        add("NodeResourcesFit", 1, resources::least_allocated(candidate, nodes));
        add(
            "PodTopologySpread",
            2,
            spread::scores(pod, candidate.alike, nodes, snapshot).unwrap_or_default(),
        );
        add("InterPodAffinity", 2, affinity::scores(pod, nodes, snapshot));
        add("DynamicResources", 2, nodes.iter().map(|info| equipped(candidate, info)).collect());
        add("NodeResourcesBalancedAllocation", 1, resources::balanced(candidate, nodes));
        add("ImageLocality", 1, images::there(pod, nodes, snapshot));
        scores
    }

    /// The weighted sum of each node.
    pub fn totals(&self, nodes: usize) -> Vec<i64> {
        let mut totals = vec![0; nodes];
        for (_, weight, scores) in &self.rules {
            totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
        }
        totals
    }

    /// What each rule says of one node, weighted.
    fn shown(&self, at: usize) -> Vec<(&'static str, i64)> {
        let of = |(name, weight, scores): &(&'static str, i64, Vec<i64>)| {
            (*name, weight * scores.get(at).copied().unwrap_or_default())
        };
        self.rules.iter().map(of).collect()
    }
}

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
    let scores = Scores::of(candidate, nodes, snapshot);
    let totals = scores.totals(nodes.len());
    if tracing::enabled!(tracing::Level::TRACE) {
        for (at, node) in nodes.iter().enumerate().filter_map(|(at, info)| Some((at, info.node.as_ref()?))) {
            let (pod, node, scores) = (candidate.pod.metadata.key(), &node.metadata.name, scores.shown(at));
            tracing::trace!(pod, node, ?scores, "scored");
        }
    }
    let top = totals.iter().copied().max()?;
    let equal: Vec<&NodeInfo> =
        nodes.iter().zip(&totals).filter(|(_, total)| **total == top).map(|(info, _)| *info).collect();
    let at = usize::try_from(tie.checked_rem(equal.len() as u64)?).ok()?;
    equal.get(at).copied()
}

fn equipped(candidate: &Candidate<'_>, info: &NodeInfo) -> i64 {
    let name = info.node.as_ref().map(|node| node.metadata.name.as_str()).unwrap_or_default();
    candidate.equipped.get(name).copied().unwrap_or_default()
}

/// The largest becomes 100 (`DefaultNormalizeScore`).
fn normalized(mut scores: Vec<i64>) -> Vec<i64> {
    let most = scores.iter().copied().max().unwrap_or_default();
    if most > 0 {
        scores.iter_mut().for_each(|score| *score = 100 * *score / most);
    }
    scores
}

#[cfg(test)]
mod tests;
