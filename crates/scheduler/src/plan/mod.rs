//! Where a pod goes. Pure: a snapshot in, a node or the reasons against all of them out.

pub mod claims;
pub mod devices;
pub mod extended;
mod filter;
pub mod preempt;
pub mod ready;
mod score;
pub mod volumes;

use std::collections::BTreeMap;

use claims::{Needs, Offer};
use devices::{Refusal, Site};
use filter::Against;
use volumes::{Found, Wanted};

use crate::snapshot::{Amounts, NodeInfo, Snapshot, requests};
use crate::view::{NodeView, PodView};

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
    /// Nobody looked: there are no nodes.
    Unasked,
    /// The pod needs no devices, or those that it needs are not even known.
    Unknown,
    /// There was nothing to free.
    Nothing,
    /// A claim was freed that was in the way.
    Freed,
    /// The claim that an earlier attempt had made was deleted.
    Deleted,
}

impl Relief {
    /// As it stands behind the reasons, in upstream's words; empty if nothing was done.
    pub fn shown(self) -> &'static str {
        match self {
            Self::Unasked | Self::Unknown | Self::Nothing => "",
            Self::Freed => "deallocation of ResourceClaim completed",
            Self::Deleted => "deletion of ResourceClaim completed",
        }
    }
}

/// What a pod wants of a node beside room.
#[derive(Clone, Copy, Default)]
pub struct Wants<'w> {
    /// Devices.
    pub devices: Option<&'w Needs<'w>>,
    /// Volumes.
    pub volumes: Option<&'w Wanted<'w>>,
}

/// A decision, with what it means for the pod's claims.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// The decision.
    pub decision: Decision,
    /// What the node offers.
    pub offer: Offer,
    /// What claims of volumes get there.
    pub volumes: Found,
    /// Whether volumes are among the reasons against it.
    pub by_volumes: bool,
    /// Claims (by their place among the pod's) that are allocated where the pod cannot go.
    pub blocking: Vec<usize>,
    /// Nodes that could take it if others made way, by name.
    pub crowded: Vec<String>,
}

impl Placement {
    fn of(decision: Decision) -> Self {
        let (offer, volumes) = (Offer::default(), Found::default());
        let (blocking, crowded) = (Vec::new(), Vec::new());
        Self { decision, offer, volumes, by_volumes: false, blocking, crowded }
    }

    fn on(node: &NodeView, offer: Offer, wants: Wants<'_>) -> Self {
        // It has just been asked.
        let found = wants.volumes.and_then(|wanted| volumes::on_node(wanted, site(node)).ok());
        let volumes = found.unwrap_or_default();
        Self { offer, volumes, ..Self::of(Decision::Node(node.metadata.name.clone())) }
    }
}

fn site(node: &NodeView) -> Site<'_> {
    Site { name: &node.metadata.name, labels: &node.metadata.labels }
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
    /// What it needs of volumes.
    volumes: Option<&'p Wanted<'p>>,
    /// Whether another pod has a claim that this one wants for itself.
    in_use: bool,
}

impl<'p> Candidate<'p> {
    fn new(pod: &'p PodView, wants: Wants<'p>, snapshot: &Snapshot) -> Self {
        let repelled = filter::repelled(pod, snapshot);
        let special = wants.devices.and_then(|needs| needs.special.as_ref());
        let backed = special.map(|special| &special.backed);
        let volumes = wants.volumes;
        let in_use =
            volumes.is_some_and(|wanted| wanted.exclusive.iter().any(|claim| snapshot.is_claimed(claim)));
        let equipped = BTreeMap::new();
        Self { pod, needs: requests(pod), backed, repelled, equipped, volumes, in_use }
    }
}

/// What a node says to a pod.
enum Word {
    /// It takes the pod, and offers this.
    Fits(Offer),
    /// Why not.
    Against(Against),
    /// It would, but it cannot give what the pod's claims ask for; why.
    Unequipped(String),
    /// It cannot be said, since something is wrong.
    Failed(String),
}

fn ask(candidate: &Candidate<'_>, wants: Wants<'_>, node: &NodeInfo, snapshot: &Snapshot) -> Word {
    if let Some(against) = filter::against(candidate, node, snapshot) {
        return Word::Against(against);
    }
    let (Some(needs), Some(info)) = (wants.devices, node.node.as_deref()) else {
        return Word::Fits(Offer::default());
    };
    match claims::on_node(needs, candidate.pod, &candidate.needs, site(info), &node.allocatable) {
        Ok(offer) => Word::Fits(offer),
        Err(Refusal::Node(why)) => Word::Unequipped(why),
        Err(Refusal::Error(why)) => {
            Word::Failed(format!("running \"DynamicResources\" filter plugin: {why}"))
        }
    }
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
    place(snapshot, pod, Wants::default(), tie).decision
}

/// Chooses a node. `tie` breaks ties between equally good ones, and says where in a large cluster to begin to look.
pub fn place(snapshot: &Snapshot, pod: &PodView, wants: Wants<'_>, tie: u64) -> Placement {
    let needs = wants.devices;
    let mut candidate = Candidate::new(pod, wants, snapshot);
    // What was freed for it comes first.
    let awaited = snapshot.node(&pod.status.nominated_node_name);
    if let Some(node) = awaited
        && let Some(info) = node.node.as_deref()
        && let Word::Fits(offer) = ask(&candidate, wants, node, snapshot)
    {
        return Placement::on(info, offer, wants);
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    let mut given: BTreeMap<String, Offer> = BTreeMap::new();
    let (mut blocking, mut crowded, mut by_volumes) = (Vec::new(), Vec::new(), false);
    let total = snapshot.nodes().count();
    let enough = enough(total);
    let first = usize::try_from(tie.checked_rem(total as u64).unwrap_or_default()).unwrap_or_default();
    for node in snapshot.nodes().skip(first).chain(snapshot.nodes().take(first)) {
        if feasible.len() >= enough {
            break;
        }
        let Some(info) = node.node.as_deref() else { continue };
        match ask(&candidate, wants, node, snapshot) {
            Word::Fits(offer) => {
                if needs.is_some() {
                    given.insert(info.metadata.name.clone(), offer);
                }
                feasible.push(node);
            }
            Word::Unequipped(why) => {
                blocking.extend(needs.into_iter().flat_map(|needs| claims::unavailable(needs, site(info))));
                *reasons.entry(why).or_default() += 1;
            }
            Word::Against(against) => {
                by_volumes |= against.by_volumes;
                if !against.lasts {
                    crowded.push(info.metadata.name.clone());
                }
                against.reasons.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
            }
            Word::Failed(why) => return Placement::of(Decision::Failed(why)),
        }
    }
    if let Some(needs) = needs {
        candidate.equipped = claims::scores(&needs.claims, &given);
    }
    let best = score::best(&candidate, &feasible, snapshot, tie).and_then(|info| info.node.as_ref());
    if let Some(node) = best {
        let offer = given.remove(&node.metadata.name).unwrap_or_default();
        return Placement { blocking, crowded, ..Placement::on(node, offer, wants) };
    }
    let relief = match needs {
        _ if total == 0 => Relief::Unasked,
        None => Relief::Unknown,
        Some(_) => Relief::Nothing,
    };
    let decision = Decision::Unschedulable(unschedulable(total, &reasons), relief);
    Placement { by_volumes, blocking, crowded, ..Placement::of(decision) }
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
