//! Applies the plan: takes pods off the queue, decides, assumes, binds.

use std::sync::Arc;

use base::{SharedClock, SharedRandom, TaskGroup};
use client::events::Recorder;
use client::{Change, Informer, Reflector, Resource};
use http::Request;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::Api;
use kube::api::{Patch, PatchParams};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::plan::{Decision, decide};
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
    });
    let nodes = follow_nodes(&scheduler, tasks);
    let pods = follow_pods(&scheduler, tasks);
    nodes.synced().await;
    pods.synced().await;
    let permits = Arc::new(Semaphore::new(BINDINGS));
    loop {
        let key = scheduler.queue.next().await;
        let Some(pod) = pods.get(&key).filter(|pod| is_ours(pod)) else {
            scheduler.queue.remove(&key);
            continue;
        };
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let decision = {
            let mut snapshot = scheduler.snapshot.lock();
            let decision = decide(&snapshot, &pod, scheduler.random.below(u64::MAX));
            if let Decision::Node(node) = &decision {
                // Assumed to be there from now on, so that the next decision counts it.
                let mut assumed = (*pod).clone();
                assumed.spec.node_name.clone_from(node);
                snapshot.set_pod(Arc::new(assumed));
            }
            decision
        };
        let scheduler = scheduler.clone();
        tasks.spawn(async move {
            scheduler.apply(&key, &pod, decision).await;
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
                if new.spec.scheduling_gates.is_empty() {
                    scheduler.queue.add(key, new.spec.priority);
                }
                return;
            }
            scheduler.queue.remove(key);
            let had_room = old.is_some_and(|old| old.takes_room());
            scheduler.snapshot.lock().set_pod((*new).clone());
            if had_room && !new.takes_room() {
                scheduler.queue.retry_parked();
            }
        }
        Change::Removed { key, old } => {
            scheduler.queue.remove(key);
            scheduler.snapshot.lock().remove_pod(&old.metadata.uid);
            if old.takes_room() {
                scheduler.queue.retry_parked();
            }
        }
    });
    pods.start(tasks)
}

impl Scheduler {
    async fn apply(&self, key: &str, pod: &PodView, decision: Decision) {
        match decision {
            Decision::Node(node) => match self.bind(pod, &node).await {
                Ok(()) => {
                    let message = format!("Successfully assigned {key} to {node}");
                    self.recorder.normal(reference(pod), "Scheduled", message);
                }
                Err(error) => {
                    self.snapshot.lock().remove_pod(&pod.metadata.uid);
                    match error {
                        // Bound by another, or gone: the informer will tell.
                        kube::Error::Api(status) if matches!(status.code, 404 | 409) => {}
                        error => {
                            tracing::warn!(%key, %error, "a pod could not be bound; trying again");
                            self.queue.back_off(key);
                        }
                    }
                }
            },
            Decision::Unschedulable(why) => {
                self.queue.park(key);
                self.recorder.warning(reference(pod), "FailedScheduling", why.clone());
                if let Err(error) = self.tell(pod, &why).await {
                    tracing::debug!(%key, %error, "the pod's condition was not written");
                }
            }
        }
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
    async fn tell(&self, pod: &PodView, why: &str) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.metadata.namespace);
        let now = self.clock.now();
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        let patch = serde_json::json!({"status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why,
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
