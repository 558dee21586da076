//! Claims by example, with a driver that is none at a real socket.

use std::path::Path;

use base::{Shutdown, SystemClock};
use cri::dra_health as told;
use cri::dra_v1 as wire;
use k8s_openapi::api::resource::v1::ResourceClaim;
use serde_json::json;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use told::dra_resource_health_server::{DraResourceHealth, DraResourceHealthServer};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use wire::dra_plugin_server::{DraPlugin, DraPluginServer};

use super::names::of_pod;
use super::prepare::usable;
use super::*;
use crate::counts::meter;
use crate::plugins::Handler;
use crate::socket::listen;

#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    refuses: Mutex<bool>,
    health: watch::Sender<Vec<told::DeviceHealth>>,
}

#[tonic::async_trait]
impl DraResourceHealth for Fake {
    type NodeWatchResourcesStream = BoxStream<told::NodeWatchResourcesResponse>;

    async fn node_watch_resources(
        &self,
        _: Request<told::NodeWatchResourcesRequest>,
    ) -> Result<Response<Self::NodeWatchResourcesStream>, Status> {
        let words = WatchStream::new(self.health.subscribe());
        let words = words.map(|devices| Ok(told::NodeWatchResourcesResponse { devices }));
        Ok(Response::new(Box::pin(words)))
    }
}

impl Fake {
    fn error(&self) -> String {
        if *self.refuses.lock() { "it is broken".to_owned() } else { String::new() }
    }
}

#[tonic::async_trait]
impl DraPlugin for Fake {
    async fn node_prepare_resources(
        &self,
        request: Request<wire::NodePrepareResourcesRequest>,
    ) -> Result<Response<wire::NodePrepareResourcesResponse>, Status> {
        let one = |claim: wire::Claim| {
            self.asked.lock().push(format!("prepare {}", claim.name));
            let device = wire::Device {
                pool_name: "node".to_owned(),
                device_name: "d0".to_owned(),
                cdi_device_ids: vec![format!("x.com/d={}", claim.name)],
                ..Default::default()
            };
            let response = wire::NodePrepareResourceResponse { devices: vec![device], error: self.error() };
            (claim.uid, response)
        };
        let claims = request.into_inner().claims.into_iter().map(one).collect();
        Ok(Response::new(wire::NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<wire::NodeUnprepareResourcesRequest>,
    ) -> Result<Response<wire::NodeUnprepareResourcesResponse>, Status> {
        let one = |claim: wire::Claim| {
            self.asked.lock().push(format!("unprepare {}", claim.name));
            (claim.uid, wire::NodeUnprepareResourceResponse { error: self.error() })
        };
        let claims = request.into_inner().claims.into_iter().map(one).collect();
        Ok(Response::new(wire::NodeUnprepareResourcesResponse { claims }))
    }
}

fn pod(uid: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": uid, "namespace": "n", "uid": uid},
        "spec": {
            "resourceClaims": [{"name": "gpu", "resourceClaimName": "shared"}],
            "containers": [{"name": "c", "resources": {"claims": [{"name": "gpu"}]}}],
        },
    }))
    .unwrap()
}

fn claim(allocated: bool, users: &[&str]) -> ResourceClaim {
    let results = json!([{"driver": "x.com", "pool": "node", "device": "d0", "request": "r"}]);
    let allocation = allocated.then(|| json!({"devices": {"results": results}}));
    let users: Vec<_> =
        users.iter().map(|uid| json!({"resource": "pods", "name": uid, "uid": uid})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "shared", "namespace": "n", "uid": "cu"},
        "spec": {"devices": {}},
        "status": {"allocation": allocation, "reservedFor": users},
    }))
    .unwrap()
}

#[test]
fn a_claim_is_used_by_whom_it_is_reserved_for_once_it_is_allocated() {
    let (pod, name) = (pod("a"), of_pod(&pod("a")).unwrap().remove(0));
    let why = |claim: &ResourceClaim| usable(&pod, &name, claim).unwrap_err().to_string();
    assert_eq!(why(&claim(true, &["b"])), "pod a (a) is not allowed to use ResourceClaim shared (cu)");
    assert_eq!(why(&claim(false, &["a"])), "ResourceClaim shared: not allocated");
    let own = names::Name { is_own: true, ..name.clone() };
    let error = usable(&pod, &own, &claim(true, &["a"])).unwrap_err().to_string();
    assert_eq!(error, "ResourceClaim n/shared was not created for Pod n/a (Pod is not owner)");
    let usable = usable(&pod, &name, &claim(true, &["a", "b"])).unwrap();
    assert_eq!(usable.drivers.keys().collect::<Vec<_>>(), ["x.com"]);
}

/// An API server that knows one claim.
fn client(object: ResourceClaim) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        assert!(request.uri().path().ends_with("/namespaces/n/resourceclaims/shared"), "{}", request.uri());
        let body = serde_json::to_vec(&object).unwrap();
        async move { Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::from(body))) }
    });
    kube::Client::new(service, "default")
}

fn begin(root: &Path, tasks: &TaskGroup) -> Arc<Claims> {
    Claims::load(root, client(claim(true, &["a", "b"])), "node", meter(SystemClock::shared()), tasks).unwrap()
}

#[tokio::test]
async fn claims_are_prepared_once_shared_kept_and_given_back() {
    let root = tempfile::tempdir().unwrap();
    let tasks = TaskGroup::new(&Shutdown::new());
    let claims = begin(root.path(), &tasks);
    let error = claims.prepare(&pod("a")).await.unwrap_err().to_string();
    assert_eq!(error, "DRA driver x.com is not registered");
    assert!(!claims.is_used_by("a"), "a pod without a driver can go");

    let fake = Arc::new(Fake::default());
    let socket = root.path().join("x.sock");
    let incoming = listen(&socket).unwrap();
    let server = tonic::transport::Server::builder()
        .add_service(DraPluginServer::from_arc(fake.clone()))
        .add_service(DraResourceHealthServer::from_arc(fake.clone()));
    tasks.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
    let versions = ["v1.DRAPlugin".to_owned()];
    Registered(claims.clone()).register("x.com", &socket, &versions).await.unwrap();
    *fake.refuses.lock() = true;
    let error = claims.prepare(&pod("a")).await.unwrap_err().to_string();
    assert_eq!(error, "NodePrepareResources failed for ResourceClaim shared: it is broken");
    assert!(claims.is_used_by("a"), "nobody knows what its driver did");
    *fake.refuses.lock() = false;
    for uid in ["a", "b", "a"] {
        claims.prepare(&pod(uid)).await.unwrap();
    }
    let asked = || std::mem::take(&mut *fake.asked.lock());
    assert_eq!(asked(), ["prepare shared", "prepare shared"]);
    let devices = |claims: &Claims| claims.devices(&pod("b"), &pod("b").containers()[0]).unwrap();
    assert_eq!(devices(&claims), ["x.com/d=shared"]);
    let health = |claims: &Claims| {
        let status = claims.statuses(&pod("a")).remove("c").unwrap().remove(0);
        let device = status.resources.unwrap().remove(0);
        (status.name, device.resource_id, device.health.unwrap())
    };
    let is = |health: &str| ("claim:gpu".to_owned(), "x.com/d=shared".to_owned(), health.to_owned());
    assert_eq!(health(&claims), is("Unknown"));
    let device = Some(told::DeviceIdentifier { pool_name: "node".into(), device_name: "d0".into() });
    let ill = told::HealthStatus::Unhealthy.into();
    fake.health.send_replace(vec![told::DeviceHealth { device, health: ill, ..Default::default() }]);
    assert_eq!(claims.concerned().await.into_iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(health(&claims), is("Unhealthy"));

    // A kubelet that was killed knows them, and asks again before a new sandbox.
    let claims = begin(root.path(), &tasks);
    assert_eq!(devices(&claims), ["x.com/d=shared"]);
    Registered(claims.clone()).register("x.com", &socket, &versions).await.unwrap();
    claims.prepare(&pod("b")).await.unwrap();
    assert_eq!((asked(), devices(&claims).len()), (vec!["prepare shared".to_owned()], 1));
    claims.unprepare("a").await.unwrap();
    assert_eq!(asked(), [""; 0], "the other one still uses it");
    *fake.refuses.lock() = true;
    claims.unprepare("b").await.unwrap_err();
    assert!(claims.is_used_by("b"));
    *fake.refuses.lock() = false;
    claims.unprepare("b").await.unwrap();
    assert!(!claims.is_used_by("b"));
    assert_eq!(asked(), ["unprepare shared", "unprepare shared"]);
    assert!(!begin(root.path(), &tasks).is_used_by("b"), "on disk, too");
}

#[tokio::test]
async fn a_driver_that_dies_is_noticed_although_its_socket_stays() {
    let root = tempfile::tempdir().unwrap();
    let tasks = TaskGroup::new(&Shutdown::new());
    let claims = begin(root.path(), &tasks);
    let socket = root.path().join("x.sock");
    let incoming = listen(&socket).unwrap();
    let registered = Registered(claims.clone());
    registered.register("x.com", &socket, &["v1beta1.DRAPlugin".to_owned()]).await.unwrap();
    assert!(claims.drivers.lock().has("x.com"));
    drop(incoming);
    let noticed = async {
        while claims.drivers.lock().has("x.com") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noticed).await.unwrap();
    let _back = listen(&socket).unwrap();
    let back = async {
        while !claims.drivers.lock().has("x.com") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), back).await.unwrap();
    registered.deregister("x.com", &socket);
    assert!(claims.drivers.lock().get("x.com").is_err());
}
