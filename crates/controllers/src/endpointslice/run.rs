//! Applies the plan of a Service's endpoint slices.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use super::plan::{Plan, SERVICE, plan};
use crate::context::Context;
use crate::view::split;

/// Brings the slices of one Service up to date.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, key: String) -> Result<Option<Duration>, kube::Error> {
    let (namespace, name) = split(&key);
    // The slices of a Service that is gone go with it: the garbage collector sees to that.
    let Some(service) = context.informers.services.get(&key) else { return Ok(None) };
    let pods = context.informers.pods.in_namespace(namespace);
    let slices: Vec<Arc<EndpointSlice>> = context
        .informers
        .slices
        .in_namespace(namespace)
        .into_iter()
        .filter(|slice| {
            slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE)).is_some_and(|of| of == name)
        })
        .collect();
    apply(&context.clients.endpoint_slices, namespace, plan(&service, &pods, &slices)).await
}

/// Does what is planned for slices, as a client.
///
/// # Errors
/// Those of the API.
pub async fn apply(
    client: &kube::Client,
    namespace: &str,
    plan: Plan,
) -> Result<Option<Duration>, kube::Error> {
    let Plan { create, update, delete } = plan;
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    for slice in update {
        let name = slice.metadata.name.clone().unwrap_or_default();
        match api.replace(&name, &PostParams::default(), &slice).await {
            // The informer lags behind our own write: it is looked at again when it tells.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                return Ok(Some(Duration::from_millis(50)));
            }
            other => other.map(|_| ())?,
        }
    }
    for slice in create {
        match api.create(&PostParams::default(), &slice).await {
            Err(kube::Error::Api(status))
                if status.code == 403 && status.message.contains("being terminated") => {}
            other => other.map(|_| ())?,
        }
    }
    for name in delete {
        match api.delete(&name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => other.map(|_| ())?,
        }
    }
    Ok(None)
}
