//! Applies the plan: takes pods off the queue, decides, assumes, binds.

mod apply;
mod decide;
mod lonely;
mod make_way;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use base::{SharedClock, SharedRandom, TaskGroup};
use client::events::{Bound, Recorder};
use client::{Change, Index, Informer, Reflector, Resource};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::claims::{Claims, News};
use crate::groups::Groups;
use crate::queue::Queue;
use crate::snapshot::Snapshot;
use crate::view::{BudgetView, NodeView, PodView};
use crate::volumes::Volumes;

use decide::Verdict;

/// The name that pods ask for.
const NAME: &str = "default-scheduler";
/// How many bindings may be under way.
const BINDINGS: usize = 64;

struct Scheduler {
    client: kube::Client,
    clock: SharedClock,
    random: SharedRandom,
    queue: Queue,
    snapshot: Mutex<Snapshot>,
    recorder: Recorder,
    claims: OnceLock<Claims>,
    pods: OnceLock<Reflector<PodView>>,
    /// What protects pods from having to make way.
    budgets: OnceLock<Reflector<BudgetView>>,
    /// Pods without a node, by the claims that they mean.
    waiting: Index,
    /// Those of them that wait for their claims to be there.
    gated: Mutex<BTreeSet<String>>,
    volumes: OnceLock<Volumes>,
    /// Pods without a node, by the claims of their volumes.
    claimants: Index,
    /// Those of them that volumes keep from having one.
    stalled: Mutex<BTreeSet<String>>,
    groups: OnceLock<Groups>,
    /// Pods that others keep from having a node.
    lonely: Mutex<BTreeMap<String, Arc<PodView>>>,
}

/// Runs the scheduler until the group stops. Leadership is the caller's.
pub async fn run(client: kube::Client, clock: SharedClock, random: SharedRandom, tasks: &TaskGroup) {
    let recorder = Recorder::new(client.clone(), clock.clone(), (NAME, ""), Bound::None, tasks);
    let scheduler = Arc::new(Scheduler {
        client: client.clone(),
        clock: clock.clone(),
        random,
        queue: Queue::new(clock),
        snapshot: Mutex::default(),
        recorder,
        claims: OnceLock::new(),
        pods: OnceLock::new(),
        budgets: OnceLock::new(),
        waiting: Index::default(),
        gated: Mutex::default(),
        volumes: OnceLock::new(),
        claimants: Index::default(),
        stalled: Mutex::default(),
        groups: OnceLock::new(),
        lonely: Mutex::default(),
    });
    let heard = scheduler.clone();
    let claims =
        Claims::follow(&client, scheduler.clock.clone(), move |key, news| heard.heard(key, news), tasks);
    let _ = scheduler.claims.set(claims);
    let heard = scheduler.clone();
    let heard = Arc::new(move |claim: Option<&str>| heard.heard_of_volumes(claim));
    let volumes = Volumes::follow(&client, scheduler.clock.clone(), heard, tasks);
    let _ = scheduler.volumes.set(volumes);
    let heard = scheduler.clone();
    let groups = Groups::follow(&client, move |change| heard.heard_of_namespace(change), tasks);
    let _ = scheduler.groups.set(groups);
    let budgets = Resource::all("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets");
    let budgets: Informer<BudgetView> = Informer::new(client, budgets);
    let budgets = budgets.start(tasks);
    let _ = scheduler.budgets.set(budgets.clone());
    let nodes = follow_nodes(&scheduler, tasks);
    let pods = follow_pods(&scheduler, tasks);
    let _ = scheduler.pods.set(pods.clone());
    nodes.synced().await;
    pods.synced().await;
    budgets.synced().await;
    if let Some(groups) = scheduler.groups.get() {
        groups.synced().await;
    }
    if let Some(volumes) = scheduler.volumes.get() {
        volumes.synced().await;
    }
    let late = scheduler.clone();
    tasks.spawn(async move {
        if let Some(claims) = late.claims.get() {
            claims.synced().await;
            late.heard(None, News::Own);
        }
    });
    let permits = Arc::new(Semaphore::new(BINDINGS));
    loop {
        let key = scheduler.queue.next().await;
        let Some(pod) = pods.get(&key).filter(|pod| is_ours(pod)) else {
            scheduler.queue.remove(&key);
            continue;
        };
        // It was changed by somebody while it is being bound.
        if scheduler.snapshot.lock().is_placed(&pod.metadata.uid) {
            continue;
        }
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let verdict = scheduler.decide(&pod);
        let scheduler = scheduler.clone();
        tasks.spawn(async move {
            scheduler.apply(&key, &pod, verdict, permit).await;
        });
    }
}

fn is_ours(pod: &PodView) -> bool {
    pod.spec.node_name.is_empty()
        && pod.metadata.deletion_timestamp.is_none()
        && pod.spec.scheduler_name == NAME
        && !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
}

/// Whether a pod without a node has changed in a way that may get it one.
fn is_other(old: &PodView, new: &PodView) -> bool {
    old.metadata.generation != new.metadata.generation || old.metadata.labels != new.metadata.labels
}

/// The claims that a pod means, as far as it knows them: `NAMESPACE/NAME`.
fn meant(pod: &PodView) -> impl Iterator<Item = String> {
    let made =
        pod.status.resource_claim_statuses.iter().filter_map(|made| made.resource_claim_name.as_deref());
    let named = pod.spec.resource_claims.iter().filter_map(|named| named.resource_claim_name.as_deref());
    made.chain(named).map(|name| format!("{}/{name}", pod.metadata.namespace))
}

fn follow_nodes(scheduler: &Arc<Scheduler>, tasks: &TaskGroup) -> Reflector<NodeView> {
    let mut nodes: Informer<NodeView> =
        Informer::new(scheduler.client.clone(), Resource::all("", "v1", "Node", "nodes"));
    let scheduler = scheduler.clone();
    nodes.on_change(move |change| match change {
        Change::Set { new, old, .. } => {
            scheduler.snapshot.lock().set_node((*new).clone());
            // Heartbeats help nobody: only what decisions look at does.
            let helps = old.is_none_or(|old| {
                old.status.allocatable != new.status.allocatable
                    || old.spec.unschedulable != new.spec.unschedulable
                    || old.spec.taints != new.spec.taints
                    || old.metadata.labels != new.metadata.labels
            });
            if helps {
                scheduler.queue.retry_parked();
            }
        }
        Change::Removed { key, .. } => scheduler.snapshot.lock().remove_node(key),
    });
    nodes.start(tasks)
}

fn follow_pods(scheduler: &Arc<Scheduler>, tasks: &TaskGroup) -> Reflector<PodView> {
    let mut pods: Informer<PodView> =
        Informer::new(scheduler.client.clone(), Resource::all("", "v1", "Pod", "pods"));
    let scheduler = scheduler.clone();
    pods.on_change(move |change| match change {
        Change::Set { key, new, old } => {
            if is_ours(new) {
                let awaited = |pod: &PodView| !pod.status.nominated_node_name.is_empty();
                match awaited(new) {
                    true => scheduler.snapshot.lock().nominate((*new).clone()),
                    // What was decided just now is not written yet.
                    false if old.is_some_and(|old| awaited(old)) => {
                        scheduler.snapshot.lock().renounce(&new.metadata.uid);
                    }
                    false => {}
                }
                scheduler.waiting.set(key, meant(new));
                if !new.spec.volumes.is_empty() {
                    scheduler.claimants.set(key, new.volume_claims());
                }
                scheduler.enqueue(key, new);
                if old.is_some_and(|old| is_other(old, new)) {
                    scheduler.queue.retry(key);
                }
                return;
            }
            scheduler.leaves(key, &new.metadata.uid);
            let had_room = old.is_some_and(|old| old.takes_room());
            scheduler.snapshot.lock().set_pod((*new).clone());
            scheduler.heard_of_pod(*old, new);
            if had_room && !new.takes_room() {
                scheduler.queue.retry_parked();
            }
        }
        Change::Removed { key, old } => {
            scheduler.leaves(key, &old.metadata.uid);
            scheduler.snapshot.lock().remove_pod(&old.metadata.uid);
            if let Some(claims) = scheduler.claims.get() {
                claims.forget(old);
            }
            scheduler.look_again(old);
            if old.takes_room() {
                scheduler.queue.retry_parked();
            }
        }
    });
    pods.start(tasks)
}

impl Scheduler {
    /// A pod wants a node; it waits outside the queue while it is held back or lacks claims (`PreEnqueue`).
    fn enqueue(&self, key: &str, pod: &PodView) {
        if !pod.spec.scheduling_gates.is_empty() {
            return;
        }
        if !pod.spec.resource_claims.is_empty() {
            // Entered first, so that whoever hears of a claim from now on looks at it.
            self.gated.lock().insert(key.to_owned());
            let known = self.claims.get().filter(|claims| claims.is_synced());
            if known.is_none_or(|claims| claims.of_pod(pod).is_err()) {
                return;
            }
            self.gated.lock().remove(key);
        }
        self.queue.add(key, pod.spec.priority);
    }

    /// A pod does not wait any more.
    fn leaves(&self, key: &str, uid: &str) {
        self.snapshot.lock().renounce(uid);
        self.queue.remove(key);
        self.waiting.remove(key);
        self.claimants.remove(key);
        self.stalled.lock().remove(key);
        self.lonely.lock().remove(key);
        self.gated.lock().remove(key);
    }

    /// Claims, classes or devices are other than before.
    fn heard(&self, claim: Option<&str>, news: News) {
        let meant = claim.map(|claim| self.waiting.of(claim));
        let gated = self.gated.lock().clone();
        let concerned = |key: &String| meant.as_ref().is_none_or(|meant| meant.contains(key));
        if let Some(pods) = self.pods.get() {
            for key in gated.iter().filter(|key| concerned(key)) {
                match pods.get(key).filter(|pod| is_ours(pod)) {
                    Some(pod) => self.enqueue(key, &pod),
                    None => {
                        self.gated.lock().remove(key);
                    }
                }
            }
        }
        match meant {
            // Its pods alone are concerned.
            Some(meant) if news == News::Own => meant.iter().for_each(|key| self.queue.retry(key)),
            _ => self.queue.retry_parked(),
        }
    }
}
