//! Applies the plan: takes pods off the queue, decides, assumes, binds.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use base::{SharedClock, SharedRandom, TaskGroup};
use client::events::Recorder;
use client::{Change, Informer, Reflector, Resource};
use http::Request;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::claims::{BindError, Claims, News};
use crate::plan::claims::{Needs, check, to_free};
use crate::plan::devices::World;
use crate::plan::{Decision, Placement, place};
use crate::queue::Queue;
use crate::snapshot::Snapshot;
use crate::view::{NodeView, PodView};

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
    /// Pods that wait for their claims to be there.
    gated: Mutex<BTreeSet<String>>,
}

/// What is to be done with a pod.
struct Verdict {
    placement: Placement,
    /// All its claims.
    claims: Vec<Arc<ResourceClaim>>,
}

/// Why a pod is not on its node yet.
#[derive(Debug, thiserror::Error)]
enum Unbound {
    #[error("running PreBind plugin \"DynamicResources\": {0}")]
    Claims(#[from] BindError),
    #[error(transparent)]
    Api(#[from] Box<kube::Error>),
}

/// Runs the scheduler until the group stops. Leadership is the caller's.
pub async fn run(client: kube::Client, clock: SharedClock, random: SharedRandom, tasks: &TaskGroup) {
    let recorder = Recorder::new(client.clone(), clock.clone(), NAME, "", tasks);
    let scheduler = Arc::new(Scheduler {
        client: client.clone(),
        clock: clock.clone(),
        random,
        queue: Queue::new(clock),
        snapshot: Mutex::default(),
        recorder,
        claims: OnceLock::new(),
        pods: OnceLock::new(),
        gated: Mutex::default(),
    });
    let heard = scheduler.clone();
    let claims = Claims::follow(&client, move |key, news| heard.heard(key, news), tasks);
    let _ = scheduler.claims.set(claims);
    let nodes = follow_nodes(&scheduler, tasks);
    let pods = follow_pods(&scheduler, tasks);
    let _ = scheduler.pods.set(pods.clone());
    nodes.synced().await;
    pods.synced().await;
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
            scheduler.apply(&key, &pod, verdict).await;
            drop(permit);
        });
    }
}

fn is_ours(pod: &PodView) -> bool {
    pod.spec.node_name.is_empty()
        && pod.metadata.deletion_timestamp.is_none()
        && pod.spec.scheduler_name == NAME
        && !matches!(pod.status.phase.as_str(), "Succeeded" | "Failed")
}

/// Whether a pod means a claim.
fn uses(pod: &PodView, claim: &str) -> bool {
    let made =
        pod.status.resource_claim_statuses.iter().filter_map(|made| made.resource_claim_name.as_deref());
    let named = pod.spec.resource_claims.iter().filter_map(|named| named.resource_claim_name.as_deref());
    made.chain(named).any(|name| name == claim)
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
                scheduler.enqueue(key, new);
                return;
            }
            scheduler.queue.remove(key);
            scheduler.gated.lock().remove(*key);
            let had_room = old.is_some_and(|old| old.takes_room());
            scheduler.snapshot.lock().set_pod((*new).clone());
            if had_room && !new.takes_room() {
                scheduler.queue.retry_parked();
            }
        }
        Change::Removed { key, old } => {
            scheduler.queue.remove(key);
            scheduler.gated.lock().remove(*key);
            scheduler.snapshot.lock().remove_pod(&old.metadata.uid);
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

    /// Claims, classes or devices are other than before.
    fn heard(&self, claim: Option<&str>, news: News) {
        if let Some(pods) = self.pods.get() {
            let namespace = claim.and_then(|claim| claim.split_once('/')).map(|(namespace, _)| namespace);
            let gated = self.gated.lock().clone();
            let is_near = |key: &&String| {
                namespace
                    .is_none_or(|namespace| key.split_once('/').is_some_and(|(place, _)| place == namespace))
            };
            for key in gated.iter().filter(is_near) {
                match pods.get(key).filter(|pod| is_ours(pod)) {
                    Some(pod) => self.enqueue(key, &pod),
                    None => {
                        self.gated.lock().remove(key);
                    }
                }
            }
        }
        match (claim, self.pods.get()) {
            // Its pods alone are concerned.
            (Some(claim), Some(pods)) if news == News::Own => {
                let (namespace, name) = claim.split_once('/').unwrap_or_default();
                for pod in pods.in_namespace(namespace).iter().filter(|pod| is_ours(pod) && uses(pod, name)) {
                    self.queue.retry(&pod.metadata.key());
                }
            }
            _ => self.queue.retry_parked(),
        }
    }

    fn decide(&self, pod: &Arc<PodView>) -> Verdict {
        let refused = |decision, claims| {
            let placement = Placement { decision, devices: Vec::new(), blocking: Vec::new() };
            Verdict { placement, claims }
        };
        let mut snapshot = self.snapshot.lock();
        let before = |why: String| {
            Decision::Unschedulable(format!("0/{} nodes are available: {why}.", snapshot.nodes().count()))
        };
        let tie = self.random.below(u64::MAX);
        let known = self.claims.get().filter(|_| !pod.spec.resource_claims.is_empty());
        let (placement, claims) = match known {
            None => (place(&snapshot, pod, None, tie), Vec::new()),
            Some(known) => {
                let claims = match known.of_pod(pod) {
                    Ok(claims) => claims,
                    Err(why) => return refused(before(why), Vec::new()),
                };
                let seen = known.seen();
                if let Err(why) = check(pod, &claims, |uid| known.is_pending(uid), &seen.classes) {
                    return refused(before(why), claims);
                }
                let world = World::new(&seen.slices, &seen.classes, &seen.allocated, &known.expressions);
                let needs = Needs { world, claims };
                let mut placement = place(&snapshot, pod, Some(&needs), tie);
                let claims = needs.claims;
                if let Decision::Node(_) = placement.decision {
                    known.reserve(&claims, std::mem::take(&mut placement.devices), &self.random);
                }
                (placement, claims)
            }
        };
        if let Decision::Node(node) = &placement.decision {
            // Assumed to be there from now on, so that the next decision counts it.
            let mut assumed = (**pod).clone();
            assumed.spec.node_name.clone_from(node);
            snapshot.set_pod(Arc::new(assumed));
        }
        Verdict { placement, claims }
    }

    async fn apply(&self, key: &str, pod: &PodView, verdict: Verdict) {
        let Verdict { placement, claims } = verdict;
        match placement.decision {
            Decision::Node(node) => match self.settle(pod, &node, &claims).await {
                Ok(()) => {
                    let message = format!("Successfully assigned {key} to {node}");
                    self.recorder.normal(reference(pod), "Scheduled", message);
                }
                Err(error) => {
                    self.snapshot.lock().remove_pod(&pod.metadata.uid);
                    if let Some(known) = self.claims.get() {
                        known.release(pod, &claims).await;
                    }
                    match error {
                        // Bound by another, or gone: the informer will tell.
                        Unbound::Api(error) if matches!(&*error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) =>
                            {}
                        Unbound::Api(error) => {
                            tracing::warn!(%key, %error, "a pod could not be bound; trying again");
                            self.queue.back_off(key);
                        }
                        Unbound::Claims(_) => {
                            let why = error.to_string();
                            tracing::warn!(%key, why, "a pod's claims could not be given; trying again");
                            self.queue.back_off(key);
                            self.refuse(key, pod, "SchedulerError", why).await;
                        }
                    }
                }
            },
            Decision::Unschedulable(mut why) => {
                self.queue.park(key);
                if let (Some(known), Some(claim)) =
                    (self.claims.get(), to_free(pod, &claims, &placement.blocking))
                {
                    match known.free(claim).await {
                        Ok(()) => {
                            let done = "deallocation of ResourceClaim completed";
                            why = why.replace("still not schedulable", done);
                        }
                        Err(error) => {
                            tracing::warn!(%key, %error, "a claim that is in the way was not freed")
                        }
                    }
                }
                self.refuse(key, pod, "Unschedulable", why).await;
            }
            Decision::Failed(why) => {
                self.queue.back_off(key);
                self.refuse(key, pod, "SchedulerError", why).await;
            }
        }
    }

    async fn refuse(&self, key: &str, pod: &PodView, reason: &str, why: String) {
        self.recorder.warning(reference(pod), "FailedScheduling", why.clone());
        if let Err(error) = self.tell(pod, reason, &why).await {
            tracing::debug!(%key, %error, "the pod's condition was not written");
        }
    }

    /// Gives a pod its claims, then its node.
    async fn settle(&self, pod: &PodView, node: &str, claims: &[Arc<ResourceClaim>]) -> Result<(), Unbound> {
        if let Some(known) = self.claims.get() {
            known.bind(pod, claims).await?;
        }
        self.bind(pod, node).await.map_err(|error| Unbound::Api(Box::new(error)))
    }

    async fn bind(&self, pod: &PodView, node: &str) -> Result<(), kube::Error> {
        let meta = &pod.metadata;
        let binding = serde_json::json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        });
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", meta.namespace, meta.name);
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(binding.to_string().into_bytes())
            .map_err(kube::Error::HttpError)?;
        self.client.request_text(request).await.map(|_| ())
    }

    /// Tells the pod why it waits.
    async fn tell(&self, pod: &PodView, reason: &str, why: &str) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.metadata.namespace);
        let now = self.clock.now();
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        let patch = serde_json::json!({"status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": why,
            "lastTransitionTime": now,
        }]}});
        pods.patch_status(&pod.metadata.name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await
            .map(|_| ())
    }
}

fn reference(pod: &PodView) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.metadata.name.clone()),
        namespace: Some(pod.metadata.namespace.clone()),
        uid: Some(pod.metadata.uid.clone()),
        ..ObjectReference::default()
    }
}
