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
}

/// Chooses a node. `tie` breaks ties between equally good ones.
pub fn decide(snapshot: &Snapshot, pod: &PodView, tie: u64) -> Decision {
    let candidate = Candidate { pod, needs: requests(pod) };
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    let mut total = 0;
    for node in snapshot.nodes() {
        total += 1;
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
