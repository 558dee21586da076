//! Devices of plugins, as their containers see them.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cri::device_plugin as wire;
use cri::pod_resources::pod_resources_lister_client::PodResourcesListerClient;
use cri::pod_resources::{AllocatableResourcesRequest, ListPodResourcesRequest};
use cri::pod_resources_v1alpha1::pod_resources_lister_client as before;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{StreamExt, pending};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use wire::device_plugin_server::{DevicePlugin, DevicePluginServer};
use wire::registration_client::RegistrationClient;

use crate::cluster::Cluster;
use crate::node_pods::nodes;

/// Two devices, both of them `/dev/full`; each brings a variable and a file.
struct Plugin {
    folder: PathBuf,
    started: Mutex<u32>,
}

#[tonic::async_trait]
impl DevicePlugin for Plugin {
    type ListAndWatchStream = BoxStream<wire::ListAndWatchResponse>;

    async fn get_device_plugin_options(
        &self,
        _: Request<wire::Empty>,
    ) -> Result<Response<wire::DevicePluginOptions>, Status> {
        Ok(Response::new(wire::DevicePluginOptions { pre_start_required: true, ..Default::default() }))
    }

    async fn list_and_watch(
        &self,
        _: Request<wire::Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let device =
            |id: &str| wire::Device { id: id.to_owned(), health: "Healthy".to_owned(), topology: None };
        let list = wire::ListAndWatchResponse { devices: vec![device("a"), device("b")] };
        Ok(Response::new(Box::pin(tokio_stream::once(Ok(list)).chain(pending()))))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<wire::PreferredAllocationRequest>,
    ) -> Result<Response<wire::PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("nobody was to ask"))
    }

    async fn allocate(
        &self,
        request: Request<wire::AllocateRequest>,
    ) -> Result<Response<wire::AllocateResponse>, Status> {
        let ids = request.into_inner().container_requests[0].devices_ids.join(",");
        let response = wire::ContainerAllocateResponse {
            envs: [("THINGS".to_owned(), ids)].into(),
            mounts: vec![wire::Mount {
                container_path: "/things".to_owned(),
                host_path: self.folder.display().to_string(),
                read_only: true,
            }],
            devices: vec![wire::DeviceSpec {
                container_path: "/dev/thing".to_owned(),
                host_path: "/dev/full".to_owned(),
                permissions: "rw".to_owned(),
            }],
            ..Default::default()
        };
        Ok(Response::new(wire::AllocateResponse { container_responses: vec![response] }))
    }

    async fn pre_start_container(
        &self,
        _: Request<wire::PreStartContainerRequest>,
    ) -> Result<Response<wire::PreStartContainerResponse>, Status> {
        *self.started.lock().unwrap() += 1;
        Ok(Response::new(wire::PreStartContainerResponse {}))
    }
}

/// Where the only node's kubelet keeps its files.
pub fn kubelet_folder(cluster: &Cluster) -> PathBuf {
    let node = std::fs::read_dir(cluster.dir().join("data/nodes")).unwrap().next().unwrap().unwrap();
    node.path().join("kubelet")
}

/// Serves the plugin beside the kubelet's socket, and registers it.
fn plug(cluster: &Cluster, plugin: &Arc<Plugin>, runtime: &Runtime) {
    // Upstream's kubelet looks there whatever its own folder is.
    let fixed = crate::upstream::wanted().map(|_| PathBuf::from("/var/lib/kubelet"));
    let folder = fixed.unwrap_or_else(|| kubelet_folder(cluster)).join("device-plugins");
    let path = folder.join("thing.sock");
    let _ = std::fs::remove_file(&path);
    let serve = || {
        let _entered = runtime.enter();
        let listener = UnixListener::bind(&path).unwrap();
        let plugin = DevicePluginServer::from_arc(plugin.clone());
        let server = tonic::transport::Server::builder().add_service(plugin);
        runtime.spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    };
    let request = wire::RegisterRequest {
        version: "v1beta1".to_owned(),
        endpoint: "thing.sock".to_owned(),
        resource_name: "example.com/thing".to_owned(),
        options: None,
    };
    cluster.until("the plugin to be registered", || {
        // A kubelet that begins takes the sockets of plugins away, so that they come again.
        if !path.exists() {
            serve();
        }
        runtime
            .block_on(async {
                let channel = cri::channel(&folder.join("kubelet.sock").display().to_string()).await.ok()?;
                RegistrationClient::new(channel).register(request.clone()).await.ok()
            })
            .is_some()
    });
    let show = r"get node -o jsonpath={.items[0].status.allocatable.example\.com/thing}";
    cluster.becomes(show, "2");
}

/// Who has which devices, as monitors of the node are told.
fn told(cluster: &Cluster, runtime: &Runtime) -> String {
    let socket = kubelet_folder(cluster).join("pod-resources/kubelet.sock").display().to_string();
    let pods = runtime.block_on(async {
        let mut client = PodResourcesListerClient::new(cri::channel(&socket).await.unwrap());
        let all = client.get_allocatable_resources(AllocatableResourcesRequest {}).await.unwrap();
        assert_eq!(all.into_inner().devices.len(), 2);
        let pods = client.list(ListPodResourcesRequest {}).await.unwrap().into_inner().pod_resources;
        let mut client = before::PodResourcesListerClient::new(cri::channel(&socket).await.unwrap());
        let request = cri::pod_resources_v1alpha1::ListPodResourcesRequest {};
        let known = client.list(request).await.unwrap().into_inner().pod_resources;
        let devices = |of: &cri::pod_resources_v1alpha1::PodResources| {
            of.containers.iter().flat_map(|c| &c.devices).count()
        };
        let given: usize = pods.iter().flat_map(|pod| &pod.containers).map(|c| c.devices.len()).sum();
        assert_eq!(known.iter().map(devices).sum::<usize>(), given, "the older version tells the same");
        pods
    });
    let lines = pods.iter().flat_map(|pod| {
        pod.containers.iter().flat_map(move |container| {
            container.devices.iter().map(move |device| {
                let ids = device.device_ids.join(",");
                format!("{} {} {} {ids}", pod.name, container.name, device.resource_name)
            })
        })
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn pod(name: &str, things: u32, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  terminationGracePeriodSeconds: 0\n  \
         containers:\n  - name: c\n    image: docker.io/library/busybox:test\n    imagePullPolicy: IfNotPresent\n    \
         command: [sleep, '1000']\n    resources: {{limits: {{example.com/thing: {things}}}}}\n"
    )
}

#[test]
fn a_pod_gets_a_plugins_device_and_keeps_it_over_a_restart_of_the_kubelet() {
    let Some(cluster) = nodes("1") else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let folder = cluster.dir().join("things");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("note"), "from the plugin").unwrap();
    let plugin = Arc::new(Plugin { folder, started: Mutex::new(0) });
    plug(&cluster, &plugin, &runtime);
    let node = cluster.k("get node -o jsonpath={.items[0].metadata.name}");
    let direct = format!("nodeName: {}", node.trim());

    cluster.apply(&pod("one", 1, "restartPolicy: Always"));
    cluster.k("wait --for=condition=Ready pod/one --timeout=30s");
    let has_it = || {
        assert_eq!(cluster.k("exec one -- sh -c 'echo $THINGS'").trim(), "a");
        assert_eq!(cluster.k("exec one -- cat /things/note"), "from the plugin");
        cluster.refuses("exec one -- sh -c 'echo x > /dev/thing'", "No space left on device");
    };
    has_it();
    let health = "get pod one -o jsonpath={.status.containerStatuses[0].allocatedResourcesStatus}";
    let health: serde_json::Value = serde_json::from_str(&cluster.k(health)).unwrap();
    assert_eq!(
        health,
        serde_json::json!([{"name": "example.com/thing", "resources": [{"resourceID": "a", "health": "Healthy"}]}])
    );
    assert_eq!(told(&cluster, &runtime), "one c example.com/thing a");
    let refused = |name: &str| {
        // Nobody asked the scheduler, who would have known better.
        cluster.apply(&pod(name, 2, &direct));
        cluster
            .becomes(&format!("get pod {name} -o jsonpath={{.status.reason}}"), "UnexpectedAdmissionError");
        let message = cluster.k(&format!("get pod {name} -o jsonpath={{.status.message}}"));
        assert_eq!(
            message,
            "Pod was rejected: Allocate failed due to requested number of devices unavailable for \
             example.com/thing. Requested: 2, Available: 1, which is unexpected"
        );
    };
    refused("greedy");

    let identity = "get pod one -o jsonpath={.status.containerStatuses[0].containerID}";
    let before = cluster.k(identity);
    cluster.kill();
    cluster.again();
    plug(&cluster, &plugin, &runtime);
    assert_eq!(cluster.k(identity), before);
    let known = ["exec", "one", "--", "true"];
    cluster.until("the kubelet to know its pod again", || cluster.try_kubectl(&known).is_ok());
    has_it();
    refused("greedy-still");
    cluster.apply(&pod("other", 1, "restartPolicy: Always"));
    cluster.k("wait --for=condition=Ready pod/other --timeout=30s");
    assert_eq!(cluster.k("exec other -- sh -c 'echo $THINGS'").trim(), "b");
    assert_eq!(*plugin.started.lock().unwrap(), 2);
    // What one had is the next one's.
    cluster.k("delete pod one --timeout=30s");
    cluster.apply(&pod("heir", 1, &direct));
    cluster.k("wait --for=condition=Ready pod/heir --timeout=30s");
    assert_eq!(cluster.k("exec heir -- sh -c 'echo $THINGS'").trim(), "a");
}
