//! Asks the plan about one pod, and assumes what it says.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceClaim;

use super::Scheduler;
use crate::claims::{Claims, Extra, PATIENCE, uuid};
use crate::plan::claims::{Needs, Offer, check};
use crate::plan::devices::World;
use crate::plan::extended::{self, Special};
use crate::plan::{Decision, Placement, Relief, place, ready};
use crate::snapshot::{Snapshot, requests};
use crate::view::PodView;

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
}

impl Verdict {
    fn of(decision: Decision) -> Self {
        Self { decision, blocking: Vec::new(), claims: Vec::new(), stale: None, extra: None }
    }
}

/// No node can do, in upstream's words.
fn nowhere(snapshot: &Snapshot, why: &str) -> Verdict {
    let total = snapshot.nodes().count();
    if total == 0 {
        let why = "no nodes available to schedule pods".to_owned();
        return Verdict::of(Decision::Unschedulable(why, Relief::Unasked));
    }
    let why = format!("0/{total} nodes are available: {why}.");
    Verdict::of(Decision::Unschedulable(why, Relief::Unknown))
}

impl Scheduler {
    /// Where a pod goes. What it gets is counted from now on, so that the next decision does.
    pub fn decide(&self, pod: &Arc<PodView>) -> Verdict {
        let mut snapshot = self.snapshot.lock();
        let tie = self.random.below(u64::MAX);
        let needs = requests(pod);
        let has_claims = !pod.spec.resource_claims.is_empty();
        let known = self.claims.get();
        let known = known.filter(|known| has_claims || (extended::asks(&needs) && known.is_synced()));
        let verdict = match known {
            None => {
                let Placement { decision, .. } = place(&snapshot, pod, None, tie);
                Verdict::of(decision)
            }
            Some(known) => self.with_claims(known, &snapshot, pod, tie),
        };
        if let Decision::Node(node) = &verdict.decision {
            let mut assumed = (**pod).clone();
            assumed.spec.node_name.clone_from(node);
            snapshot.set_pod(Arc::new(assumed));
        }
        verdict
    }

    fn with_claims(&self, known: &Claims, snapshot: &Snapshot, pod: &Arc<PodView>, tie: u64) -> Verdict {
        let claims = match known.of_pod(pod) {
            Ok(claims) => claims,
            Err(why) => return nowhere(snapshot, &why),
        };
        let asked = requests(pod);
        let backed = if extended::asks(&asked) { known.backed() } else { extended::Backed::new() };
        let special = Special::of(pod, &asked, backed, || known.special(pod), || uuid(&self.random));
        if claims.is_empty() && special.is_none() {
            return Verdict::of(place(snapshot, pod, None, tie).decision);
        }
        let seen = known.seen();
        if let Err(why) = check(pod, &claims, |uid| known.is_pending(uid), &seen.classes) {
            return Verdict { claims, ..nowhere(snapshot, &why) };
        }
        let world = World::new(&seen.slices, &seen.classes, &seen.rules, &seen.allocated, &known.expressions);
        let stuck = ready::stuck(&claims, self.clock.now(), PATIENCE);
        let needs = Needs { world, claims, special, stuck };
        let Placement { decision, offer, blocking } = place(snapshot, pod, Some(&needs), tie);
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
        Verdict { decision, blocking, claims, stale, extra }
    }
}
