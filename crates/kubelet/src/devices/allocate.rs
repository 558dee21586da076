//! Gives devices to containers: what was chosen is told to the plugin, and what it says is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use cri::device_plugin as wire;
use k8s_openapi::api::core::v1::{Container, Pod};
use schema::quantity::Quantity;
use tonic::Status;

use super::choose::{ChooseError, Query, Request, choose};
use super::state::Given;
use super::{Devices, Needs};
use crate::checkpoint::CheckpointError;
use crate::counts::table;
use crate::plugins::described;
use crate::pods::spec::PodExt;
use crate::topology::Mask;

/// Upstream's limit of a plugin that is asked before a container starts.
const PRE_START: Duration = Duration::from_secs(30);

/// Why a container does not get its devices, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum AllocateError {
    #[error(transparent)]
    Choose(#[from] ChooseError),
    #[error(
        "pod {uid:?} container {container:?} changed request for resource {resource:?} from {had} to {wanted}"
    )]
    Changed { uid: String, container: String, resource: String, had: usize, wanted: usize },
    #[error("unknown Device Plugin {0}")]
    NoPlugin(String),
    #[error("endpoint not found in cache for a registered resource: {0}")]
    NotRegistered(String),
    #[error("device plugin GetPreferredAllocation rpc failed with err: {}", described(.0))]
    Preferred(#[source] Status),
    #[error("{}", described(.0))]
    Allocate(#[source] Status),
    #[error("no containers return in allocation response")]
    Empty,
    #[error("device plugin PreStartContainer rpc failed with err: {}", described(.0))]
    PreStart(#[source] Status),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// What a container asks for of each resource.
pub(super) fn limits(container: &Container) -> Vec<(String, usize)> {
    let limits = container.resources.iter().flat_map(|resources| resources.limits.iter().flatten());
    let parsed = limits.filter_map(|(name, text)| {
        let count = text.0.parse::<Quantity>().ok()?.value();
        Some((name.clone(), usize::try_from(count).ok().filter(|count| *count > 0)?))
    });
    parsed.collect()
}

/// Whether a driver of dynamic resources provides this to the container, and the scheduler made a claim for it.
fn is_claimed(pod: &Pod, container: &Container, resource: &str) -> bool {
    let status = pod.status.as_ref().and_then(|status| status.extended_resource_claim_status.as_ref());
    let mut mappings = status.into_iter().flat_map(|status| &status.request_mappings);
    mappings.any(|mapping| mapping.container_name == container.name && mapping.resource_name == resource)
}

impl Devices {
    /// What a container asks for of the resources that plugins provide; not what it gets by a claim.
    pub fn wanted(&self, pod: &Pod, container: &Container) -> Vec<(String, usize)> {
        let state = self.state.lock();
        let here = |name: &str| state.manages(name) && !is_claimed(pod, container, name);
        limits(container).into_iter().filter(|(name, _)| here(name)).collect()
    }

    /// Gives a container its devices. Those that it has already are kept.
    ///
    /// # Errors
    /// [`AllocateError`]; what it got until then stays its own until the pod is released.
    pub async fn allocate(
        &self,
        pod: &Pod,
        container: &Container,
        affinity: Option<Mask>,
    ) -> Result<(), AllocateError> {
        let mut any = false;
        for (resource, count) in self.wanted(pod, container) {
            let had = self.state.lock().share(pod.uid(), &container.name, &resource).map(|g| g.ids().len());
            match had {
                Some(had) if had == count => continue,
                Some(had) => {
                    let (uid, container) = (pod.uid().to_owned(), container.name.clone());
                    return Err(AllocateError::Changed { uid, container, resource, had, wanted: count });
                }
                None => self.give(pod, &container.name, (&resource, count), affinity).await?,
            }
            any = true;
        }
        if any {
            self.write()?;
        }
        Ok(())
    }

    async fn give(
        &self,
        pod: &Pod,
        container: &str,
        (resource, count): (&str, usize),
        affinity: Option<Mask>,
    ) -> Result<(), AllocateError> {
        let (choice, options) = {
            let state = self.state.lock();
            let reusable = state.reusable(pod, container, resource);
            let choice = choose(&state, Request { resource, count, reusable, affinity })?;
            (choice, state.resources.get(resource).map(|resource| resource.options).unwrap_or_default())
        };
        let preferred = match &choice.query {
            Some(query) if options.preferred => self.preferred(resource, query).await?,
            _ => BTreeSet::new(),
        };
        let ids = choice.finish(&preferred);
        let mut client = self
            .plugins
            .lock()
            .client(resource)
            .ok_or_else(|| AllocateError::NoPlugin(resource.to_owned()))?;
        let request = wire::ContainerAllocateRequest { devices_ids: ids.iter().cloned().collect() };
        let request = wire::AllocateRequest { container_requests: vec![request] };
        let call = client.allocate(request);
        let labels = |_: &_| [resource.to_owned()];
        let answer = self.meter.time(&table::DEVICE_ALLOCATIONS, labels, call).await;
        let answer = answer.map_err(AllocateError::Allocate)?.into_inner();
        let response = answer.container_responses.into_iter().next().ok_or(AllocateError::Empty)?;
        let mut state = self.state.lock();
        let devices = state.placed(resource, &ids);
        tracing::debug!(pod = %pod.described(), container, resource, ?ids, "devices are given");
        state.give(pod.uid(), container, resource, Given { devices, response });
        Ok(())
    }

    async fn preferred(&self, resource: &str, query: &Query) -> Result<BTreeSet<String>, AllocateError> {
        let mut client = self
            .plugins
            .lock()
            .client(resource)
            .ok_or_else(|| AllocateError::NotRegistered(resource.to_owned()))?;
        let request = wire::ContainerPreferredAllocationRequest {
            available_device_i_ds: query.available.iter().cloned().collect(),
            must_include_device_i_ds: query.required.iter().cloned().collect(),
            allocation_size: i32::try_from(query.count).unwrap_or(i32::MAX),
        };
        let request = wire::PreferredAllocationRequest { container_requests: vec![request] };
        let answer = client.get_preferred_allocation(request).await.map_err(AllocateError::Preferred)?;
        let first = answer.into_inner().container_responses.into_iter().next();
        Ok(first.map(|response| response.device_i_ds.into_iter().collect()).unwrap_or_default())
    }

    /// Whether a container asks for devices that it was never given: a file that says so was lost.
    pub fn lacks(&self, pod: &Pod, container: &Container) -> bool {
        let wanted = self.wanted(pod, container);
        let state = self.state.lock();
        wanted.iter().any(|(resource, _)| state.share(pod.uid(), &container.name, resource).is_none())
    }

    /// Tells plugins that want to know that a container is about to start.
    ///
    /// # Errors
    /// [`AllocateError`].
    pub async fn pre_start(&self, pod: &Pod, container: &Container) -> Result<(), AllocateError> {
        for (resource, _) in self.wanted(pod, container) {
            let (ids, options) = {
                let state = self.state.lock();
                let given = state.share(pod.uid(), &container.name, &resource).map(Given::ids);
                let options = state.resources.get(&resource).map(|resource| resource.options);
                let missing = || AllocateError::NotRegistered(resource.clone());
                (given.unwrap_or_default(), options.ok_or_else(missing)?)
            };
            if !options.pre_start {
                continue;
            }
            let client = self.plugins.lock().client(&resource);
            let mut client = client.ok_or_else(|| AllocateError::NotRegistered(resource.clone()))?;
            let message = wire::PreStartContainerRequest { devices_ids: ids.into_iter().collect() };
            let mut request = tonic::Request::new(message);
            request.set_timeout(PRE_START);
            client.pre_start_container(request).await.map_err(AllocateError::PreStart)?;
        }
        Ok(())
    }

    /// What a container needs for the devices that it has.
    pub fn needs(&self, uid: &str, container: &str) -> Needs {
        let state = self.state.lock();
        let mut needs = Needs::default();
        let given = state.given.get(uid).and_then(|shares| shares.get(container));
        given.into_iter().flatten().for_each(|(_, given)| needs.add(&given.response));
        needs
    }
}
