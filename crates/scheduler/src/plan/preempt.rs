//! Who has to make way for a pod that no node takes (upstream's `DefaultPreemption`). It looks at copies of nodes, from
//! which it takes pods. No clock, no I/O.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::selector;

use super::filter::Against;
use super::{Candidate, Wants, Word, ask, unschedulable};
use crate::snapshot::{NodeInfo, Snapshot};
use crate::view::{BudgetView, PodView};

/// So many nodes at least are looked at, if there are so many; and so many in a hundred.
const LEAST: usize = 100;
const PERCENT: usize = 10;

/// What came of it.
#[derive(Debug, Clone)]
pub enum Preemption {
    /// Nobody makes way.
    Nobody {
        /// In upstream's words.
        why: String,
        /// Whether the pod does not wait for the node any more on which others made way for it.
        renounced: bool,
    },
    /// These have to leave a node, the most important ones first.
    Victims {
        /// The node.
        node: String,
        /// Who leaves it.
        victims: Vec<Arc<PodView>>,
    },
}

impl Preemption {
    /// As it stands behind the reasons; empty if somebody makes way.
    pub fn shown(&self) -> &str {
        match self {
            Self::Nobody { why, .. } => why,
            Self::Victims { .. } => "",
        }
    }
}

/// One node on which pods could make way.
struct Offered {
    node: String,
    /// The most important first.
    victims: Vec<Arc<PodView>>,
    /// How many of them no budget allows to go.
    violations: usize,
}

/// When its node took a pod; one that waits for it is younger than all others.
fn started(pod: &PodView) -> &str {
    pod.status.start_time.as_deref().unwrap_or("~")
}

/// The more important pod first: by priority, then by age.
fn by_importance(one: &Arc<PodView>, other: &Arc<PodView>) -> Ordering {
    let key = |pod: &PodView| Reverse(pod.spec.priority);
    key(one).cmp(&key(other)).then_with(|| started(one).cmp(started(other)))
}

/// Whether a pod ends because the scheduler has told it to make way.
fn makes_way(pod: &PodView) -> bool {
    let mut conditions = pod.status.conditions.iter();
    pod.metadata.deletion_timestamp.is_some()
        && conditions.any(|noted| {
            noted.kind == "DisruptionTarget"
                && noted.status == "True"
                && noted.reason == "PreemptionByScheduler"
        })
}

/// Why nobody is asked to make way for a pod, if nobody is.
fn ineligible(snapshot: &Snapshot, pod: &PodView, crowded: &[String]) -> Option<&'static str> {
    if pod.spec.preemption_policy == "Never" {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let node = &pod.status.nominated_node_name;
    // A node that has become impossible is not waited for.
    let info = snapshot.node(node).filter(|_| crowded.contains(node))?;
    let waits = info.pods.values().any(|other| other.spec.priority < pod.spec.priority && makes_way(other));
    waits.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// Looks for pods that can make way on the nodes of these names, the only ones on which that would help. `tie` says
/// where to begin.
pub fn search(
    snapshot: &Snapshot,
    pod: &PodView,
    wants: Wants<'_>,
    (crowded, budgets): (&[String], &[Arc<BudgetView>]),
    tie: u64,
) -> Preemption {
    if let Some(why) = ineligible(snapshot, pod, crowded) {
        return Preemption::Nobody { why: format!("preemption: {why}"), renounced: false };
    }
    let site = || Site {
        candidate: Candidate::new(pod, wants, snapshot),
        wants,
        snapshot,
        node: NodeInfo::default(),
    };
    let mut site = (!crowded.is_empty()).then(site);
    let enough = (crowded.len() * PERCENT / 100).max(LEAST);
    let first =
        usize::try_from(tie.checked_rem(crowded.len() as u64).unwrap_or_default()).unwrap_or_default();
    let mut offers: Vec<Offered> = Vec::new();
    let (mut reasons, mut told) = (BTreeMap::new(), 0);
    for node in crowded.iter().cycle().skip(first).take(crowded.len()) {
        if offers.len() >= enough && offers.iter().any(|offer| offer.violations == 0) {
            break;
        }
        let Some(site) = &mut site else { break };
        match site.search(node, budgets) {
            Ok(offer) => offers.push(offer),
            Err(why) => {
                told += 1;
                why.into_iter().for_each(|reason| *reasons.entry(reason).or_default() += 1);
            }
        }
    }
    if let Some(Offered { node, victims, .. }) = best(offers) {
        return Preemption::Victims { node, victims };
    }
    let total = snapshot.len();
    if total > told {
        reasons.insert("Preemption is not helpful for scheduling".to_owned(), total - told);
    }
    Preemption::Nobody {
        why: format!("preemption: {}", unschedulable(total, &reasons)),
        renounced: !pod.status.nominated_node_name.is_empty(),
    }
}

/// A node as it would be without some of its pods.
struct Site<'p> {
    candidate: Candidate<'p>,
    wants: Wants<'p>,
    snapshot: &'p Snapshot,
    node: NodeInfo,
}

impl Site<'_> {
    /// Who would have to leave one node: as few as possible, and nobody whom a budget protects if that can be.
    ///
    /// # Errors
    /// Why it would not help if all left that may be told to.
    fn search(&mut self, name: &str, budgets: &[Arc<BudgetView>]) -> Result<Offered, Vec<String>> {
        self.node = self.snapshot.node(name).cloned().unwrap_or_default();
        let priority = self.candidate.pod.spec.priority;
        let here = self.node.pods.values();
        let mut less: Vec<Arc<PodView>> =
            here.filter(|other| other.spec.priority < priority).cloned().collect();
        if less.is_empty() {
            return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
        }
        less.sort_by(by_importance);
        less.iter().for_each(|other| self.leave(other));
        let found = match self.against() {
            Some(why) => Err(why),
            None => Ok(self.reprieve(protected(&less, budgets))),
        };
        // What the candidate counts is again what it was.
        for other in less.iter().filter(|other| !self.node.pods.contains_key(&other.metadata.uid)) {
            self.candidate.change(other, &self.node, 1, self.snapshot);
        }
        let (mut victims, violations) = found?;
        victims.sort_by(by_importance);
        match victims.is_empty() {
            true => Err(vec![format!("expected at least one victim pod on node {name:?}")]),
            false => Ok(Offered { node: name.to_owned(), victims, violations }),
        }
    }

    fn leave(&mut self, other: &PodView) {
        self.node.take(&other.metadata.uid);
        self.candidate.change(other, &self.node, -1, self.snapshot);
    }

    fn come_back(&mut self, other: &Arc<PodView>) {
        self.node.put(other.clone());
        self.candidate.change(other, &self.node, 1, self.snapshot);
    }

    /// Lets all stay that can, the most important first, and those that budgets protect before the others. Who cannot,
    /// and how many of them are protected.
    fn reprieve(
        &mut self,
        (protected, others): (Vec<Arc<PodView>>, Vec<Arc<PodView>>),
    ) -> (Vec<Arc<PodView>>, usize) {
        let mut victims = Vec::new();
        let mut violations = 0;
        for (pods, are_protected) in [(protected, true), (others, false)] {
            for other in pods {
                self.come_back(&other);
                if self.against().is_some() {
                    self.leave(&other);
                    victims.push(other);
                    violations += usize::from(are_protected);
                }
            }
        }
        (victims, violations)
    }

    /// Why the node does not take the pod as things are; `None` when it does.
    fn against(&mut self) -> Option<Vec<String>> {
        match ask(&mut self.candidate, self.wants, &self.node, self.snapshot) {
            Word::Fits(_) => None,
            Word::Against(Against { reasons, .. }) => Some(reasons),
            Word::Unequipped(why) | Word::Failed(why) => Some(vec![why]),
        }
    }
}

/// Those whom no budget allows to go, and the others; both in the order in which they came.
fn protected(pods: &[Arc<PodView>], budgets: &[Arc<BudgetView>]) -> (Vec<Arc<PodView>>, Vec<Arc<PodView>>) {
    let mut left: Vec<i64> = budgets.iter().map(|budget| budget.status.disruptions_allowed).collect();
    pods.iter().cloned().partition(|pod| {
        let meta = &pod.metadata;
        // The first budget that is used up is enough: later ones are not counted.
        budgets.iter().zip(&mut left).any(|(budget, left)| {
            let is_about = !meta.labels.is_empty()
                && budget.metadata.namespace == meta.namespace
                && budget.spec.selector.as_ref().is_some_and(|selector| *selector != Default::default())
                && selector::matches(budget.spec.selector.as_ref(), &meta.labels)
                && !budget.status.disrupted_pods.contains_key(&meta.name);
            if is_about {
                *left -= 1;
            }
            is_about && *left < 0
        })
    })
}

/// Where the least is lost (`pickOneNodeForPreemption`): fewest protected pods, the least important most important one,
/// the least importance of all together, fewest pods, the youngest of the most important ones. The first of equals.
fn best(offers: Vec<Offered>) -> Option<Offered> {
    offers.into_iter().min_by_key(|offer| {
        let highest = offer.victims.first().map_or(0, |pod| pod.spec.priority);
        // As upstream does it: negative priorities count as little, not as less than nothing.
        let sum: i64 = offer.victims.iter().map(|pod| pod.spec.priority + (1 << 31)).sum();
        let highest_ones = offer.victims.iter().filter(|pod| pod.spec.priority == highest);
        let oldest = highest_ones.map(|pod| started(pod).to_owned()).min().unwrap_or_default();
        (offer.violations, highest, sum, offer.victims.len(), Reverse(oldest))
    })
}

#[cfg(test)]
mod tests;
