//! Applies what is planned for `Endpoints` and for the slices of them.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams};

use crate::context::Context;
use crate::endpointslice;
use crate::endpointslice::plan::SERVICE;
use crate::view::split;

/// How soon a key is looked at again whose copy lags behind our own write.
const SOON: Duration = Duration::from_millis(50);

/// Brings the `Endpoints` of one name up to date, and the slices that mirror them.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, key: String) -> Result<Option<Duration>, kube::Error> {
    let (namespace, name) = split(&key);
    let informers = &context.informers;
    let (service, endpoints) = (informers.services.get(&key), informers.endpoints.get(&key));
    if let Some(pause) = own(context, namespace, name, service.as_deref(), endpoints.as_deref()).await? {
        return Ok(Some(pause));
    }
    let mut slices = informers.slices.in_namespace(namespace);
    slices.retain(|slice| {
        slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE)).is_some_and(|of| of == name)
    });
    let plan = super::mirror::plan(service.as_deref(), endpoints.as_deref(), &slices);
    endpointslice::run::apply(&context.clients.mirrored_slices, namespace, plan).await
}

async fn own(
    context: &Context,
    namespace: &str,
    name: &str,
    service: Option<&Service>,
    current: Option<&Endpoints>,
) -> Result<Option<Duration>, kube::Error> {
    let api: Api<Endpoints> = Api::namespaced(context.clients.endpoints.clone(), namespace);
    let Some(service) = service else {
        if current.is_some_and(super::plan::is_own) {
            match api.delete(name, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => other.map(|_| ())?,
            }
        }
        return Ok(None);
    };
    let pods = context.informers.pods.in_namespace(namespace);
    let Some(wanted) = super::plan::plan(service, &pods, current) else { return Ok(None) };
    let done = match current {
        Some(_) => api.replace(name, &PostParams::default(), &wanted).await,
        None => api.create(&PostParams::default(), &wanted).await,
    };
    match done {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Some(SOON)),
        Err(kube::Error::Api(status))
            if status.code == 403 && status.message.contains("being terminated") =>
        {
            Ok(None)
        }
        other => other.map(|_| None),
    }
}
