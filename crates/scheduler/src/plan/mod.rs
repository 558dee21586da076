//! Where a pod goes. Pure: a snapshot in, a node or the reasons against all of them out.

mod filter;
mod score;
mod select;

use std::collections::BTreeMap;

use crate::snapshot::{Amounts, NodeInfo, Snapshot, requests};
use crate::view::PodView;

/// What was found for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This node.
    Node(String),
    /// None; in upstream's words.
    Unschedulable(String),
}

/// A pod that looks for a node, with what every node is compared against.
pub struct Candidate<'p> {
    /// The pod.
    pub pod: &'p PodView,
    /// What it needs.
    pub needs: Amounts,
    /// Labels of nodes from which pods that are there keep it away.
    repelled: Vec<(String, String)>,
}

/// How many possible nodes are enough to choose among (upstream's `numFeasibleNodesToFind`): all of a small cluster,
/// a part of a large one.
fn enough(nodes: usize) -> usize {
    const ALWAYS: usize = 100;
    const LEAST_PERCENT: usize = 5;
    if nodes < ALWAYS {
        return nodes;
    }
    let percent = 50usize.saturating_sub(nodes / 125).max(LEAST_PERCENT);
    (nodes * percent / 100).max(ALWAYS)
}

/// Chooses a node. `tie` breaks ties between equally good ones, and says where in a large cluster to begin to look.
pub fn decide(snapshot: &Snapshot, pod: &PodView, tie: u64) -> Decision {
    let candidate = Candidate { pod, needs: requests(pod), repelled: filter::repelled(pod, snapshot) };
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    let total = snapshot.nodes().count();
    let enough = enough(total);
    let first = usize::try_from(tie.checked_rem(total as u64).unwrap_or_default()).unwrap_or_default();
    for node in snapshot.nodes().skip(first).chain(snapshot.nodes().take(first)) {
        if feasible.len() >= enough {
            break;
        }
        match filter::against(&candidate, node, snapshot) {
            None => feasible.push(node),
            Some(why) => why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1),
        }
    }
    let best = score::best(&candidate, &feasible, snapshot, tie);
    match best.and_then(|info| info.node.as_ref()) {
        Some(node) => Decision::Node(node.metadata.name.clone()),
        None if total == 0 => Decision::Unschedulable("no nodes available to schedule pods".to_owned()),
        None => {
            let mut parts: Vec<String> =
                reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            parts.sort();
            Decision::Unschedulable(format!("0/{total} nodes are available: {}.", parts.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests;
