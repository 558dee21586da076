//! Writes down what claims get, and waits until they have it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::{Told, Volumes};
use crate::plan::devices::Site;
use crate::plan::volumes::progress::are_bound;
use crate::plan::volumes::{BOUND_BY_CONTROLLER, Binding, Found, SELECTED_NODE};
use crate::view::{ClaimView, NodeView, VolumeView};

/// How long claims may take (`bindTimeoutSeconds`).
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is looked at, even when nothing was heard.
const PERIOD: Duration = Duration::from_secs(5);

/// Why claims do not have what they were given, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{}", said(.0))]
    Write(#[from] Box<kube::Error>),
    #[error("binding volumes: {0}")]
    Lost(String),
}

/// What the API server said.
fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// How the pod is doing for which claims are bound.
pub struct Standing {
    /// Its node; `None` if that is gone.
    pub node: Option<Arc<NodeView>>,
    /// Whether the pod is still there.
    pub is_there: bool,
}

impl Volumes {
    /// Writes down what was found for a pod.
    ///
    /// # Errors
    /// [`BindError`]; then [`Volumes::release`] is due.
    pub async fn write(&self, found: &mut Found, node: &str) -> Result<(), BindError> {
        for Binding { claim, volume } in &mut found.bindings {
            let version = self.keep(volume, claim).await.map_err(Box::new)?;
            let mut written = (**volume).clone();
            written.metadata.resource_version = version;
            *volume = Arc::new(written);
        }
        for claim in &mut found.provisions {
            let version = self.promise(claim, node).await.map_err(Box::new)?;
            let mut written = (**claim).clone();
            written.metadata.resource_version = version;
            *claim = Arc::new(written);
        }
        Ok(())
    }

    /// Keeps a volume for a claim; its version afterwards.
    async fn keep(&self, volume: &VolumeView, claim: &ClaimView) -> Result<String, kube::Error> {
        let (of, meta) = (&volume.metadata, &claim.metadata);
        let mut annotations = serde_json::Map::new();
        if let Some(value) = of.annotations.get(BOUND_BY_CONTROLLER) {
            annotations.insert(BOUND_BY_CONTROLLER.to_owned(), value.clone().into());
        }
        let patch = serde_json::json!({
            "metadata": {"resourceVersion": of.resource_version, "annotations": annotations},
            "spec": {"claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace,
                "name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version,
            }},
        });
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let written = volumes.patch(&of.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(written.metadata.resource_version.unwrap_or_default())
    }

    /// Asks for a volume for a claim, on a node; the claim's version afterwards.
    async fn promise(&self, claim: &ClaimView, node: &str) -> Result<String, kube::Error> {
        let meta = &claim.metadata;
        let patch = serde_json::json!({"metadata":
            {"resourceVersion": meta.resource_version, "annotations": {SELECTED_NODE: node}}});
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &meta.namespace);
        let written = claims.patch(&meta.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(written.metadata.resource_version.unwrap_or_default())
    }

    /// Until claims have what was written down for them.
    ///
    /// # Errors
    /// [`BindError`] when they will not have it, or not in time.
    pub async fn bound(
        &self,
        found: &Found,
        (pod, node): (&str, &str),
        standing: impl Fn() -> Standing,
    ) -> Result<(), BindError> {
        let mut changes = self.changes.subscribe();
        let begun = self.clock.monotonic();
        loop {
            let Standing { node: labelled, is_there } = standing();
            let Some(labelled) = labelled else {
                return Err(BindError::Lost(format!("failed to get node {node:?}: node {node:?} not found")));
            };
            if !is_there {
                return Err(BindError::Lost(format!("pod does not exist any more: pod {pod:?} not found")));
            }
            let site = Site { name: node, labels: &labelled.metadata.labels };
            if are_bound(found, site, &Told(self)).map_err(BindError::Lost)? {
                return Ok(());
            }
            if self.clock.monotonic().saturating_sub(begun) > PATIENCE {
                return Err(BindError::Lost("context deadline exceeded".to_owned()));
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }
}
