//! A driver whose devices are nothing but a variable in the environment: all that a driver of real devices does, too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::dra_v1 as dra;
use cri::registration as wire;
use dra::dra_plugin_server::{DraPlugin, DraPluginServer};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use wire::registration_server::{Registration, RegistrationServer};

/// What it is told.
#[derive(Clone)]
pub struct Driver {
    /// Such as `dra.example.com`.
    pub name: String,
    /// The node whose kubelet it serves.
    pub node: String,
    /// That kubelet's folder, such as `/var/lib/kubelet`.
    pub kubelet: PathBuf,
    /// Where runtimes look for CDI files, such as `/var/run/cdi`.
    pub cdi: PathBuf,
    /// How many devices it has.
    pub devices: u32,
    pub client: kube::Client,
}

impl Driver {
    /// Serves until it is dropped: the plugin at a socket of its own, and whoever asks what it is where kubelets look.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn run(self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let own = self.socket();
        let registry = self.kubelet.join("plugins_registry").join(format!("{}-reg.sock", self.name));
        let (plugin, registration) = (listen(&own)?, listen(&registry)?);
        let driver = Arc::new(self);
        let calls = Server::builder().add_service(DraPluginServer::from_arc(driver.clone()));
        let known = Server::builder().add_service(RegistrationServer::from_arc(driver));
        let served =
            tokio::try_join!(calls.serve_with_incoming(plugin), known.serve_with_incoming(registration),);
        Ok(served.map(drop)?)
    }

    fn socket(&self) -> PathBuf {
        self.kubelet.join("plugins").join(&self.name).join("dra.sock")
    }

    /// Tells the cluster which devices there are. The kubelet takes that back when the driver goes, and when it
    /// begins itself: so it is told whenever the kubelet has taken the driver.
    async fn publish(&self) -> Result<(), kube::Error> {
        let node = Api::<Node>::all(self.client.clone()).get(&self.node).await?;
        let devices: Vec<_> = (0..self.devices)
            .map(|number| {
                json!({
                    "name": format!("device-{number}"),
                    "attributes": {"number": {"int": number}},
                    "capacity": {"memory": {"value": format!("{}Gi", number + 1)}},
                })
            })
            .collect();
        let name = format!("{}-{}", self.node, self.name);
        let slice = json!({
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {
                "name": name,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": self.node,
                    "uid": node.metadata.uid, "controller": true}],
            },
            "spec": {
                "driver": self.name,
                "nodeName": self.node,
                "pool": {"name": self.node, "generation": 1, "resourceSliceCount": 1},
                "devices": devices,
            },
        });
        let slices: Api<ResourceSlice> = Api::all(self.client.clone());
        let new = serde_json::from_value(slice.clone()).map_err(kube::Error::SerdeError)?;
        match slices.create(&PostParams::default(), &new).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                slices.patch(&name, &PatchParams::default(), &Patch::Merge(&slice)).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    fn cdi_file(&self, claim: &str) -> PathBuf {
        self.cdi.join(format!("{}-{claim}.json", self.name))
    }

    /// Makes the file by which a runtime knows what a claim's devices bring. It is the same however often it is made.
    async fn prepare(
        &self,
        claim: &dra::Claim,
    ) -> Result<Vec<dra::Device>, Box<dyn std::error::Error + Send + Sync>> {
        let claims: Api<ResourceClaim> = Api::namespaced(self.client.clone(), &claim.namespace);
        let object = claims.get(&claim.name).await?;
        if object.metadata.uid.as_deref() != Some(&claim.uid) {
            return Err(format!("claim {} is another one by now", claim.name).into());
        }
        let allocation = object.status.and_then(|status| status.allocation);
        let results =
            allocation.and_then(|allocation| allocation.devices).and_then(|devices| devices.results);
        let (mut devices, mut described) = (Vec::new(), Vec::new());
        for result in results.unwrap_or_default().into_iter().filter(|result| result.driver == self.name) {
            let name = format!("{}-{}", claim.uid, result.device);
            let variable = result.device.replace('-', "_").to_uppercase();
            described.push(json!({
                "name": name,
                "containerEdits": {"env": [format!("DRA_{variable}={}", claim.name)]},
            }));
            devices.push(dra::Device {
                request_names: vec![result.request],
                pool_name: result.pool,
                device_name: result.device,
                cdi_device_ids: vec![format!("{}/claim={name}", self.name)],
                share_id: None,
            });
        }
        let file =
            json!({"cdiVersion": "0.6.0", "kind": format!("{}/claim", self.name), "devices": described});
        fs::create_dir_all(&self.cdi)?;
        fs::write(self.cdi_file(&claim.uid), file.to_string())?;
        Ok(devices)
    }

    fn unprepare(&self, claim: &dra::Claim) -> io::Result<()> {
        match fs::remove_file(self.cdi_file(&claim.uid)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Kubelets in Go call a plugin by the path of its socket.
fn listen(path: &Path) -> io::Result<impl Stream<Item = io::Result<cri::Lenient>> + use<>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path).map(cri::incoming)
}

#[tonic::async_trait]
impl DraPlugin for Driver {
    async fn node_prepare_resources(
        &self,
        request: Request<dra::NodePrepareResourcesRequest>,
    ) -> Result<Response<dra::NodePrepareResourcesResponse>, Status> {
        let mut answer = dra::NodePrepareResourcesResponse::default();
        for claim in request.into_inner().claims {
            let response = match self.prepare(&claim).await {
                Ok(devices) => dra::NodePrepareResourceResponse { devices, error: String::new() },
                Err(error) => {
                    dra::NodePrepareResourceResponse { devices: Vec::new(), error: error.to_string() }
                }
            };
            answer.claims.insert(claim.uid, response);
        }
        Ok(Response::new(answer))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<dra::NodeUnprepareResourcesRequest>,
    ) -> Result<Response<dra::NodeUnprepareResourcesResponse>, Status> {
        let mut answer = dra::NodeUnprepareResourcesResponse::default();
        for claim in request.into_inner().claims {
            let error = self.unprepare(&claim).err().map(|error| error.to_string()).unwrap_or_default();
            answer.claims.insert(claim.uid, dra::NodeUnprepareResourceResponse { error });
        }
        Ok(Response::new(answer))
    }
}

#[tonic::async_trait]
impl Registration for Driver {
    async fn get_info(&self, _: Request<wire::InfoRequest>) -> Result<Response<wire::PluginInfo>, Status> {
        Ok(Response::new(wire::PluginInfo {
            r#type: "DRAPlugin".to_owned(),
            name: self.name.clone(),
            endpoint: self.socket().display().to_string(),
            supported_versions: vec!["v1.DRAPlugin".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<wire::RegistrationStatus>,
    ) -> Result<Response<wire::RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if !status.plugin_registered {
            eprintln!("the kubelet does not take the driver: {}", status.error);
            return Ok(Response::new(wire::RegistrationStatusResponse {}));
        }
        // Whoever is not told tries again: the kubelet asks anew.
        self.publish().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::RegistrationStatusResponse {}))
    }
}
