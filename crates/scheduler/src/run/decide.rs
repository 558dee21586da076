//! Asks the plan about one pod, and assumes what it says.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceClaim;

use super::Scheduler;
use crate::claims::{Claims, Extra, PATIENCE, uuid};
use crate::plan::claims::{Needs, Offer, check};
use crate::plan::devices::World;
use crate::plan::extended::{self, Special};
use crate::plan::preempt::{self, Preemption};
use crate::plan::volumes::{Found, Hindrance};
use crate::plan::{Decision, Placement, Relief, Wants, place, ready};
use crate::snapshot::{Snapshot, requests};
use crate::view::{BudgetView, PodView};

/// What is to be done with a pod.
pub struct Verdict {
    pub decision: Decision,
    /// Claims (by their place) that are in the pod's way.
    pub blocking: Vec<usize>,
    /// All its claims.
    pub claims: Vec<Arc<ResourceClaim>>,
    /// The special claim that an earlier attempt has made.
    pub stale: Option<Arc<ResourceClaim>>,
    /// The special claim that it gets.
    pub extra: Option<Extra>,
    /// Who makes way for it where no node takes it; `None` where there are no nodes at all.
    pub preemption: Option<Preemption>,
    /// What its claims of volumes get.
    pub volumes: Found,
    /// Whether volumes are among the reasons against it.
    pub by_volumes: bool,
    /// Whether other pods could help by being there.
    pub by_others: bool,
}

impl Verdict {
    fn of(decision: Decision) -> Self {
        let (blocking, claims, volumes) = (Vec::new(), Vec::new(), Found::default());
        let (stale, extra, preemption) = (None, None, None);
        let (by_volumes, by_others) = (false, false);
        Self { decision, blocking, claims, stale, extra, preemption, volumes, by_volumes, by_others }
    }
}

/// No node can do, in upstream's words.
fn nowhere(snapshot: &Snapshot, pod: &PodView, why: &str) -> Verdict {
    let total = snapshot.len();
    if total == 0 {
        let why = "no nodes available to schedule pods".to_owned();
        return Verdict::of(Decision::Unschedulable(why, Relief::Unasked));
    }
    let why = format!("0/{total} nodes are available: {why}.");
    let preemption = Some(preempt::search(snapshot, pod, Wants::default(), (&[], &[]), 0));
    Verdict { preemption, ..Verdict::of(Decision::Unschedulable(why, Relief::Unknown)) }
}

/// Who makes way for a pod that was not placed.
fn preemption(
    snapshot: &Snapshot,
    (pod, wants): (&PodView, Wants<'_>),
    placement: &Placement,
    budgets: &[Arc<BudgetView>],
    tie: u64,
) -> Option<Preemption> {
    match &placement.decision {
        Decision::Unschedulable(_, relief) if *relief != Relief::Unasked => {
            Some(preempt::search(snapshot, pod, wants, (&placement.crowded, budgets), tie))
        }
        _ => None,
    }
}

impl Scheduler {
    /// Where a pod goes, or who makes way for it. What it gets is counted from now on, so that the next decision does.
    pub fn decide(&self, pod: &Arc<PodView>) -> Verdict {
        self.look_out(pod);
        let mut snapshot = self.snapshot.lock();
        let mut verdict = self.judge(&snapshot, pod);
        match (&verdict.decision, &verdict.preemption) {
            (Decision::Node(node), _) => {
                let mut assumed = (**pod).clone();
                assumed.spec.node_name.clone_from(node);
                snapshot.renounce(&pod.metadata.uid);
                snapshot.set_pod(Arc::new(assumed));
                self.assume(&mut verdict.volumes, node);
            }
            (_, Some(Preemption::Victims { node, .. })) => {
                let mut nominated = (**pod).clone();
                nominated.status.nominated_node_name.clone_from(node);
                snapshot.nominate(Arc::new(nominated));
            }
            (_, Some(Preemption::Nobody { renounced: true, .. })) => snapshot.renounce(&pod.metadata.uid),
            _ => {}
        }
        self.remember(pod, &verdict);
        drop(snapshot);
        self.looked(pod, &verdict);
        verdict
    }

    fn judge(&self, snapshot: &Snapshot, pod: &Arc<PodView>) -> Verdict {
        let wanted = match self.wanted(pod) {
            Ok(wanted) => wanted,
            Err(Hindrance::Failed(why)) => return Verdict::of(Decision::Failed(why)),
            Err(Hindrance::Unschedulable(why)) => {
                return Verdict { by_volumes: true, ..nowhere(snapshot, pod, &why) };
            }
        };
        let alike = self.groups.get().map(|groups| groups.alike(pod));
        let wants = Wants { devices: None, volumes: wanted.as_ref(), alike: alike.as_ref() };
        let needs = requests(pod);
        let has_claims = !pod.spec.resource_claims.is_empty();
        let known = self.claims.get();
        let known = known.filter(|known| has_claims || (extended::asks(&needs) && known.is_synced()));
        match known {
            None => self.without_claims(snapshot, pod, wants),
            Some(known) => self.with_claims(known, snapshot, pod, wants),
        }
    }

    fn without_claims(&self, snapshot: &Snapshot, pod: &PodView, wants: Wants<'_>) -> Verdict {
        let tie = self.random.below(u64::MAX);
        let placement = place(snapshot, pod, wants, tie);
        let preemption = preemption(snapshot, (pod, wants), &placement, &self.budgets(), tie);
        let Placement { decision, volumes, by_volumes, by_others, .. } = placement;
        Verdict { preemption, volumes, by_volumes, by_others, ..Verdict::of(decision) }
    }

    /// How many of which pods may be disrupted.
    fn budgets(&self) -> Vec<Arc<BudgetView>> {
        let known = self.budgets.get();
        known.map(|known| known.list().into_iter().map(|(_, budget)| budget).collect()).unwrap_or_default()
    }

    fn with_claims(
        &self,
        known: &Claims,
        snapshot: &Snapshot,
        pod: &Arc<PodView>,
        wants: Wants<'_>,
    ) -> Verdict {
        let claims = match known.of_pod(pod) {
            Ok(claims) => claims,
            Err(why) => return nowhere(snapshot, pod, &why),
        };
        let asked = requests(pod);
        let backed = if extended::asks(&asked) { known.backed() } else { extended::Backed::new() };
        let special = Special::of(pod, &asked, backed, || known.special(pod), || uuid(&self.random));
        if claims.is_empty() && special.is_none() {
            return self.without_claims(snapshot, pod, wants);
        }
        let seen = known.seen();
        if let Err(why) = check(pod, &claims, |uid| known.is_pending(uid), &seen.classes) {
            return Verdict { claims, ..nowhere(snapshot, pod, &why) };
        }
        let world = World::new(&seen.slices, &seen.classes, &seen.rules, &seen.allocated, &known.expressions);
        let stuck = ready::stuck(&claims, self.clock.now(), PATIENCE);
        let needs = Needs { world, claims, special, stuck };
        let tie = self.random.below(u64::MAX);
        let wants = Wants { devices: Some(&needs), ..wants };
        let placement = place(snapshot, pod, wants, tie);
        let preemption = preemption(snapshot, (pod, wants), &placement, &self.budgets(), tie);
        let Placement { decision, offer, volumes, by_volumes, by_others, blocking, .. } = placement;
        let Needs { claims, special, .. } = needs;
        let Offer { devices, extended } = offer;
        let stale = special.as_ref().filter(|special| special.is_made()).map(|special| special.claim.clone());
        let extra = match (special, extended) {
            (Some(special), Some(extended)) => Some(Extra::new((*special.claim).clone(), extended)),
            _ => None,
        };
        if let Decision::Node(_) = decision {
            let all = claims.iter().map(|claim| &**claim).chain(extra.iter().map(|extra| &extra.claim));
            known.reserve(all, devices, &self.random);
        }
        Verdict { decision, blocking, claims, stale, extra, preemption, volumes, by_volumes, by_others }
    }
}
