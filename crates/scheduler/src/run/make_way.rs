//! Makes pods leave a node for one that matters more (upstream's `Executor`).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};

use super::apply::reference;
use super::{NAME, Scheduler};
use crate::view::PodView;

impl Scheduler {
    /// Ends `victims`; the pod is tried again once they are gone. Lesser pods that wait for the node look elsewhere.
    pub(super) async fn make_way(&self, key: &str, pod: &PodView, node: &str, victims: &[Arc<PodView>]) {
        for lesser in self.lesser(pod, node) {
            self.snapshot.lock().renounce(&lesser.metadata.uid);
            let patch = serde_json::json!({"status": {"nominatedNodeName": null}});
            if let Err(error) = self.patch(&lesser, &patch).await {
                tracing::debug!(pod = lesser.metadata.key(), %error, "a pod still waits for a node");
            }
            self.queue.retry(&lesser.metadata.key());
        }
        // Those that are going need not be told.
        for victim in victims.iter().filter(|victim| victim.metadata.deletion_timestamp.is_none()) {
            if let Err(error) = self.end(pod, node, victim).await {
                let victim = victim.metadata.key();
                tracing::warn!(%key, victim, %error, "a pod does not make way; trying again");
                self.queue.retry(key);
            }
        }
    }

    /// Pods that wait for a node and matter less than `pod`.
    fn lesser(&self, pod: &PodView, node: &str) -> Vec<Arc<PodView>> {
        let snapshot = self.snapshot.lock();
        snapshot.nominated(node).filter(|other| other.spec.priority < pod.spec.priority).cloned().collect()
    }

    async fn end(&self, pod: &PodView, node: &str, victim: &PodView) -> Result<(), kube::Error> {
        let message = format!("{NAME}: preempting to accommodate a higher priority pod");
        let condition = serde_json::json!({
            "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
            "lastTransitionTime": Time(self.clock.now()), "observedGeneration": victim.metadata.generation,
        });
        let told = self.patch(victim, &serde_json::json!({"status": {"conditions": [condition]}})).await;
        if is_gone(&told) {
            return Ok(());
        }
        told?;
        let uid = Some(victim.metadata.uid.clone());
        let preconditions = Some(Preconditions { uid, resource_version: None });
        let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
        let deleted = self.pods_of(victim).delete(&victim.metadata.name, &parameters).await.map(|_| ());
        if is_gone(&deleted) {
            return Ok(());
        }
        deleted?;
        let why = format!("Preempted by pod {} on node {node}", pod.metadata.uid);
        self.recorder.normal(reference(victim), "Preempted", why);
        Ok(())
    }

    fn pods_of(&self, pod: &PodView) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.metadata.namespace)
    }

    pub(super) async fn patch(&self, pod: &PodView, patch: &serde_json::Value) -> Result<(), kube::Error> {
        let pods = self.pods_of(pod);
        let patch = Patch::Strategic(patch);
        pods.patch_status(&pod.metadata.name, &PatchParams::default(), &patch).await.map(|_| ())
    }
}

/// It went by itself, or another one has its name.
fn is_gone(result: &Result<(), kube::Error>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
}
