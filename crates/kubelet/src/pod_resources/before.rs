//! `podresources/v1alpha1`, which tells of devices alone; upstream's kubelet still answers it.

use std::sync::Arc;

use cri::pod_resources as newer;
use cri::pod_resources_v1alpha1 as wire;
use tonic::{Request, Response, Status};
use wire::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};

use super::of_pod;
use crate::Shared;
use crate::counts::table;
use crate::pods::Pods;

const VERSION: &str = "v1alpha1";

struct Calls {
    shared: Arc<Shared>,
    pods: Pods,
}

/// The service.
pub fn service(shared: &Arc<Shared>, pods: Pods) -> PodResourcesListerServer<impl PodResourcesLister> {
    PodResourcesListerServer::new(Calls { shared: shared.clone(), pods })
}

#[tonic::async_trait]
impl PodResourcesLister for Calls {
    async fn list(
        &self,
        _: Request<wire::ListPodResourcesRequest>,
    ) -> Result<Response<wire::ListPodResourcesResponse>, Status> {
        self.shared.counts.count(&table::RESOURCES_ASKED, &[VERSION]);
        let pods = self.pods.list().into_iter().map(|handle| handle.pod());
        let pod_resources = pods.map(|pod| of_devices(of_pod(&self.shared, &pod))).collect();
        Ok(Response::new(wire::ListPodResourcesResponse { pod_resources }))
    }
}

fn of_devices(pod: newer::PodResources) -> wire::PodResources {
    let device = |device: newer::ContainerDevices| wire::ContainerDevices {
        resource_name: device.resource_name,
        device_ids: device.device_ids,
    };
    let container = |container: newer::ContainerResources| wire::ContainerResources {
        name: container.name,
        devices: container.devices.into_iter().map(device).collect(),
    };
    let containers = pod.containers.into_iter().map(container).collect();
    wire::PodResources { name: pod.name, namespace: pod.namespace, containers }
}
