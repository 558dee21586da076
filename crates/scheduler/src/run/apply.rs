//! Does what was decided: gives a pod its claims and its node, or tells why not.

use std::sync::Arc;

use http::Request;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::Api;
use kube::api::{Patch, PatchParams};
use tokio::sync::OwnedSemaphorePermit;

use super::{Scheduler, Verdict};
use crate::claims::{BindError, Claims, Extra};
use crate::plan::claims::to_free;
use crate::plan::preempt::Preemption;
use crate::plan::ready::drivers;
use crate::plan::volumes::Found;
use crate::plan::{Decision, Relief};
use crate::view::PodView;
use crate::volumes;

/// Why a pod is not on its node yet.
#[derive(Debug, thiserror::Error)]
enum Unbound {
    #[error("running PreBind plugin \"VolumeBinding\": {0}")]
    Volumes(#[from] volumes::BindError),
    #[error("running PreBind plugin \"DynamicResources\": {0}")]
    Claims(#[from] BindError),
    #[error(transparent)]
    Api(#[from] Box<kube::Error>),
}

impl Scheduler {
    /// Does it. `permit` is given back as soon as nothing is written any more.
    pub async fn apply(&self, key: &str, pod: &PodView, verdict: Verdict, permit: OwnedSemaphorePermit) {
        let Verdict { decision, blocking, mut claims, stale, mut extra, preemption, mut volumes, .. } =
            verdict;
        let gets = (&mut volumes, &mut claims[..], &mut extra);
        match decision {
            Decision::Node(node) => match self.settle(pod, &node, gets, permit).await {
                Ok(()) => {
                    let message = format!("Successfully assigned {key} to {node}");
                    self.recorder.normal(reference(pod), "Scheduled", message);
                }
                Err(error) => {
                    self.snapshot.lock().remove_pod(&pod.metadata.uid);
                    self.release(&volumes);
                    if let Some(known) = self.claims.get() {
                        known.release(pod, &claims).await;
                        if let Some(extra) = &extra {
                            known.release_special(extra).await;
                        }
                    }
                    // What it held is anybody's again.
                    self.queue.retry_parked();
                    self.unbound(key, pod, error).await;
                }
            },
            Decision::Unschedulable(why, mut relief) => {
                self.queue.park(key);
                if let Some(known) = self.claims.get().filter(|_| relief == Relief::Nothing) {
                    relief = relieve(known, key, pod, &claims, &blocking, stale.as_ref()).await;
                }
                if relief == Relief::Deleted {
                    // Nobody hears of a claim that had nothing.
                    self.queue.retry(key);
                }
                let why = why + &shown(relief, preemption.as_ref());
                let nomination = match &preemption {
                    Some(Preemption::Victims { node, .. }) => Nomination::Node(node),
                    Some(Preemption::Nobody { renounced: false, .. }) => Nomination::AsItWas,
                    _ => Nomination::Nowhere,
                };
                self.refuse((key, pod), "Unschedulable", why, nomination).await;
                if let Some(Preemption::Victims { node, victims }) = &preemption {
                    self.make_way(key, pod, node, victims).await;
                }
            }
            Decision::Failed(why) => {
                self.queue.back_off(key);
                self.refuse((key, pod), "SchedulerError", why, Nomination::Nowhere).await;
            }
        }
    }

    async fn unbound(&self, key: &str, pod: &PodView, error: Unbound) {
        match error {
            // Bound by another, or gone: the informer will tell.
            Unbound::Api(error) if matches!(&*error, kube::Error::Api(status) if matches!(status.code, 404 | 409)) =>
                {}
            Unbound::Api(error) => {
                tracing::warn!(%key, %error, "a pod could not be bound; trying again");
                self.queue.back_off(key);
            }
            Unbound::Volumes(_) | Unbound::Claims(_) => {
                let why = error.to_string();
                tracing::warn!(%key, why, "a pod's claims could not be given; trying again");
                self.queue.back_off(key);
                self.refuse((key, pod), "SchedulerError", why, Nomination::Withdrawn).await;
            }
        }
    }

    async fn refuse(
        &self,
        (key, pod): (&str, &PodView),
        reason: &str,
        why: String,
        nomination: Nomination<'_>,
    ) {
        self.recorder.warning(reference(pod), "FailedScheduling", why.clone());
        if let Err(error) = self.tell(pod, reason, &why, nomination).await {
            tracing::debug!(%key, %error, "the pod's condition was not written");
        }
    }

    /// Gives a pod its volumes and claims, then its node.
    async fn settle(
        &self,
        pod: &PodView,
        node: &str,
        (volumes, claims, extra): (&mut Found, &mut [Arc<ResourceClaim>], &mut Option<Extra>),
        permit: OwnedSemaphorePermit,
    ) -> Result<(), Unbound> {
        let mut permit = Some(permit);
        if !volumes.is_empty() {
            self.expect(pod, node).await;
            self.write_volumes(volumes, node).await?;
            permit.take();
            self.volumes_bound(pod, node, volumes).await?;
        }
        if let Some(known) = self.claims.get() {
            known.bind(pod, claims).await?;
            if let Some(extra) = extra {
                known.bind_special(pod, extra).await?;
            }
            let all = claims.iter().chain(extra.as_ref().and_then(Extra::made)).cloned().collect::<Vec<_>>();
            if all.iter().any(|claim| drivers(claim).next().is_some()) {
                permit.take();
                let message = format!("waiting for binding conditions for device on node {node}");
                self.recorder.normal(reference(pod), "BindingConditionsPending", message);
                known.ready(&all, &*self.clock).await?;
            }
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

    /// Tells the pod why it waits, and for which node.
    async fn tell(
        &self,
        pod: &PodView,
        reason: &str,
        why: &str,
        nomination: Nomination<'_>,
    ) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.metadata.namespace);
        let now = self.clock.now();
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now);
        let mut status = serde_json::Map::new();
        let condition = serde_json::json!({
            "type": "PodScheduled", "status": "False", "reason": reason, "message": why,
            "lastTransitionTime": now, "observedGeneration": pod.metadata.generation,
        });
        status.insert("conditions".to_owned(), vec![condition].into());
        let nominated = match nomination {
            Nomination::Node(node) => Some(node.into()),
            Nomination::Withdrawn => Some(serde_json::Value::Null),
            Nomination::Nowhere if !pod.status.nominated_node_name.is_empty() => {
                Some(serde_json::Value::Null)
            }
            _ => None,
        };
        status.extend(nominated.map(|node| ("nominatedNodeName".to_owned(), node)));
        let patch = serde_json::json!({"status": status});
        pods.patch_status(&pod.metadata.name, &PatchParams::default(), &Patch::Strategic(&patch))
            .await
            .map(|_| ())
    }
}

/// The node on which others make way for a pod.
enum Nomination<'n> {
    /// This one.
    Node(&'n str),
    /// None any more.
    Nowhere,
    /// None any more, and it may have been told of one since it was looked at.
    Withdrawn,
    /// The one that it was, if any.
    AsItWas,
}

/// What was done about a pod that no node takes, as it stands behind the reasons. If others make way, that is all.
fn shown(relief: Relief, preemption: Option<&Preemption>) -> String {
    if matches!(preemption, Some(Preemption::Victims { .. })) {
        return String::new();
    }
    let nobody = preemption.map(Preemption::shown).unwrap_or_default();
    let all: Vec<&str> = [relief.shown(), nobody].into_iter().filter(|done| !done.is_empty()).collect();
    if all.is_empty() { String::new() } else { format!(" {}", all.join(", ")) }
}

/// Frees a claim that is in a pod's way, or deletes what an earlier attempt has made for it.
async fn relieve(
    known: &Claims,
    key: &str,
    pod: &PodView,
    claims: &[Arc<ResourceClaim>],
    blocking: &[usize],
    stale: Option<&Arc<ResourceClaim>>,
) -> Relief {
    let done = match (to_free(pod, claims, blocking), stale) {
        (Some(claim), _) => known.free(claim).await.map(|()| Relief::Freed),
        (None, Some(stale)) => known.delete(stale).await.map(|()| Relief::Deleted),
        (None, None) => return Relief::Nothing,
    };
    done.unwrap_or_else(|error| {
        tracing::warn!(%key, %error, "a claim that is in the way was not freed");
        Relief::Nothing
    })
}

pub(super) fn reference(pod: &PodView) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: Some(pod.metadata.name.clone()),
        namespace: Some(pod.metadata.namespace.clone()),
        uid: Some(pod.metadata.uid.clone()),
        ..ObjectReference::default()
    }
}
