//! A plugin that is none, at a real socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{ManualClock, Shutdown, TaskGroup};
use cri::device_plugin as wire;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{UnixListenerStream, WatchStream};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use wire::device_plugin_server::{DevicePlugin, DevicePluginServer};
use wire::registration_client::RegistrationClient;

use super::{Devices, serve};
use crate::counts::meter;
use crate::pods::spec::PodExt;

/// What it is asked, and what it tells.
pub struct Fake {
    /// Nothing once it has gone.
    devices: watch::Sender<Option<Vec<wire::Device>>>,
    prefers: Vec<String>,
    asked: Mutex<Vec<String>>,
}

fn device((id, healthy): &(&str, bool)) -> wire::Device {
    let health = if *healthy { "Healthy" } else { "Unhealthy" }.to_owned();
    wire::Device { id: (*id).to_owned(), health, topology: None }
}

impl Fake {
    fn new(devices: &[(&str, bool)], prefers: &[&str]) -> Arc<Self> {
        Self::of(devices.iter().map(device).collect(), prefers)
    }

    pub fn of(devices: Vec<wire::Device>, prefers: &[&str]) -> Arc<Self> {
        let devices = watch::Sender::new(Some(devices));
        let prefers = prefers.iter().map(|&id| id.to_owned()).collect();
        Arc::new(Self { devices, prefers, asked: Mutex::default() })
    }

    fn note(&self, what: &str, ids: &[String]) {
        self.asked.lock().push(format!("{what} {}", ids.join(",")));
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock())
    }
}

#[tonic::async_trait]
impl DevicePlugin for Fake {
    type ListAndWatchStream = BoxStream<wire::ListAndWatchResponse>;

    async fn get_device_plugin_options(
        &self,
        _: Request<wire::Empty>,
    ) -> Result<Response<wire::DevicePluginOptions>, Status> {
        let options = wire::DevicePluginOptions {
            pre_start_required: true,
            get_preferred_allocation_available: !self.prefers.is_empty(),
        };
        Ok(Response::new(options))
    }

    async fn list_and_watch(
        &self,
        _: Request<wire::Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let lists = WatchStream::new(self.devices.subscribe());
        let lists = lists
            .take_while(Option::is_some)
            .map(|devices| Ok(wire::ListAndWatchResponse { devices: devices.unwrap_or_default() }));
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<wire::PreferredAllocationRequest>,
    ) -> Result<Response<wire::PreferredAllocationResponse>, Status> {
        let one = &request.into_inner().container_requests[0];
        self.note("prefer", &one.available_device_i_ds);
        let device_i_ds = self.prefers.clone();
        let container_responses = vec![wire::ContainerPreferredAllocationResponse { device_i_ds }];
        Ok(Response::new(wire::PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(
        &self,
        request: Request<wire::AllocateRequest>,
    ) -> Result<Response<wire::AllocateResponse>, Status> {
        let ids = request.into_inner().container_requests[0].devices_ids.clone();
        self.note("allocate", &ids);
        if ids.contains(&"broken".to_owned()) {
            return Err(Status::internal("it is broken"));
        }
        let envs = [("IDS".to_owned(), ids.join(","))].into();
        let one = wire::ContainerAllocateResponse { envs, ..Default::default() };
        Ok(Response::new(wire::AllocateResponse { container_responses: vec![one] }))
    }

    async fn pre_start_container(
        &self,
        request: Request<wire::PreStartContainerRequest>,
    ) -> Result<Response<wire::PreStartContainerResponse>, Status> {
        self.note("start", &request.into_inner().devices_ids);
        Ok(Response::new(wire::PreStartContainerResponse {}))
    }
}

/// A kubelet's devices below a folder, and a plugin that has registered with them.
pub struct Node {
    pub devices: Arc<Devices>,
    pub tasks: TaskGroup,
}

pub const RESOURCE: &str = "example.com/thing";

impl Node {
    pub fn begin(root: &Path) -> Self {
        let tasks = TaskGroup::new(&Shutdown::new());
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let devices = Devices::load(root, meter(clock), &tasks).unwrap();
        serve(&devices).unwrap();
        Self { devices, tasks }
    }

    async fn register(&self, version: &str, resource: &str) -> Result<(), Status> {
        let socket = self.devices.folder.join("kubelet.sock").display().to_string();
        let mut client = RegistrationClient::new(cri::channel(&socket).await.unwrap());
        let request = wire::RegisterRequest {
            version: version.to_owned(),
            endpoint: "thing.sock".to_owned(),
            resource_name: resource.to_owned(),
            options: None,
        };
        client.register(request).await.map(drop)
    }

    /// Serves a plugin until its group stops, and registers it.
    pub async fn plug(&self, fake: &Arc<Fake>) -> TaskGroup {
        let path: PathBuf = self.devices.folder.join("thing.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let tasks = TaskGroup::new(&Shutdown::new());
        let server =
            tonic::transport::Server::builder().add_service(DevicePluginServer::from_arc(fake.clone()));
        tasks.spawn(async move {
            server.serve_with_incoming(UnixListenerStream::new(listener)).await.unwrap();
        });
        self.register("v1beta1", RESOURCE).await.unwrap();
        tasks
    }

    pub async fn shows(&self, all: i64, free: i64) {
        let shown = async {
            while self.devices.amounts().get(RESOURCE) != Some(&(all, free)) {
                self.devices.changed().await;
            }
        };
        let now = || self.devices.amounts();
        tokio::time::timeout(Duration::from_secs(10), shown).await.unwrap_or_else(|_| panic!("{:?}", now()));
    }

    async fn allocate(&self, pod: &Pod) -> Result<(), String> {
        for container in pod.init_containers().iter().chain(pod.containers()) {
            let given = self.devices.allocate(pod, container, None).await;
            given.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub fn ids(&self, uid: &str, container: &str) -> String {
        let needs = self.devices.needs(uid, container);
        needs.env.into_iter().map(|(_, value)| value).collect()
    }
}

fn pod(uid: &str, containers: &[(&str, u32)], init: bool) -> Pod {
    let containers: Vec<_> = containers
        .iter()
        .map(|(name, count)| json!({"name": name, "resources": {"limits": {RESOURCE: count.to_string(), "cpu": "1"}}}))
        .collect();
    let (init, main) = if init { containers.split_at(1) } else { containers.split_at(0) };
    let spec = json!({"initContainers": init, "containers": main});
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": uid}, "spec": spec})).unwrap()
}

#[tokio::test]
async fn devices_are_given_once_and_known_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::begin(root.path());
    let fake = Fake::new(&[("1", true), ("2", true), ("3", true), ("4", false)], &["3"]);
    let plugin = node.plug(&fake).await;
    node.shows(4, 3).await;
    node.allocate(&pod("a", &[("init", 2), ("main", 1)], true)).await.unwrap();
    assert_eq!((node.ids("a", "init").as_str(), node.ids("a", "main").as_str()), ("1,3", "1"));
    assert_eq!(fake.asked(), ["prefer 1,2,3", "allocate 1,3", "allocate 1"]);
    let error = node.allocate(&pod("b", &[("main", 2)], false)).await.unwrap_err();
    assert_eq!(
        error,
        "requested number of devices unavailable for example.com/thing. Requested: 2, Available: 1"
    );
    node.devices.release("b");

    // The kubelet dies; its plugin sees its own socket go, and comes again.
    node.tasks.stop().await;
    plugin.stop().await;
    let node = Node::begin(root.path());
    node.shows(0, 0).await;
    assert_eq!(node.ids("a", "main"), "1");
    let _plugin = node.plug(&fake).await;
    node.shows(4, 3).await;
    node.devices.retain(|uid| uid == "a");
    assert_eq!(node.ids("a", "main"), "1", "it is known");
    node.allocate(&pod("c", &[("main", 1)], false)).await.unwrap();
    assert_eq!(node.ids("c", "main"), "2");
    node.devices.retain(|uid| uid == "c");
    node.allocate(&pod("d", &[("main", 2)], false)).await.unwrap();
    assert_eq!(node.ids("d", "main"), "1,3");
}

#[tokio::test]
async fn health_is_told_and_a_plugin_that_goes_leaves_ill_devices() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::begin(root.path());
    let fake = Fake::new(&[("1", true), ("2", true)], &[]);
    let _plugin = node.plug(&fake).await;
    node.shows(2, 2).await;
    let one = pod("a", &[("main", 1)], false);
    node.allocate(&one).await.unwrap();
    let health = |node: &Node| {
        let status = node.devices.health(&one).remove("main").unwrap().remove(0);
        let resource = status.resources.unwrap().remove(0);
        (status.name, resource.resource_id, resource.health.unwrap())
    };
    let is = |health: &str| (RESOURCE.to_owned(), "1".to_owned(), health.to_owned());
    assert_eq!(health(&node), is("Healthy"));
    fake.devices.send(Some([("1", false), ("2", true)].iter().map(device).collect())).unwrap();
    node.shows(2, 1).await;
    assert_eq!(node.devices.concerned().await.into_iter().collect::<Vec<_>>(), ["a"]);
    assert_eq!(health(&node), is("Unhealthy"));
    node.devices.pre_start(&one, &one.containers()[0]).await.unwrap();
    assert_eq!(fake.asked(), ["allocate 1", "start 1"]);
    fake.devices.send(None).unwrap();
    node.shows(2, 0).await;
    let error = node.allocate(&pod("b", &[("main", 1)], false)).await.unwrap_err();
    assert_eq!(error, format!("no healthy devices present; cannot allocate unhealthy devices {RESOURCE}"));
}

#[tokio::test]
async fn a_plugin_that_cannot_be_is_told_so_and_one_that_fails_gives_nothing() {
    let root = tempfile::tempdir().unwrap();
    let node = Node::begin(root.path());
    let refused = node.register("v1", RESOURCE).await.unwrap_err();
    assert!(refused.message().contains("is not supported by kubelet"), "{refused}");
    let refused = node.register("v1beta1", "thing").await.unwrap_err();
    assert_eq!(refused.message(), "the ResourceName \"thing\" is invalid");
    let fake = Fake::new(&[("broken", true)], &[]);
    let _plugin = node.plug(&fake).await;
    node.shows(1, 1).await;
    let error = node.allocate(&pod("a", &[("main", 1)], false)).await.unwrap_err();
    assert_eq!(error, "rpc error: code = Internal desc = it is broken");
    assert_eq!(node.ids("a", "main"), "");
}
