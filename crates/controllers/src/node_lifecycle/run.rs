//! Watches over nodes and evicts pods.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use client::WorkQueue;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;

use super::eviction::{Stay, stay};
use super::plan::{Heard, condition, hear, plan};
use crate::context::{Context, Queues};
use crate::view::PodView;

/// How often each node is looked at, at least.
const ROUND: Duration = Duration::from_secs(5);
/// When a write is tried again that lost a race: the copy that won is on its way.
const RACE: Duration = Duration::from_millis(20);

/// What a taint says of when it was added, and when that was by the steady clock.
type Tainted = (Option<Timestamp>, Timestamp);

/// A pod that is to go.
struct Due {
    node: String,
    uid: String,
    /// When it came, by the steady clock, as it was when that was asked first.
    came: Timestamp,
}

/// The controller's state beside what the informers hold.
pub struct NodeLifecycle {
    context: Arc<Context>,
    nodes: WorkQueue<String>,
    evictions: WorkQueue<String>,
    heard: Mutex<HashMap<String, Heard>>,
    /// The nodes that there are, with their UIDs.
    known: Mutex<HashMap<String, String>>,
    /// Since when taints are there: by node, key and value.
    tainted: Mutex<HashMap<(String, String, String), Tainted>>,
    /// Pods that are to go when their time has come, by key.
    due: Mutex<HashMap<String, Due>>,
}

impl NodeLifecycle {
    /// The controller.
    pub fn new(context: Arc<Context>, queues: &Queues) -> Self {
        Self {
            context,
            nodes: queues.node_health.clone(),
            evictions: queues.evictions.clone(),
            heard: Mutex::default(),
            known: Mutex::default(),
            tainted: Mutex::default(),
            due: Mutex::default(),
        }
    }

    /// Has every node looked at again and again: silence makes no event.
    pub async fn watch_over(&self) {
        let grace = self.grace();
        let pause = (grace / 4).clamp(Duration::from_millis(250), ROUND);
        loop {
            for (name, _) in self.context.informers.nodes.list() {
                self.nodes.add(name);
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.context.settings.node_grace_seconds).unwrap_or(0))
    }

    /// Brings one node's conditions and taints up to date.
    ///
    /// # Errors
    /// Those of the API; the key is then tried again.
    pub async fn reconcile(&self, name: String) -> Result<Option<Duration>, kube::Error> {
        let informers = &self.context.informers;
        let Some(node) = informers.nodes.get(&name) else {
            let gone = self.known.lock().remove(&name);
            if let Some(uid) = gone {
                self.tell(&name, uid, "RemovingNode", &format!("Removing Node {name} from Controller"));
            }
            self.heard.lock().remove(&name);
            self.due.lock().retain(|_, due| due.node != name);
            self.tainted.lock().retain(|(node, ..), _| *node != name);
            return Ok(None);
        };
        let uid = node.metadata.uid.clone().unwrap_or_default();
        if self.known.lock().insert(name.clone(), uid.clone()).is_none() {
            self.tell(&name, uid, "RegisteredNode", &format!("Registered Node {name} in Controller"));
        }
        let lease = informers.leases.get(&format!("kube-node-lease/{name}"));
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
        let steady = self.context.clock.monotonic();
        let silent = {
            let mut all = self.heard.lock();
            let heard = hear(all.get(&name), &node, renewed, steady);
            let silent = steady.saturating_sub(heard.at);
            all.insert(name.clone(), heard);
            silent
        };
        let plan = plan(&node, silent, self.grace(), self.context.clock.now());
        let nodes: Api<Node> = Api::all(self.context.clients.nodes.clone());
        let version = node.metadata.resource_version.as_deref().unwrap_or_default();
        if !plan.conditions.is_empty() {
            let about = crate::context::reference("v1", "Node", &node.metadata);
            let message = format!("Node {name} status is now: NodeNotReady");
            let patch =
                json!({"metadata": {"resourceVersion": version}, "status": {"conditions": plan.conditions}});
            let written = nodes.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
            if written.is_ok() {
                self.context.recorder.named("node-controller").normal(about, "NodeNotReady", message);
            }
            return after_race(written);
        }
        if let Some(taints) = &plan.taints {
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            return after_race(nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await);
        }
        self.look_at_pods(&name, &node).await
    }

    /// Tells of a node that came or went.
    fn tell(&self, name: &str, uid: String, reason: &str, what: &str) {
        let about = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid),
            ..ObjectReference::default()
        };
        let recorder = self.context.recorder.named("node-controller");
        recorder.normal(about, reason, format!("Node {name} event: {what}"));
    }

    /// Pods of a node that is lost are not ready, and those that do not bear its taints are to go.
    async fn look_at_pods(&self, name: &str, node: &Node) -> Result<Option<Duration>, kube::Error> {
        let lost = condition(node, "Ready").is_some_and(|ready| ready.status == "Unknown");
        let taints = no_execute(node);
        self.tainted
            .lock()
            .retain(|(node, key, _), _| node != name || taints.iter().any(|taint| taint.key == *key));
        if taints.is_empty() {
            self.spare(name);
        }
        if !lost && taints.is_empty() {
            return Ok(None);
        }
        for (key, pod) in self.context.informers.pods.list() {
            if pod.spec.node_name != name {
                continue;
            }
            if !taints.is_empty() {
                self.evictions.add(key);
            }
            if lost && pod.ready().is_some() {
                self.mark_not_ready(&pod).await?;
            }
        }
        Ok(None)
    }

    async fn mark_not_ready(&self, pod: &PodView) -> Result<(), kube::Error> {
        let meta = &pod.metadata;
        let now = Time(self.context.clock.now());
        let pods: Api<Pod> = Api::namespaced(self.context.clients.nodes.clone(), &meta.namespace);
        let patch = json!({
            "metadata": {"uid": meta.uid},
            "status": {"conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": now}]},
        });
        after_race(pods.patch_status(&meta.name, &PatchParams::default(), &Patch::Strategic(&patch)).await)?;
        self.context.recorder.named("node-controller").warning(
            about(pod),
            "NodeNotReady",
            "Node is not ready",
        );
        Ok(())
    }

    /// Deletes a pod whose node has a taint that it does not bear any longer.
    ///
    /// # Errors
    /// Those of the API; the key is then tried again.
    pub async fn evict(&self, key: String) -> Result<Option<Duration>, kube::Error> {
        let informers = &self.context.informers;
        let is_there = |pod: &Arc<PodView>| pod.metadata.deletion_timestamp.is_none();
        let pod = informers.pods.get(&key).filter(is_there);
        let node = pod.as_ref().and_then(|pod| informers.nodes.get(&pod.spec.node_name));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.due.lock().remove(&key);
            return Ok(None);
        };
        let taints = no_execute(&node);
        // By the clock that nobody sets: one that is set wrong takes away no pod.
        let now = self.context.clock.steady();
        let came = self.came(&key, &pod);
        let since = |taint: &Taint| self.since(&pod.spec.node_name, taint);
        match stay(&pod.spec.tolerations, &taints, came, since) {
            Stay::Until(end) if end <= now => {
                let done = self.delete(&pod).await?;
                self.due.lock().remove(&key);
                Ok(done)
            }
            Stay::Until(end) => {
                let due = Due { node: pod.spec.node_name.clone(), uid: pod.metadata.uid.clone(), came };
                self.due.lock().insert(key, due);
                let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
                // What is further off is asked for again by its node's next round.
                Ok((left < ROUND).then_some(left))
            }
            Stay::Forever => {
                if self.due.lock().remove(&key).is_some() {
                    self.cancelled(&pod);
                }
                Ok(None)
            }
        }
    }

    /// The pods of a node without taints may stay.
    fn spare(&self, node: &str) {
        let spared = |_: &String, due: &mut Due| due.node == node;
        let keys: Vec<_> = self.due.lock().extract_if(spared).map(|(key, _)| key).collect();
        let pods = keys.iter().filter_map(|key| self.context.informers.pods.get(key));
        pods.filter(|pod| pod.spec.node_name == node).for_each(|pod| self.cancelled(&pod));
    }

    fn cancelled(&self, pod: &PodView) {
        let message = format!("Cancelling deletion of Pod {}", pod.metadata.key());
        self.context.recorder.named("taint-eviction-controller").normal(
            about(pod),
            "TaintManagerEviction",
            message,
        );
    }

    /// When a pod came, by the steady clock.
    fn came(&self, key: &str, pod: &PodView) -> Timestamp {
        let known = self.due.lock().get(key).filter(|due| due.uid == pod.metadata.uid).map(|due| due.came);
        let created = pod.metadata.creation_timestamp.as_ref();
        known.unwrap_or_else(|| created.map_or_else(|| self.context.clock.steady(), |at| self.steadily(at.0)))
    }

    /// Since when a node has a taint, by the steady clock, as it was when the taint was seen first.
    fn since(&self, node: &str, taint: &Taint) -> Timestamp {
        let key = (node.to_owned(), taint.key.clone(), taint.value.clone().unwrap_or_default());
        let added = taint.time_added.as_ref().map(|time| time.0);
        let since = || (added, added.map_or_else(|| self.context.clock.steady(), |at| self.steadily(at)));
        let mut tainted = self.tainted.lock();
        let known = tainted.entry(key).or_insert_with(since);
        if known.0 != added {
            *known = since();
        }
        known.1
    }

    /// What the steady clock showed at a time of the wall clock. What has not been yet, is now.
    fn steadily(&self, wall: Timestamp) -> Timestamp {
        let clock = &self.context.clock;
        let ago = clock.now().duration_since(wall).max(SignedDuration::ZERO);
        clock.steady().checked_sub(ago).unwrap_or(Timestamp::MIN)
    }

    async fn delete(&self, pod: &PodView) -> Result<Option<Duration>, kube::Error> {
        let meta = &pod.metadata;
        let message = format!("Marking for deletion Pod {}", meta.key());
        self.context.recorder.named("taint-eviction-controller").normal(
            about(pod),
            "TaintManagerEviction",
            message,
        );
        let pods: Api<Pod> = Api::namespaced(self.context.clients.nodes.clone(), &meta.namespace);
        let patch = json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "observedGeneration": meta.generation,
            "lastTransitionTime": Time(self.context.clock.now()),
        }]}});
        after_race(pods.patch_status(&meta.name, &PatchParams::default(), &Patch::Strategic(&patch)).await)?;
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(meta.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        after_race(pods.delete(&meta.name, &params).await)
    }
}

fn no_execute(node: &Node) -> Vec<Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

fn about(pod: &PodView) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.metadata.name.clone()),
        namespace: Some(pod.metadata.namespace.clone()),
        uid: Some(pod.metadata.uid.clone()),
        ..ObjectReference::default()
    }
}

/// What a write means for its key: what is gone needs no more, and who lost a race looks again.
fn after_race<T>(result: Result<T, kube::Error>) -> Result<Option<Duration>, kube::Error> {
    match result {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(RACE)),
        Err(error) => Err(error),
    }
}
