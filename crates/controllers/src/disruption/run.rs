//! Does what the plan says.

use std::sync::Arc;
use std::time::Duration;

use client::events::Recorder;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::Key;
use super::plan;
use super::scale::{ScaleError, Scales};
use crate::answer::unless_gone;
use crate::context::{Context, reference};
use crate::view::{PodView, split};

/// The controller's state beside what the informers hold.
pub struct Disruptions {
    context: Arc<Context>,
    scales: Scales,
    recorder: Recorder,
}

impl Disruptions {
    /// For this process.
    pub fn new(context: Arc<Context>) -> Self {
        let recorder = context.recorder.named("controllermanager");
        Self { context, scales: Scales::default(), recorder }
    }

    /// Looks at one budget or pod; when to do so again.
    ///
    /// # Errors
    /// Those of the API; the key is then tried again.
    pub async fn reconcile(&self, key: Key) -> Result<Option<Duration>, kube::Error> {
        match key {
            Key::Budget(key) => self.budget(&key).await,
            Key::Going(key) => self.going(&key).await,
            Key::Contested(key) => {
                self.contested(&key);
                Ok(None)
            }
        }
    }

    async fn budget(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(budget) = self.context.informers.budgets.get(key) else { return Ok(None) };
        let (namespace, _) = split(key);
        let mut pods = self.context.informers.pods.in_namespace(namespace);
        pods.retain(|pod| plan::selects(&budget, pod));
        let about = || reference("policy/v1", "PodDisruptionBudget", &budget.metadata);
        if pods.is_empty() {
            self.recorder.normal(about(), "NoPods", "No matching pods found");
        }
        let now = self.context.clock.now();
        let (desired, expected) = match self.counts(&budget, &pods).await {
            Ok(counts) => counts,
            Err(error) => {
                let told = format!("Failed to calculate the number of expected pods: {error}");
                self.recorder.warning(about(), "CalculateExpectedPodCountFailed", told);
                self.write(&budget, plan::failed(&budget, &error.to_string(), now)).await?;
                return match error {
                    // What the API server could not say it may be able to say soon.
                    ScaleError::Api(error) => Err(error),
                    _ => Ok(None),
                };
            }
        };
        let disrupted = plan::disrupted(&budget, &pods, now);
        for pod in pods.iter().filter(|pod| disrupted.stayed.contains(&pod.metadata.name)) {
            // Upstream names the namespace twice, instead of the budget.
            let told = format!("Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't");
            self.recorder.warning(pod.reference(), "NotDeleted", told);
        }
        let healthy = plan::healthy(&pods, &disrupted);
        let again = disrupted.recheck;
        if let Some(status) = plan::status(&budget, (healthy, desired, expected), disrupted.pods, now) {
            self.write(&budget, status).await?;
        }
        Ok(again)
    }

    /// How many pods must be well, and how many there should be.
    async fn counts(
        &self,
        budget: &PodDisruptionBudget,
        pods: &[Arc<PodView>],
    ) -> Result<(i32, i32), ScaleError> {
        let spec = &budget.spec.clone().unwrap_or_default();
        let expected = if plan::needs_scale(spec) {
            let expected = self.scales.expected(&self.context, pods).await?;
            if expected.unmanaged > 0 {
                let about = reference("policy/v1", "PodDisruptionBudget", &budget.metadata);
                self.recorder.warning(about, "UnmanagedPods", plan::unmanaged(spec.selector.as_ref()));
            }
            expected.pods
        } else {
            plan::count(pods.len())
        };
        Ok((plan::desired(spec, expected)?, expected))
    }

    /// A pod with more than one budget cannot be evicted.
    fn contested(&self, key: &str) {
        let Some(pod) = self.context.informers.pods.get(key) else { return };
        let (namespace, name) = split(key);
        let mut budgets = self.context.informers.budgets.in_namespace(namespace);
        budgets.retain(|budget| plan::selects(budget, &pod));
        let [first, _, ..] = budgets.as_slice() else { return };
        let told = format!(
            "Pod {namespace:?}/{name:?} matches multiple PodDisruptionBudgets.  Chose {:?} arbitrarily.",
            first.metadata.name.as_deref().unwrap_or_default()
        );
        self.recorder.warning(pod.reference(), "MultiplePodDisruptionBudgets", told);
    }

    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<(), kube::Error> {
        let meta = &budget.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let budgets: Api<PodDisruptionBudget> =
            Api::namespaced(self.context.clients.disruption.clone(), namespace);
        let told = PodDisruptionBudget { status: Some(status), ..budget.clone() };
        let name = meta.name.as_deref().unwrap_or_default();
        // Whoever evicts writes here, too: the version decides, and the loser is told of the winner's and looks again.
        unless_gone(budgets.replace_status(name, &PostParams::default(), &told).await)
    }

    /// Takes back that a pod is going, when the time for it is over.
    async fn going(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(pod) = self.context.informers.pods.get(key) else { return Ok(None) };
        let now = self.context.clock.now();
        match plan::stale_in(&pod, now) {
            None => return Ok(None),
            Some(left) if !left.is_zero() => return Ok(Some(left)),
            Some(_) => {}
        }
        let meta = &pod.metadata;
        let stays = json!({
            "type": "DisruptionTarget", "status": "False", "reason": null, "message": null,
            "observedGeneration": meta.generation, "lastTransitionTime": Time(now),
        });
        let version = json!({"uid": meta.uid, "resourceVersion": meta.resource_version});
        let patch = Patch::Strategic(json!({"metadata": version, "status": {"conditions": [stays]}}));
        let pods: Api<Pod> = Api::namespaced(self.context.clients.disruption.clone(), &meta.namespace);
        unless_gone(pods.patch_status(&meta.name, &PatchParams::default(), &patch).await)?;
        tracing::info!(pod = key, "the pod was said to be going and stays");
        Ok(None)
    }
}
