//! Tells whoever measures a node which devices, processors and memory its containers have for themselves, and what they
//! have by claims (`podresources/v1`), at `<root>/pod-resources/kubelet.sock`.

mod before;

use std::sync::Arc;

use cri::pod_resources as wire;
use k8s_openapi::api::core::v1::{Container, Pod};
use tonic::{Request, Response, Status};
use wire::pod_resources_lister_server::{PodResourcesLister, PodResourcesListerServer};

use crate::Shared;
use crate::claims::Prepared;
use crate::counts::table;
use crate::memory::Block;
use crate::pods::Pods;
use crate::pods::spec::{PodExt, is_sidecar};
use crate::socket::{SocketError, listen};

/// The most calls at once; who asks is on the node, and few.
const MOST_CALLS: usize = 32;

/// The version that is served, as metrics name it.
const VERSION: &str = "v1";

struct Calls {
    shared: Arc<Shared>,
    pods: Pods,
}

/// Listens.
///
/// # Errors
/// [`SocketError`].
pub fn serve(shared: &Arc<Shared>, pods: Pods) -> Result<(), SocketError> {
    let incoming = listen(&shared.config.root_dir.join("pod-resources/kubelet.sock"))?;
    let before = before::service(shared, pods.clone());
    let calls = Calls { shared: shared.clone(), pods };
    let server = tonic::transport::Server::builder()
        .concurrency_limit_per_connection(MOST_CALLS)
        .add_service(PodResourcesListerServer::new(calls))
        .add_service(before);
    let shutdown = shared.tasks.shutdown().clone();
    shared.tasks.spawn(async move {
        let end = async move { shutdown.wait().await };
        if let Err(error) = server.serve_with_incoming_shutdown(incoming, end).await {
            tracing::error!(%error, "who has which resources is not told any more");
        }
    });
    Ok(())
}

impl Calls {
    fn asked(&self, row: &table::Row) {
        self.shared.counts.count(&table::RESOURCES_ASKED, &[VERSION]);
        self.shared.counts.count(row, &[VERSION]);
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Calls {
    async fn list(
        &self,
        _: Request<wire::ListPodResourcesRequest>,
    ) -> Result<Response<wire::ListPodResourcesResponse>, Status> {
        self.asked(&table::RESOURCES_LIST);
        let pods = self.pods.list().into_iter().map(|handle| handle.pod());
        let active = pods.filter(|pod| !pod.is_terminal());
        let pod_resources = active.map(|pod| of_pod(&self.shared, &pod)).collect();
        Ok(Response::new(wire::ListPodResourcesResponse { pod_resources }))
    }

    async fn get(
        &self,
        request: Request<wire::GetPodResourcesRequest>,
    ) -> Result<Response<wire::GetPodResourcesResponse>, Status> {
        self.asked(&table::RESOURCES_GET);
        let wire::GetPodResourcesRequest { pod_name: name, pod_namespace: namespace } = request.into_inner();
        let found = self.pods.find(&namespace, &name);
        let handle = found.ok_or_else(|| {
            self.shared.counts.count(&table::RESOURCES_GET_ERRORS, &[VERSION]);
            Status::unknown(format!("pod {name} in namespace {namespace} not found"))
        })?;
        let pod_resources = Some(of_pod(&self.shared, &handle.pod()));
        Ok(Response::new(wire::GetPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<wire::AllocatableResourcesRequest>,
    ) -> Result<Response<wire::AllocatableResourcesResponse>, Status> {
        self.asked(&table::RESOURCES_ALLOCATABLE);
        let exclusive = &self.shared.exclusive;
        Ok(Response::new(wire::AllocatableResourcesResponse {
            devices: exclusive.devices.healthy().into_iter().map(device).collect(),
            cpu_ids: exclusive.cpus.allocatable().iter().map(i64::from).collect(),
            memory: exclusive.memory.allocatable().into_iter().map(memory).collect(),
        }))
    }
}

fn of_pod(shared: &Shared, pod: &Pod) -> wire::PodResources {
    let lasting = pod.init_containers().iter().filter(|c| is_sidecar(c)).chain(pod.containers());
    wire::PodResources {
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        containers: lasting.map(|container| of_container(shared, pod, container)).collect(),
    }
}

fn of_container(shared: &Shared, pod: &Pod, container: &Container) -> wire::ContainerResources {
    let exclusive = &shared.exclusive;
    let (uid, name) = (pod.uid(), container.name.as_str());
    let cpus = exclusive.cpus.exclusive(uid, name).unwrap_or_default();
    wire::ContainerResources {
        name: name.to_owned(),
        devices: exclusive.devices.given(uid, name).into_iter().map(device).collect(),
        cpu_ids: cpus.iter().map(i64::from).collect(),
        memory: exclusive.memory.given(uid, name).into_iter().map(memory).collect(),
        dynamic_resources: shared.claims.prepared(pod, container).into_iter().map(claimed).collect(),
    }
}

fn topology(nodes: impl IntoIterator<Item = i64>) -> wire::TopologyInfo {
    wire::TopologyInfo { nodes: nodes.into_iter().map(|id| wire::NumaNode { id }).collect() }
}

/// One device at one of the NUMA nodes that it is near to.
fn device((resource_name, id, node): (String, String, Option<i64>)) -> wire::ContainerDevices {
    wire::ContainerDevices {
        resource_name,
        device_ids: vec![id],
        topology: node.map(|node| topology([node])),
    }
}

fn claimed(prepared: Prepared) -> wire::DynamicResource {
    let resource = |(driver_name, device): (String, crate::claims::Device)| wire::ClaimResource {
        cdi_devices: device.cdi.into_iter().map(|name| wire::CdiDevice { name }).collect(),
        driver_name,
        pool_name: device.pool,
        device_name: device.name,
        share_id: device.share,
    };
    wire::DynamicResource {
        claim_name: prepared.claim,
        claim_namespace: prepared.namespace,
        claim_resources: prepared.devices.into_iter().map(resource).collect(),
    }
}

fn memory(block: Block) -> wire::ContainerMemory {
    wire::ContainerMemory {
        memory_type: block.kind,
        size: block.size,
        topology: Some(topology(block.numa_affinity)),
    }
}
