//! Where a pod goes. Pure: a snapshot in, a node or the reasons against all of them out.

mod affinity;
pub mod claims;
mod counts;
pub mod devices;
pub mod extended;
mod filter;
mod named;
pub mod preempt;
pub mod ready;
mod score;
mod spread;
pub mod volumes;

use std::collections::BTreeMap;

use affinity::Neighbours;
use claims::{Needs, Offer};
use devices::{Refusal, Site};
use filter::Against;
use named::{Named, named};
pub use spread::Alike;
use spread::Hard;
use volumes::{Found, Wanted};

use crate::snapshot::{self, Amounts, NodeInfo, Snapshot, requests};
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
    /// To be apart from pods that are alike.
    pub alike: Option<&'w Alike>,
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
    /// Whether other pods could help by being there.
    pub by_others: bool,
    /// Claims (by their place among the pod's) that are allocated where the pod cannot go.
    pub blocking: Vec<usize>,
    /// Nodes that could take it if others made way, by name.
    pub crowded: Vec<String>,
}

impl Placement {
    fn of(decision: Decision) -> Self {
        let (offer, volumes) = (Offer::default(), Found::default());
        let (blocking, crowded) = (Vec::new(), Vec::new());
        Self { decision, offer, volumes, by_volumes: false, by_others: false, blocking, crowded }
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
    /// How good nodes are by the devices that they have, 0 to 100; empty for pods without claims.
    equipped: BTreeMap<String, i64>,
    /// What it needs of volumes.
    volumes: Option<&'p Wanted<'p>>,
    /// How often other pods name claims that this one wants for itself.
    clashes: i64,
    /// Pods that are alike.
    alike: Option<&'p Alike>,
    spread: Hard<'p>,
    neighbours: Neighbours,
}

impl<'p> Candidate<'p> {
    fn new(pod: &'p PodView, wants: Wants<'p>, snapshot: &Snapshot) -> Self {
        let special = wants.devices.and_then(|needs| needs.special.as_ref());
        let exclusive = wants.volumes.into_iter().flat_map(|wanted| &wanted.exclusive);
        let clashes: usize = exclusive.map(|claim| snapshot.claims(claim)).sum();
        Self {
            pod,
            needs: requests(pod),
            backed: special.map(|special| &special.backed),
            equipped: BTreeMap::new(),
            volumes: wants.volumes,
            clashes: i64::try_from(clashes).unwrap_or(i64::MAX),
            alike: wants.alike,
            spread: Hard::new(pod, snapshot),
            neighbours: Neighbours::new(pod, snapshot),
        }
    }

    /// Counts another pod on a node as well (1), or not any more (-1).
    fn change(&mut self, other: &PodView, info: &NodeInfo, by: i64, snapshot: &Snapshot) {
        if let Some(wanted) = self.volumes.filter(|wanted| !wanted.exclusive.is_empty()) {
            let clashes = snapshot::named(other).filter(|claim| wanted.exclusive.contains(claim)).count();
            self.clashes += by * i64::try_from(clashes).unwrap_or_default();
        }
        self.spread.change(other, info, by);
        self.neighbours.change(self.pod, other, info, by, snapshot);
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

/// Asks a node, on which pods that matter no less and wait for it count as if they were there: what was freed for them
/// is not to be taken. But nothing may rest on them, as they may go elsewhere.
fn ask(candidate: &mut Candidate<'_>, wants: Wants<'_>, node: &NodeInfo, snapshot: &Snapshot) -> Word {
    let Some(named) = node.node.as_ref().map(|node| &node.metadata.name) else {
        return Word::Against(Against::lasting("node not found"));
    };
    let kept = snapshot.kept_for(named, candidate.pod);
    if kept.is_empty() {
        return ask_plainly(candidate, wants, node);
    }
    let mut full = node.clone();
    for other in &kept {
        candidate.change(other, node, 1, snapshot);
        full.put(other.clone());
    }
    let word = ask_plainly(candidate, wants, &full);
    kept.iter().for_each(|other| candidate.change(other, node, -1, snapshot));
    match word {
        Word::Fits(_) => ask_plainly(candidate, wants, node),
        word => word,
    }
}

fn ask_plainly(candidate: &Candidate<'_>, wants: Wants<'_>, node: &NodeInfo) -> Word {
    if let Some(against) = filter::against(candidate, node) {
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

/// Whether a pod that has no node because of others may have one when this one comes or changes.
pub fn concerns(pod: &PodView, other: &PodView, snapshot: &Snapshot) -> bool {
    affinity::concerns(pod, other, snapshot) || spread::concerns(pod, other)
}

/// Chooses a node for a pod without claims.
pub fn decide(snapshot: &Snapshot, pod: &PodView, tie: u64) -> Decision {
    place(snapshot, pod, Wants::default(), tie).decision
}

/// Why nodes do not do.
#[derive(Default)]
struct Refused {
    reasons: BTreeMap<String, usize>,
    /// Claims (by their place among the pod's) that are allocated where the pod cannot go.
    blocking: Vec<usize>,
    /// Nodes that could take it if others made way, by name.
    crowded: Vec<String>,
    by_volumes: bool,
    by_others: bool,
}

impl Refused {
    fn by(&mut self, node: &NodeView, against: Against) {
        self.by_volumes |= against.by_volumes;
        self.by_others |= against.by_others;
        if !against.lasts {
            self.crowded.push(node.metadata.name.clone());
        }
        against.reasons.into_iter().for_each(|reason| *self.reasons.entry(reason).or_default() += 1);
    }
}

/// The nodes that are asked, in their order: all, beginning somewhere, or those that the pod names. How many they are.
fn asked<'s>(
    snapshot: &'s Snapshot,
    only: &'s Named<'_>,
    tie: u64,
) -> (usize, Box<dyn Iterator<Item = &'s NodeInfo> + 's>) {
    match only {
        Named::Only(names) => {
            let known = || names.iter().filter_map(|name| snapshot.node(name));
            (known().count(), Box::new(known()))
        }
        Named::Nothing => (0, Box::new(std::iter::empty())),
        Named::Any => (snapshot.len(), Box::new(snapshot.nodes_from(tie))),
    }
}

/// Chooses a node. `tie` breaks ties between equally good ones, and says where in a large cluster to begin to look.
pub fn place(snapshot: &Snapshot, pod: &PodView, wants: Wants<'_>, tie: u64) -> Placement {
    let needs = wants.devices;
    let total = snapshot.len();
    let only = named(pod);
    if only == Named::Nothing && total > 0 {
        let why = format!("0/{total} nodes are available: pod affinity terms conflict.");
        return Placement::of(Decision::Unschedulable(why, Relief::Unknown));
    }
    let mut candidate = Candidate::new(pod, wants, snapshot);
    // What was freed for it comes first.
    let awaited = snapshot.node(&pod.status.nominated_node_name);
    if let Some(node) = awaited
        && let Some(info) = node.node.as_deref()
        && let Word::Fits(offer) = ask(&mut candidate, wants, node, snapshot)
    {
        return Placement::on(info, offer, wants);
    }
    let mut refused = Refused::default();
    let mut feasible: Vec<&NodeInfo> = Vec::new();
    let mut given: BTreeMap<String, Offer> = BTreeMap::new();
    let (count, nodes) = asked(snapshot, &only, tie);
    let enough = enough(count);
    for node in nodes {
        if feasible.len() >= enough {
            break;
        }
        let Some(info) = node.node.as_deref() else { continue };
        match ask(&mut candidate, wants, node, snapshot) {
            Word::Fits(offer) => {
                if needs.is_some() {
                    given.insert(info.metadata.name.clone(), offer);
                }
                feasible.push(node);
            }
            Word::Unequipped(why) => {
                let unavailable = needs.into_iter().flat_map(|needs| claims::unavailable(needs, site(info)));
                refused.blocking.extend(unavailable);
                *refused.reasons.entry(why).or_default() += 1;
            }
            Word::Against(against) => refused.by(info, against),
            Word::Failed(why) => return Placement::of(Decision::Failed(why)),
        }
    }
    if let Some(needs) = needs {
        candidate.equipped = claims::scores(&needs.claims, &given);
    }
    let best = score::best(&candidate, &feasible, snapshot, tie).and_then(|info| info.node.as_ref());
    let Refused { mut reasons, blocking, crowded, by_volumes, by_others } = refused;
    if let Some(node) = best {
        let offer = given.remove(&node.metadata.name).unwrap_or_default();
        return Placement { blocking, crowded, ..Placement::on(node, offer, wants) };
    }
    if count < total {
        reasons.insert("node(s) didn't satisfy plugin(s) [NodeAffinity]".to_owned(), total - count);
    }
    let relief = match needs {
        _ if total == 0 => Relief::Unasked,
        None => Relief::Unknown,
        Some(_) => Relief::Nothing,
    };
    let decision = Decision::Unschedulable(unschedulable(total, &reasons), relief);
    Placement { by_volumes, by_others, blocking, crowded, ..Placement::of(decision) }
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
