//! How many pods the owners of a budget's pods want.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;

use crate::context::Context;
use crate::share::ShareError;
use crate::view::{PodView, key};

/// Why that is not known.
#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    /// A pod's owner is not to be found.
    #[error("found no controllers for pod {0:?}")]
    NoController(String),
    /// It is of a kind that is not served.
    #[error("no matches for kind {kind:?} in version {version:?}")]
    NoKind { kind: String, version: String },
    /// It cannot be scaled.
    #[error("{0} does not implement the scale subresource")]
    NoScale(String),
    /// What the budget asks for is not a share.
    #[error("{0}")]
    NoShare(#[from] ShareError),
    /// The API server did not say.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// What the owners want.
#[derive(Debug, Default)]
pub struct Expected {
    /// So many pods.
    pub pods: i32,
    /// Pods that nobody made.
    pub unmanaged: usize,
}

/// Where the kinds of owners are served.
#[derive(Default)]
pub struct Scales {
    /// The plurals of kinds that can be scaled, by version and kind.
    plurals: Mutex<HashMap<(String, String), String>>,
}

impl Scales {
    /// How many pods the owners of these pods want, each owner once.
    ///
    /// # Errors
    /// Where one pod's owner does not say.
    pub async fn expected(&self, context: &Context, pods: &[Arc<PodView>]) -> Result<Expected, ScaleError> {
        let mut expected = Expected::default();
        let (mut asked, mut counted) = (HashSet::new(), HashSet::new());
        for pod in pods {
            let Some(owner) = pod.metadata.controller() else {
                expected.unmanaged += 1;
                continue;
            };
            if !asked.insert(&owner.uid) {
                continue;
            }
            let (uid, replicas) = match known(context, &pod.metadata.namespace, owner) {
                Some(found) => Some(found),
                None => self.ask(context, &pod.metadata.namespace, owner).await?,
            }
            .ok_or_else(|| ScaleError::NoController(pod.metadata.name.clone()))?;
            if counted.insert(uid) {
                expected.pods = expected.pods.saturating_add(replicas);
            }
        }
        Ok(expected)
    }

    /// Asks the API server for an owner's scale: its UID and what it wants.
    async fn ask(
        &self,
        context: &Context,
        namespace: &str,
        owner: &OwnerReference,
    ) -> Result<Option<(String, i32)>, ScaleError> {
        let plural = self.plural(context, owner).await?;
        let version = &owner.api_version;
        let root = if version.contains('/') { "apis" } else { "api" };
        let path = format!("/{root}/{version}/namespaces/{namespace}/{plural}/{}/scale", owner.name);
        let request = http::Request::get(path).body(Vec::new());
        let request = request.map_err(kube::Error::HttpError)?;
        match context.clients.disruption.request::<Scale>(request).await {
            Ok(scale) => {
                let uid = scale.metadata.uid.unwrap_or_default();
                let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or_default();
                Ok((uid == owner.uid).then_some((uid, replicas)))
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn plural(&self, context: &Context, owner: &OwnerReference) -> Result<String, ScaleError> {
        let key = (owner.api_version.clone(), owner.kind.clone());
        if let Some(plural) = self.plurals.lock().get(&key) {
            return Ok(plural.clone());
        }
        let client = &context.clients.disruption;
        let version = &owner.api_version;
        let served = if version.contains('/') {
            client.list_api_group_resources(version).await
        } else {
            client.list_core_api_resources(version).await
        };
        let no_kind = || ScaleError::NoKind { kind: owner.kind.clone(), version: version.clone() };
        let served = match served {
            Err(kube::Error::Api(status)) if status.code == 404 => return Err(no_kind()),
            served => served?,
        };
        let found = served.resources.iter().find(|one| one.kind == owner.kind && !one.name.contains('/'));
        let plural = found.ok_or_else(no_kind)?.name.clone();
        let below = format!("{plural}/scale");
        if !served.resources.iter().any(|one| one.name == below && one.kind == "Scale") {
            let group = version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
            return Err(ScaleError::NoScale(format!("{plural}{group}")));
        }
        self.plurals.lock().insert(key, plural.clone());
        Ok(plural)
    }
}

/// What a replica set wants, or the deployment that it belongs to; none if our copies do not tell.
fn known(context: &Context, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
    let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
    if owner.kind != "ReplicaSet" || group != "apps" {
        return None;
    }
    let set = context.informers.replica_sets.get(&key(namespace, &owner.name))?;
    let uid = set.metadata.uid.clone().filter(|uid| *uid == owner.uid)?;
    let above = set.metadata.owner_references.iter().flatten().find(|above| above.controller == Some(true));
    let Some(above) = above.filter(|above| above.kind == "Deployment") else {
        return Some((uid, set.spec.replicas.unwrap_or(1)));
    };
    let deployment = context.informers.deployments.get(&key(namespace, &above.name))?;
    let uid = deployment.metadata.uid.clone().filter(|uid| *uid == above.uid)?;
    Some((uid, deployment.spec.replicas.unwrap_or(1)))
}
