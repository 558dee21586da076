//! Makes the special claims of pods with extended resources, and takes them away.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerExtendedResourceRequest as Mapping, Pod};
use k8s_openapi::api::resource::v1::ResourceClaim as Claim;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};

use super::bind::{ATTEMPTS, FINALIZER, is_conflict};
use super::{BindError, Claims};
use crate::plan::claims::{key, uid};
use crate::plan::extended::ForNode;
use crate::view::PodView;

/// The special claim of a pod that goes to a node.
#[derive(Debug)]
pub struct Extra {
    /// As it is to be made; its UID is the scheduler's own until it is.
    pub claim: Claim,
    mappings: Vec<Mapping>,
    /// As the API server made it.
    made: Option<Arc<Claim>>,
}

impl Extra {
    /// What a claim is to be on a node.
    pub fn new(mut claim: Claim, on: ForNode) -> Self {
        claim.spec.get_or_insert_default().devices.get_or_insert_default().requests = Some(on.requests);
        Self { claim, mappings: on.mappings, made: None }
    }

    /// The claim, once it is made.
    pub fn made(&self) -> Option<&Arc<Claim>> {
        self.made.as_ref()
    }
}

impl Claims {
    /// Makes the special claim of a pod, gives it its devices and tells the pod.
    ///
    /// # Errors
    /// [`BindError`]; then [`Claims::release_special`] is due.
    pub async fn bind_special(&self, pod: &PodView, extra: &mut Extra) -> Result<(), BindError> {
        let (api, _) = self.api(&extra.claim);
        let mut wanted = extra.claim.clone();
        wanted.metadata.uid = None;
        let created = api.create(&PostParams::default(), &wanted).await;
        let created = created.map_err(|source| BindError::Create {
            claim: format!("{}/<extended-resources>", pod.metadata.namespace),
            source: Box::new(source),
        })?;
        let created = Arc::new(created);
        extra.made = Some(created.clone());
        {
            // What was noted under the scheduler's own UID is from now on noted under the real one.
            let mut pending = self.pending.lock();
            if let Some(given) = pending.remove(uid(&extra.claim)) {
                pending.insert(uid(&created).to_owned(), given);
            }
        }
        extra.made = Some(self.settle(pod, &created).await?);
        self.tell(pod, extra).await
    }

    /// Writes into the pod's status which container has which devices of the special claim.
    async fn tell(&self, pod: &PodView, extra: &Extra) -> Result<(), BindError> {
        let meta = &pod.metadata;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &meta.namespace);
        let name = extra.made.as_ref().and_then(|made| made.metadata.name.clone());
        let patch = serde_json::json!({
            "metadata": {"uid": meta.uid},
            "status": {"extendedResourceClaimStatus":
                {"requestMappings": extra.mappings, "resourceClaimName": name}},
        });
        let told = pods.patch_status(&meta.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        told.map(drop).map_err(|source| BindError::Tell { pod: meta.key(), source: Box::new(source) })
    }

    /// Takes back what a special claim was about to have, and the claim.
    pub async fn release_special(&self, extra: &Extra) {
        self.pending.lock().remove(uid(&extra.claim));
        let Some(made) = &extra.made else { return };
        self.pending.lock().remove(uid(made));
        if let Err(error) = self.delete(made).await {
            tracing::warn!(claim = key(made), %error, "a claim for extended resources stays that nobody uses");
        }
    }

    /// Deletes a claim that only one pod knows, whatever protects it.
    ///
    /// # Errors
    /// Those of the API; that it is gone already is none.
    pub async fn delete(&self, claim: &Arc<Claim>) -> Result<(), kube::Error> {
        let (api, name) = self.api(claim);
        let mut current = (**claim).clone();
        let mut attempt = 1;
        loop {
            current.metadata.finalizers.get_or_insert_default().retain(|finalizer| finalizer != FINALIZER);
            match api.replace(&name, &PostParams::default(), &current).await {
                Err(error) if is_conflict(&error) && attempt < ATTEMPTS => {
                    attempt += 1;
                    match api.get_opt(&name).await? {
                        Some(newer) => current = newer,
                        None => break,
                    }
                }
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                other => break other.map(drop)?,
            }
        }
        self.written.lock().remove(uid(claim));
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }
}
