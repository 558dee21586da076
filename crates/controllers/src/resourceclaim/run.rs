//! Does what the plans say for one pod or one claim.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{ResourceClaim as Claim, ResourceClaimConsumerReference as Consumer};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use parking_lot::Mutex;

use super::FINALIZER;
use super::claim::{self, Keeps, User};
use super::pod::{self, Lack};
use crate::context::Context;
use crate::view::{PodView, key, split};

/// What is to be looked at: namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A pod, which may lack claims.
    Pod(String),
    /// A claim, whose users may be gone.
    Claim(String),
}

/// Why something was not done, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("resource claim template {name:?}: resourceclaimtemplate.resource.k8s.io {name:?} not found")]
    NoTemplate { name: String },
    #[error("create ResourceClaim : {0}")]
    Create(Box<kube::Error>),
    #[error("reserve claim {claim}: {source}")]
    Reserve { claim: String, source: Box<kube::Error> },
    #[error(transparent)]
    Api(#[from] Box<kube::Error>),
}

fn api(error: kube::Error) -> Error {
    Error::Api(Box::new(error))
}

/// The controller.
pub struct ResourceClaims {
    context: Arc<Context>,
    /// Claims that were made and that the informer may not know yet, by pod; then by the pod's UID and its claim.
    made: Mutex<BTreeMap<String, BTreeMap<(String, String), String>>>,
}

impl ResourceClaims {
    /// For this process.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, made: Mutex::default() }
    }

    /// Looks at one pod or claim.
    ///
    /// # Errors
    /// When the API server refuses something; the key is then tried again.
    pub async fn reconcile(&self, key: Key) -> Result<Option<Duration>, Error> {
        match key {
            Key::Pod(name) => self.pod(&name).await,
            Key::Claim(name) => self.claim(&name).await,
        }
        .map(|()| None)
    }

    fn api(&self, namespace: &str) -> Api<Claim> {
        Api::namespaced(self.context.clients.resource_claims.clone(), namespace)
    }

    async fn pod(&self, name: &str) -> Result<(), Error> {
        let Some(pod) = self.context.informers.pods.get(name) else {
            self.made.lock().remove(name);
            return Ok(());
        };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let claims = self.context.informers.resource_claims.in_namespace(&pod.metadata.namespace);
        let lacks = pod::lacks(&pod, &claims);
        let mut new = BTreeMap::new();
        for lack in lacks {
            let (claim, found) = match lack {
                Lack::Untold { claim, name } => (claim, Ok(name)),
                Lack::Unmade { claim, template } => (claim, self.make(&pod, claim, template).await),
            };
            match found {
                Ok(name) => new.insert(claim.to_owned(), name),
                Err(error) => {
                    let message = format!("PodResourceClaim {claim}: {error}");
                    let recorder = self.context.recorder.named("resource_claim");
                    recorder.warning(pod.reference(), "FailedResourceClaimCreation", message);
                    return Err(error);
                }
            };
        }
        if new.is_empty() {
            self.made.lock().remove(name);
        } else {
            self.tell(&pod, &new).await?;
        }
        for (claim, consumer) in pod::unreserved(&pod, &claims) {
            self.reserve(claim, consumer).await?;
        }
        Ok(())
    }

    /// Makes a claim of a pod, unless that was done a moment ago; its name.
    async fn make(&self, pod: &PodView, claim: &str, template: &str) -> Result<String, Error> {
        let meta = &pod.metadata;
        let (of, this) = (meta.key(), (meta.uid.clone(), claim.to_owned()));
        let api = self.api(&meta.namespace);
        let known = self.made.lock().get(&of).and_then(|made| made.get(&this).cloned());
        if let Some(name) = known {
            if api.get_opt(&name).await.map_err(self::api)?.is_some() {
                return Ok(name);
            }
        }
        let templates = &self.context.informers.resource_claim_templates;
        let found = templates.get(&key(&meta.namespace, template));
        let found = found.ok_or_else(|| Error::NoTemplate { name: template.to_owned() })?;
        let made = api.create(&PostParams::default(), &pod::made(pod, claim, &found)).await;
        let made = made.map_err(|source| Error::Create(Box::new(source)))?;
        let name = made.metadata.name.unwrap_or_default();
        self.made.lock().entry(of).or_default().insert(this, name.clone());
        Ok(name)
    }

    /// Writes into the pod's status which claims are its own.
    async fn tell(&self, pod: &PodView, new: &BTreeMap<String, String>) -> Result<(), Error> {
        let meta = &pod.metadata;
        let pods: Api<Pod> = Api::namespaced(self.context.clients.resource_claims.clone(), &meta.namespace);
        let patch = serde_json::json!({
            "metadata": {"uid": meta.uid},
            "status": {"resourceClaimStatuses": pod::statuses(new)},
        });
        // The list is merged by name, so that what was told before stays.
        let manager = Some("ResourceClaimController".to_owned());
        let parameters = PatchParams { field_manager: manager, ..PatchParams::default() };
        match pods.patch_status(&meta.name, &parameters, &Patch::Strategic(&patch)).await {
            // The pod is gone, and its claims go with it.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).map_err(self::api),
        }
    }

    async fn reserve(&self, claim: &Claim, consumer: Consumer) -> Result<(), Error> {
        let (namespace, name) = place(claim);
        let mut changed = claim.clone();
        changed.status.get_or_insert_default().reserved_for.get_or_insert_default().push(consumer);
        let written = self.api(namespace).replace_status(name, &PostParams::default(), &changed).await;
        let reserve = |source| Error::Reserve { claim: key(namespace, name), source: Box::new(source) };
        written.map(drop).map_err(reserve)
    }

    async fn claim(&self, name: &str) -> Result<(), Error> {
        let Some(found) = self.context.informers.resource_claims.get(name) else { return Ok(()) };
        let (namespace, name) = split(name);
        let remaining = self.remaining(&found, namespace).await?;
        let owner = pod::owner(&found).map(|(owner, _)| key(namespace, owner));
        let owner = owner.and_then(|owner| self.context.informers.pods.get(&owner));
        let plan = claim::plan(&found, remaining, owner.as_deref());
        let api = self.api(namespace);
        let mut current = (*found).clone();
        if let Some((remaining, keeps)) = plan.status {
            // Not a patch: it is to fail when anything has changed in the meantime.
            let status = current.status.get_or_insert_default();
            status.reserved_for = Some(remaining).filter(|remaining| !remaining.is_empty());
            if keeps == Keeps::Nothing {
                status.allocation = None;
            }
            current = match api.replace_status(name, &PostParams::default(), &current).await {
                Ok(written) => written,
                // The informer has not told yet that it is gone.
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
                Err(error) => return Err(self::api(error)),
            };
        }
        if plan.release {
            let mut others = current.metadata.finalizers.take().unwrap_or_default();
            others.retain(|finalizer| finalizer != FINALIZER);
            current.metadata.finalizers = Some(others).filter(|others| !others.is_empty());
            gone_is_fine(api.replace(name, &PostParams::default(), &current).await.map(drop))?;
        }
        if plan.delete {
            gone_is_fine(api.delete(name, &DeleteParams::default()).await.map(drop))?;
        }
        Ok(())
    }

    /// Those who still use a claim.
    async fn remaining(&self, found: &Claim, namespace: &str) -> Result<Vec<Consumer>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.context.clients.resource_claims.clone(), namespace);
        let users = found.status.as_ref().and_then(|status| status.reserved_for.as_ref());
        let mut remaining = Vec::new();
        for consumer in users.into_iter().flatten() {
            let known = self.context.informers.pods.get(&key(namespace, &consumer.name));
            let stays = match claim::user(consumer, known.as_deref()) {
                User::Stays => true,
                User::Gone => false,
                // The informer may be behind the scheduler: only the API server can tell.
                User::Unknown => {
                    let asked = pods.get_opt(&consumer.name).await.map_err(self::api)?;
                    asked.is_some_and(|pod| pod.metadata.uid.as_deref() == Some(consumer.uid.as_str()))
                }
            };
            if stays {
                remaining.push(consumer.clone());
            }
        }
        Ok(remaining)
    }
}

fn place(claim: &Claim) -> (&str, &str) {
    let meta = &claim.metadata;
    (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map_err(api),
    }
}
