//! The object by which the API server shows a static pod.

use base::failpoint;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::manifest::HASH;
use crate::Shared;
use crate::pods::spec::PodExt;

/// Marks a mirror pod; its value is the static pod's uid.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether an object only shows a static pod of some node.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, MIRROR).is_some()
}

fn annotation<'p>(pod: &'p Pod, name: &str) -> Option<&'p str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// Makes the mirror of a static pod what it has to be: there, of this very pod, and not being deleted.
///
/// # Errors
/// What the API server says.
pub async fn keep(shared: &Shared, pod: &Pod, mirror: Option<&Pod>) -> Result<(), kube::Error> {
    if let Some(mirror) = mirror {
        let same = annotation(mirror, MIRROR) == annotation(pod, HASH);
        if same && !mirror.is_deleting() {
            return Ok(());
        }
        retire(shared, mirror).await?;
    }
    let nodes: Api<Node> = Api::all(shared.client.clone());
    let node = nodes.get(&shared.config.node_name).await?;
    let mut mirror = pod.clone();
    mirror.status = None;
    mirror.metadata.uid = None;
    mirror.metadata.creation_timestamp = None;
    mirror.metadata.resource_version = None;
    let hash = annotation(pod, HASH).unwrap_or_default().to_owned();
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR.to_owned(), hash);
    mirror.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: shared.config.node_name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), pod.namespace());
    failpoint::hit("kubelet.mirror.asked");
    let made = api.create(&PostParams::default(), &mirror).await;
    failpoint::hit("kubelet.mirror.answered");
    match made {
        Err(error) if code(&error) == 409 => Ok(()),
        other => other.map(drop),
    }
}

/// Deletes a mirror at once. One that is gone is no error.
///
/// # Errors
/// What the API server says.
pub async fn retire(shared: &Shared, mirror: &Pod) -> Result<(), kube::Error> {
    let api: Api<Pod> = Api::namespaced(shared.client.clone(), mirror.namespace());
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: mirror.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    failpoint::hit("kubelet.mirror.retiring");
    let deleted = api.delete(mirror.name(), &params).await;
    failpoint::hit("kubelet.mirror.retired");
    match deleted {
        Err(error) if matches!(code(&error), 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}
