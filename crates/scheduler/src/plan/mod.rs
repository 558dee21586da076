//! Where a pod goes. Pure: a snapshot in, a node or the reasons against all of them out.

pub mod claims;
pub mod devices;
pub mod extended;
mod filter;
pub mod ready;
mod score;
mod select;

use std::collections::BTreeMap;

use claims::{Needs, Offer};
use devices::{Refusal, Site};

use crate::snapshot::{Amounts, NodeInfo, Snapshot, requests};
use crate::view::PodView;

/// What was found for a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This node.
    Node(String),
    /// None; in upstream's words, without what was done about it.
    Unschedulable(String, Relief),
    /// It cannot be said, since something is wrong; in upstream's words.
    Failed(String),
}

/// What was done to make a pod schedulable that has no node (`DynamicResources`' `PostFilter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relief {
    /// Nobody looked: the pod needs no devices.
    Unasked,
    /// What it needs is not even known, or cannot be had on any node.
    Unknown,
    /// There was nothing to free.
    Nothing,
    /// A claim was freed that was in the way.
    Freed,
    /// The claim that an earlier attempt had made was deleted.
    Deleted,
}

impl Relief {
    /// As it stands behind the reasons, in upstream's words.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Unasked => "",
            Self::Unknown => " no new claims to deallocate",
            Self::Nothing => " still not schedulable",
            Self::Freed => " deallocation of ResourceClaim completed",
            Self::Deleted => " deletion of ResourceClaim completed",
        }
    }
}

/// A decision, with what it means for the pod's claims.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The decision.
    pub decision: Decision,
    /// What the node offers.
    pub offer: Offer,
    /// Claims (by their place among the pod's) that are allocated where the pod cannot go.
    pub blocking: Vec<usize>,
}

/// A pod that looks for a node, with what every node is compared against.
pub struct Candidate<'p> {
    /// The pod.
    pub pod: &'p PodView,
    /// What it needs.
    pub needs: Amounts,
    /// Resources that devices may stand for, where a node has none of its own.
    backed: Option<&'p extended::Backed>,
    /// Labels of nodes from which pods that are there keep it away.
    repelled: Vec<(String, String)>,
    /// How good nodes are by the devices that they have, 0 to 100; empty for pods without claims.
    equipped: BTreeMap<String, i64>,
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

/// Chooses a node for a pod without claims.
pub fn decide(snapshot: &Snapshot, pod: &PodView, tie: u64) -> Decision {
    place(snapshot, pod, None, tie).decision
}

/// Chooses a node. `tie` breaks ties between equally good ones, and says where in a large cluster to begin to look.
pub fn place(snapshot: &Snapshot, pod: &PodView, needs: Option<&Needs<'_>>, tie: u64) -> Placement {
    let repelled = filter::repelled(pod, snapshot);
    let backed = needs.and_then(|needs| needs.special.as_ref()).map(|special| &special.backed);
    let mut candidate = Candidate { pod, needs: requests(pod), backed, repelled, equipped: BTreeMap::new() };
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    let mut given: BTreeMap<String, Offer> = BTreeMap::new();
    let mut blocking = Vec::new();
    let total = snapshot.nodes().count();
    let enough = enough(total);
    let first = usize::try_from(tie.checked_rem(total as u64).unwrap_or_default()).unwrap_or_default();
    for node in snapshot.nodes().skip(first).chain(snapshot.nodes().take(first)) {
        if feasible.len() >= enough {
            break;
        }
        if let Some(why) = filter::against(&candidate, node, snapshot) {
            why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
            continue;
        }
        if let (Some(needs), Some(info)) = (needs, node.node.as_deref()) {
            let site = Site { name: &info.metadata.name, labels: &info.metadata.labels };
            match claims::on_node(needs, pod, &candidate.needs, site, &node.allocatable) {
                Ok(offer) => drop(given.insert(info.metadata.name.clone(), offer)),
                Err(Refusal::Node(why)) => {
                    blocking.extend(claims::unavailable(needs, site));
                    *reasons.entry(why).or_default() += 1;
                    continue;
                }
                Err(Refusal::Error(why)) => {
                    let why = format!("running \"DynamicResources\" filter plugin: {why}");
                    return Placement { decision: Decision::Failed(why), offer: Offer::default(), blocking };
                }
            }
        }
        feasible.push(node);
    }
    if let Some(needs) = needs {
        candidate.equipped = claims::scores(&needs.claims, &given);
    }
    let best = score::best(&candidate, &feasible, snapshot, tie).and_then(|info| info.node.as_ref());
    let offer = best.and_then(|node| given.remove(&node.metadata.name)).unwrap_or_default();
    let decision = match best {
        Some(node) => Decision::Node(node.metadata.name.clone()),
        None => {
            let relief = if needs.is_some() { Relief::Nothing } else { Relief::Unasked };
            Decision::Unschedulable(unschedulable(total, &reasons), relief)
        }
    };
    Placement { decision, offer, blocking }
}

/// Why no node does, in upstream's words.
fn unschedulable(total: usize, reasons: &BTreeMap<String, usize>) -> String {
    if total == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut parts: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    parts.sort();
    format!("0/{total} nodes are available: {}.", parts.join(", "))
}

#[cfg(test)]
mod tests;
