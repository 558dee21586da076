//! Writes down what claims get and who uses them, before their pod is bound; and takes it back when that fails.

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{ResourceClaim as Claim, ResourceClaimConsumerReference as Consumer};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use super::Claims;
use crate::plan::claims::{allocation, is_reserved, key as shown, uid};
use crate::view::PodView;

/// Keeps allocated claims from going.
pub(super) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// After so many conflicts it is left to the next attempt (`retry.DefaultRetry`).
pub(super) const ATTEMPTS: usize = 5;

/// Why a claim was not given, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("claim {0} got deleted in the meantime")]
    Deleted(String),
    #[error("claim {0} got allocated elsewhere in the meantime")]
    Allocated(String),
    #[error("claim {0} got deallocated elsewhere in the meantime")]
    Deallocated(String),
    #[error("create claim for extended resources {claim}: {source}")]
    Create { claim: String, source: Box<kube::Error> },
    #[error("update pod {pod} ExtendedResourceClaimStatus: {source}")]
    Tell { pod: String, source: Box<kube::Error> },
    #[error("{0}")]
    NotReady(String),
    #[error("get updated claim {claim} after conflict: {source}")]
    Get { claim: String, source: Box<kube::Error> },
    #[error("add finalizer to claim {claim}: {source}")]
    Finalizer { claim: String, source: Box<kube::Error> },
    #[error("add {what} to claim {claim}: {source}")]
    Status { what: &'static str, claim: String, source: Box<kube::Error> },
}

impl BindError {
    fn is_conflict(&self) -> bool {
        let (Self::Finalizer { source, .. } | Self::Status { source, .. }) = self else { return false };
        is_conflict(source)
    }
}

/// Whether somebody else was faster.
pub(super) fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

impl Claims {
    pub(super) fn api(&self, claim: &Claim) -> (Api<Claim>, String) {
        let meta = &claim.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        (Api::namespaced(self.client.clone(), namespace), meta.name.clone().unwrap_or_default())
    }

    /// Gives a pod all its claims, which are then as they were written.
    ///
    /// # Errors
    /// [`BindError`]; then [`Claims::release`] is due.
    pub async fn bind(&self, pod: &PodView, claims: &mut [Arc<Claim>]) -> Result<(), BindError> {
        for claim in claims {
            if !is_reserved(claim, pod) {
                *claim = self.settle(pod, claim).await?;
            }
        }
        Ok(())
    }

    /// Gives a pod one claim; as it was written.
    pub(super) async fn settle(&self, pod: &PodView, claim: &Arc<Claim>) -> Result<Arc<Claim>, BindError> {
        let written = Arc::new(self.bind_one(pod, claim).await?);
        let uid = uid(&written).to_owned();
        // In this order: at no moment does nobody seem to have the devices.
        self.written.lock().insert(uid.clone(), written.clone());
        self.pending.lock().remove(&uid);
        Ok(written)
    }

    async fn bind_one(&self, pod: &PodView, claim: &Arc<Claim>) -> Result<Claim, BindError> {
        let (api, name) = self.api(claim);
        let mut current = (**claim).clone();
        let mut attempt = 1;
        loop {
            match self.write(&api, &name, pod, current).await {
                Err(error) if error.is_conflict() && attempt < ATTEMPTS => {
                    attempt += 1;
                    current = api
                        .get(&name)
                        .await
                        .map_err(|source| BindError::Get { claim: shown(claim), source: Box::new(source) })?;
                }
                other => return other,
            }
        }
    }

    async fn write(
        &self,
        api: &Api<Claim>,
        name: &str,
        pod: &PodView,
        mut claim: Claim,
    ) -> Result<Claim, BindError> {
        let key = shown(&claim);
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(BindError::Deleted(key));
        }
        let given = self.pending.lock().get(uid(&claim)).cloned();
        let what = if given.is_some() { "allocation and reservation" } else { "reservation" };
        match (given, allocation(&claim)) {
            (Some(_), Some(_)) => return Err(BindError::Allocated(key)),
            (None, None) => return Err(BindError::Deallocated(key)),
            (None, Some(_)) => {}
            (Some(given), None) => {
                let finalizers = claim.metadata.finalizers.get_or_insert_default();
                if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
                    finalizers.push(FINALIZER.to_owned());
                    let written = api.replace(name, &PostParams::default(), &claim).await;
                    claim = written.map_err(|source| BindError::Finalizer {
                        claim: key.clone(),
                        source: Box::new(source),
                    })?;
                }
                claim.status.get_or_insert_default().allocation = Some(given);
            }
        }
        let status = claim.status.get_or_insert_default();
        if let Some(allocation) = &mut status.allocation {
            allocation.allocation_timestamp.get_or_insert_with(|| Time(self.clock.now()));
        }
        status.reserved_for.get_or_insert_default().push(Consumer {
            api_group: None,
            resource: "pods".to_owned(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        });
        let written = api.replace_status(name, &PostParams::default(), &claim).await;
        written.map_err(|source| BindError::Status { what, claim: key, source: Box::new(source) })
    }

    /// Takes back what a pod was about to have and does not get: what is in the making is anybody's, and the pod does
    /// not use what it was entered into.
    pub async fn release(&self, pod: &PodView, claims: &[Arc<Claim>]) {
        for claim in claims {
            self.pending.lock().remove(uid(claim));
            let now = self.get(&shown(claim));
            if !now.is_some_and(|now| allocation(&now).is_some() && is_reserved(&now, pod)) {
                continue;
            }
            let (api, name) = self.api(claim);
            let patch = serde_json::json!({
                "metadata": {"uid": uid(claim)},
                "status": {"reservedFor": [{"$patch": "delete", "uid": pod.metadata.uid}]},
            });
            if let Err(error) =
                api.patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await
            {
                tracing::warn!(claim = shown(claim), %error, "a pod still stands in a claim that it does not use");
            }
        }
    }

    /// Frees a claim that is in its only pod's way.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn free(&self, claim: &Claim) -> Result<(), kube::Error> {
        let (api, name) = self.api(claim);
        let mut freed = claim.clone();
        if let Some(status) = &mut freed.status {
            (status.reserved_for, status.allocation, status.devices) = (None, None, None);
        }
        api.replace_status(&name, &PostParams::default(), &freed).await.map(drop)
    }
}
