//! Applies what is planned for `Endpoints` and for the slices of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};
use parking_lot::Mutex;

use super::plan::{elects, is_own};
use crate::context::Context;
use crate::endpointslice;
use crate::endpointslice::plan::SERVICE;
use crate::view::split;

/// How soon a key is looked at again whose copy lags behind our own write.
const SOON: Duration = Duration::from_millis(50);

/// The controller's state beside what the informers hold.
pub struct AllEndpoints {
    context: Arc<Context>,
    /// The keys of Services that were seen, and of what was there at the start: whoever wrote `Endpoints` of that name,
    /// they go once no Service has it. Others are left to those who write them before their Service.
    known: Mutex<HashSet<String>>,
}

impl AllEndpoints {
    /// For this process.
    pub fn new(context: Arc<Context>) -> Self {
        let all = context.informers.endpoints.list();
        let left = all.into_iter().filter(|(_, endpoints)| !elects(endpoints)).map(|(key, _)| key);
        let known = Mutex::new(left.collect());
        Self { context, known }
    }

    /// Brings the `Endpoints` of one name up to date, and the slices that mirror them.
    ///
    /// # Errors
    /// Those of the API; the key is then tried again.
    pub async fn reconcile(&self, key: String) -> Result<Option<Duration>, kube::Error> {
        let (namespace, name) = split(&key);
        let informers = &self.context.informers;
        let (service, endpoints) = (informers.services.get(&key), informers.endpoints.get(&key));
        match service.as_deref() {
            Some(service) => {
                self.known.lock().insert(key.clone());
                let done = keep(&self.context, namespace, name, service, endpoints.as_deref()).await?;
                if let Some(pause) = done {
                    return Ok(Some(pause));
                }
            }
            None => {
                let is_known = self.known.lock().contains(&key);
                if let Some(current) = endpoints.as_deref().filter(|current| is_known || is_own(current)) {
                    remove(&self.context, namespace, name, current).await?;
                }
                self.known.lock().remove(&key);
            }
        }
        let mut slices = informers.slices.in_namespace(namespace);
        slices.retain(|slice| {
            slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE)).is_some_and(|of| of == name)
        });
        let plan = super::mirror::plan(service.as_deref(), endpoints.as_deref(), &slices);
        endpointslice::run::apply(&self.context.clients.mirrored_slices, namespace, plan).await
    }
}

async fn remove(
    context: &Context,
    namespace: &str,
    name: &str,
    current: &Endpoints,
) -> Result<(), kube::Error> {
    let api: Api<Endpoints> = Api::namespaced(context.clients.endpoints.clone(), namespace);
    // What has come in its place meanwhile is another's.
    let preconditions = Preconditions { uid: current.metadata.uid.clone(), ..Preconditions::default() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(name, &params).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(|_| ()),
    }
}

async fn keep(
    context: &Context,
    namespace: &str,
    name: &str,
    service: &Service,
    current: Option<&Endpoints>,
) -> Result<Option<Duration>, kube::Error> {
    let api: Api<Endpoints> = Api::namespaced(context.clients.endpoints.clone(), namespace);
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
