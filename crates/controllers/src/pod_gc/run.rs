//! Does what the plan says.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::json;

use super::Key;
use super::plan::{Fate, excess, fate};
use crate::answer::unless_gone;
use crate::context::Context;
use crate::view::PodView;

/// Between two counts of all pods that have ended.
const PERIOD: Duration = Duration::from_secs(20);

/// The controller's state beside what the informers hold.
pub struct PodGc {
    context: Arc<Context>,
    /// Since when nodes are missing, on the steady clock.
    missing: Mutex<HashMap<String, Duration>>,
    counted: Mutex<Counted>,
}

/// When pods that have ended were counted.
#[derive(Default)]
struct Counted {
    /// On the steady clock.
    last: Option<Duration>,
    /// Whether that is to be done again when the pause is over.
    is_due: bool,
}

impl PodGc {
    /// For this process.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, missing: Mutex::default(), counted: Mutex::default() }
    }

    /// Looks at one node, pod, or at all that have ended; when to do so again.
    ///
    /// # Errors
    /// Those of the API; the key is then tried again.
    pub async fn reconcile(&self, key: Key) -> Result<Option<Duration>, kube::Error> {
        match key {
            Key::Node(name) => self.node(&name).await,
            Key::Ended => self.ended().await,
            Key::Pod(key) => {
                let pod = self.context.informers.pods.get(&key);
                let is_due = |pod: &Arc<PodView>| {
                    pod.spec.node_name.is_empty() && pod.metadata.deletion_timestamp.is_some()
                };
                if let Some(pod) = pod.filter(is_due) {
                    self.remove(&pod, false).await?;
                }
                Ok(None)
            }
        }
    }

    async fn node(&self, name: &str) -> Result<Option<Duration>, kube::Error> {
        let informers = &self.context.informers;
        let node = informers.nodes.get(name);
        let now = self.context.clock.monotonic();
        let missing = match node {
            Some(_) => self.missing.lock().remove(name),
            None => Some(*self.missing.lock().entry(name.to_owned()).or_insert(now)),
        };
        let is_orphaned = match fate(node.as_deref(), missing, now) {
            Fate::Stay => return Ok(None),
            Fate::Wait(left) => {
                let pods = informers.pods.list();
                if pods.iter().any(|(_, pod)| pod.spec.node_name == name) {
                    return Ok(Some(left));
                }
                self.missing.lock().remove(name);
                return Ok(None);
            }
            Fate::Going => false,
            Fate::Orphaned => {
                let nodes: Api<Node> = Api::all(self.context.clients.pod_gc.clone());
                let found = nodes.get_opt(name).await?;
                self.missing.lock().remove(name);
                if found.is_some() {
                    return Ok(None);
                }
                true
            }
        };
        for (_, pod) in informers.pods.list() {
            let is_due = is_orphaned || pod.metadata.deletion_timestamp.is_some();
            if pod.spec.node_name == name && is_due {
                self.remove(&pod, is_orphaned).await?;
            }
        }
        Ok(None)
    }

    async fn ended(&self) -> Result<Option<Duration>, kube::Error> {
        let threshold = self.context.settings.terminated_pods;
        let pods = &self.context.informers.pods;
        if threshold == 0 || pods.len() <= threshold {
            return Ok(None);
        }
        let now = self.context.clock.monotonic();
        {
            let mut counted = self.counted.lock();
            let left = counted.last.and_then(|last| PERIOD.checked_sub(now.saturating_sub(last)));
            if let Some(left) = left.filter(|left| !left.is_zero()) {
                let is_awaited = std::mem::replace(&mut counted.is_due, true);
                return Ok((!is_awaited).then_some(left));
            }
            *counted = Counted { last: Some(now), is_due: false };
        }
        for pod in excess(pods.list().into_iter().map(|(_, pod)| pod), threshold) {
            self.remove(&pod, false).await?;
        }
        Ok(None)
    }

    /// Deletes a pod without grace. One that has not ended has failed first, so that whoever counts its like knows.
    async fn remove(&self, pod: &PodView, is_orphaned: bool) -> Result<(), kube::Error> {
        let meta = &pod.metadata;
        tracing::info!(pod = meta.key(), is_orphaned, "deleting a pod that nobody else will");
        let pods: Api<Pod> = Api::namespaced(self.context.clients.pod_gc.clone(), &meta.namespace);
        if !pod.is_finished() {
            let condition = json!({
                "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
                "message": "PodGC: node no longer exists", "observedGeneration": meta.generation,
                "lastTransitionTime": Time(self.context.clock.now()),
            });
            // A list that is merged: without an element it changes nothing.
            let conditions = if is_orphaned { vec![condition] } else { Vec::new() };
            let status =
                json!({"phase": "Failed", "observedGeneration": meta.generation, "conditions": conditions});
            let patch = Patch::Strategic(json!({"metadata": {"uid": meta.uid}, "status": status}));
            unless_gone(pods.patch_status(&meta.name, &PatchParams::default(), &patch).await)?;
        }
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(meta.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        unless_gone(pods.delete(&meta.name, &params).await)
    }
}
