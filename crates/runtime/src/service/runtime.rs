use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cri::v1::runtime_service_server::RuntimeService;
use cri::v1::*;
use streaming::remotecommand::Options;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::pod_status;
use crate::SharedCore;
use crate::metrics;
use crate::pod::exec::Command;
use crate::pod::{self, PodError, exec};
use crate::stats::Memory;
use crate::streaming_server::{Server, Ticket};

type Answer<T> = Result<Response<T>, Status>;
type Chunks<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The runtime half of the CRI.
pub struct RuntimeCalls {
    core: SharedCore,
    streaming: Arc<Server>,
    memory: Arc<Memory>,
}

/// The only handler, and the one that a pod without a RuntimeClass has.
const HANDLER: &str = "knarr";

fn once<T: Send + 'static>(message: T) -> Chunks<T> {
    Box::pin(tokio_stream::once(Ok(message)))
}

/// Ids may be shortened; an empty one means any.
fn is_meant(asked: &str, id: &str) -> bool {
    asked.is_empty() || id.starts_with(asked)
}

impl RuntimeCalls {
    pub fn new(core: SharedCore, streaming: Arc<Server>) -> Self {
        Self { core, streaming, memory: Arc::default() }
    }

    fn sandboxes(&self, filter: Option<PodSandboxFilter>) -> Vec<PodSandbox> {
        let filter = filter.unwrap_or_default();
        // Most ask for one pod of many: what is told of a pod is made only for those that are meant.
        let all = self.core.sandboxes.lock().labelled(&filter.label_selector);
        let meant = all.iter().filter(|sandbox| is_meant(&filter.id, &sandbox.id));
        let mut found: Vec<_> = meant.map(|sandbox| sandbox.summary()).collect();
        found.retain(|item| filter.state.is_none_or(|state| state.state == item.state));
        found.sort_by_key(|item| item.created_at);
        found
    }

    fn containers(&self, filter: Option<ContainerFilter>) -> Vec<Container> {
        let filter = filter.unwrap_or_default();
        let all = self.core.containers.lock().labelled(&filter.label_selector);
        let meant = all.iter().filter(|container| {
            is_meant(&filter.id, &container.id) && is_meant(&filter.pod_sandbox_id, &container.sandbox)
        });
        let mut found: Vec<_> = meant.map(|container| container.summary()).collect();
        found.retain(|item| filter.state.is_none_or(|state| state.state == item.state));
        found.sort_by_key(|item| item.created_at);
        found
    }

    /// Statistics are read off the async threads, for they are many small files.
    async fn measure<T: Send + 'static>(
        &self,
        read: impl FnOnce(&SharedCore, &Memory) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let (core, memory) = (self.core.clone(), self.memory.clone());
        tokio::task::spawn_blocking(move || read(&core, &memory))
            .await
            .map_err(|e| Status::internal(e.to_string()))
    }

    async fn container_stats_of(
        &self,
        filter: Option<ContainerStatsFilter>,
    ) -> Result<Vec<ContainerStats>, Status> {
        let filter = filter.unwrap_or_default();
        self.measure(move |core, memory| {
            let all = core.containers.lock().labelled(&filter.label_selector);
            let meant = all.iter().filter(|container| {
                is_meant(&filter.id, &container.id)
                    && is_meant(&filter.pod_sandbox_id, &container.sandbox)
                    && container.process().is_some()
            });
            meant.map(|container| memory.container(core, container)).collect()
        })
        .await
    }

    async fn metrics(&self) -> Result<Vec<PodSandboxMetrics>, Status> {
        self.measure(|core, memory| {
            let all = core.sandboxes.lock().all();
            let ready = all.iter().filter(|sandbox| sandbox.is_ready());
            ready.map(|sandbox| metrics::of_sandbox(core, memory, sandbox)).collect()
        })
        .await
    }

    async fn sandbox_stats_of(
        &self,
        filter: Option<PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>, Status> {
        let filter = filter.unwrap_or_default();
        self.measure(move |core, memory| {
            let all = core.sandboxes.lock().labelled(&filter.label_selector);
            let meant = all.iter().filter(|sandbox| is_meant(&filter.id, &sandbox.id) && sandbox.is_ready());
            meant.map(|sandbox| memory.sandbox(core, sandbox)).collect()
        })
        .await
    }
}

fn streams(tty: bool, stdin: bool, stdout: bool, stderr: bool) -> Result<Options, Status> {
    if tty && stderr {
        return Err(Status::invalid_argument("tty and stderr cannot both be true"));
    }
    if !stdin && !stdout && !stderr {
        return Err(Status::invalid_argument("one of stdin, stdout, or stderr must be set"));
    }
    Ok(Options { stdin, stdout, stderr, tty })
}

#[tonic::async_trait]
impl RuntimeService for RuntimeCalls {
    async fn version(&self, _request: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "knarr".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        }))
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let request = request.into_inner();
        let handler = request.runtime_handler.as_str();
        if !matches!(handler, "" | HANDLER) && !self.core.config.handlers.contains_key(handler) {
            let text =
                format!("no runtime for {handler:?} is configured: name its program by --runtime-handler");
            return Err(Status::invalid_argument(text));
        }
        let config =
            request.config.ok_or_else(|| Status::invalid_argument("the sandbox has no configuration"))?;
        let id = detached(&self.core, move |core| async move {
            pod::sandbox::run(&core, config, request.runtime_handler).await
        });
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id: id.await? }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        detached(&self.core, move |core| async move { pod::sandbox::stop(&core, &id).await }).await?;
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.memory.forget(&id);
        detached(&self.core, move |core| async move { pod::sandbox::remove(&core, &id).await }).await?;
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        let sandbox = self.core.need_sandbox(&request.pod_sandbox_id).map_err(pod_status)?;
        let mut info = HashMap::new();
        if request.verbose {
            let state = sandbox.state();
            let netns = sandbox.netns().map(|path| path.display().to_string());
            // There is no container of the sandbox's own; people look there for the namespace all the same.
            let network = netns.as_ref().map(|path| serde_json::json!({"type": "network", "path": path}));
            let namespaces = network.into_iter().collect::<Vec<_>>();
            info.insert("info".into(), serde_json::json!({
                "pid": state.shim.map(|shim| shim.pid), "netns": netns, "cgroup": state.cgroup, "runtimeType": HANDLER,
                "runtimeHandler": state.runtime_handler, "runtimeSpec": {"linux": {"namespaces": namespaces}},
            }).to_string());
        }
        Ok(Response::new(PodSandboxStatusResponse {
            status: Some(sandbox.status()),
            info,
            containers_statuses: self.core.containers_of(&sandbox.id).iter().map(|c| c.status()).collect(),
            timestamp: self.core.now(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        Ok(Response::new(ListPodSandboxResponse { items: self.sandboxes(request.into_inner().filter) }))
    }

    type StreamPodSandboxesStream = Chunks<StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let pod_sandboxes = self.sandboxes(request.into_inner().filter);
        Ok(Response::new(once(StreamPodSandboxesResponse { pod_sandboxes })))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let config =
            request.config.ok_or_else(|| Status::invalid_argument("the container has no configuration"))?;
        let container_id = detached(&self.core, move |core| async move {
            pod::container::create(&core, &request.pod_sandbox_id, config).await
        });
        Ok(Response::new(CreateContainerResponse { container_id: container_id.await? }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let id = request.into_inner().container_id;
        detached(&self.core, move |core| async move { pod::container::start(&core, &id).await }).await?;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        let Some(container) = self.core.container(&request.container_id) else {
            return Ok(Response::new(StopContainerResponse {}));
        };
        let grace = Duration::from_secs(request.timeout.max(0).unsigned_abs());
        detached(&self.core, move |core| async move { pod::container::stop(&core, &container, grace).await })
            .await?;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.memory.forget(&id);
        detached(&self.core, move |core| async move { pod::container::remove(&core, &id).await }).await?;
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        Ok(Response::new(ListContainersResponse { containers: self.containers(request.into_inner().filter) }))
    }

    type StreamContainersStream = Chunks<StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let containers = self.containers(request.into_inner().filter);
        Ok(Response::new(once(StreamContainersResponse { containers })))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.core.need_container(&request.container_id).map_err(pod_status)?;
        let mut info = HashMap::new();
        if request.verbose {
            let pid = container.process().map(|process| process.pid);
            let spec = pod::container::spec(&container).await.map_err(pod_status)?;
            let text = serde_json::json!({
                "pid": pid, "sandboxID": container.sandbox, "cgroup": container.state().cgroup, "runtimeSpec": spec,
            });
            info.insert("info".into(), text.to_string());
        }
        Ok(Response::new(ContainerStatusResponse { status: Some(container.status()), info }))
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let container = self.core.need_container(&request.container_id).map_err(pod_status)?;
        let wanted = request.linux.unwrap_or_default();
        pod::container::update(&self.core, &container, wanted).await.map_err(pod_status)?;
        Ok(Response::new(UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        let container = self.core.need_container(&request.into_inner().container_id).map_err(pod_status)?;
        pod::container::reopen_log(&self.core, &container).await.map_err(pod_status)?;
        Ok(Response::new(ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        let container = self.core.need_container(&request.container_id).map_err(pod_status)?;
        let timeout = (request.timeout > 0).then(|| Duration::from_secs(request.timeout.unsigned_abs()));
        let done = detached(&self.core, move |core| async move {
            exec::sync(&core, &container, request.cmd, timeout).await
        });
        let output = done.await?;
        Ok(Response::new(ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.code,
        }))
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let request = request.into_inner();
        let options = streams(request.tty, request.stdin, request.stdout, request.stderr)?;
        let container = self.core.need_container(&request.container_id).map_err(pod_status)?;
        container.need_process().map_err(pod_status)?;
        let command = Command { args: request.cmd, tty: request.tty, stdin: request.stdin };
        let url = self.streaming.issue(Ticket::Exec { container, command, options });
        Ok(Response::new(ExecResponse { url }))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let request = request.into_inner();
        let options = streams(request.tty, request.stdin, request.stdout, request.stderr)?;
        let container = self.core.need_container(&request.container_id).map_err(pod_status)?;
        container.need_process().map_err(pod_status)?;
        let url = self.streaming.issue(Ticket::Attach { container, options });
        Ok(Response::new(AttachResponse { url }))
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.core.need_sandbox(&request.pod_sandbox_id).map_err(pod_status)?;
        if !sandbox.is_ready() {
            let text = format!("sandbox {} is not ready", sandbox.id);
            return Err(pod_status(PodError::State(text)));
        }
        let ports = request.port.into_iter().filter_map(|port| u16::try_from(port).ok()).collect();
        let url = self.streaming.issue(Ticket::PortForward { sandbox, ports });
        Ok(Response::new(PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let container = self.core.need_container(&request.into_inner().container_id).map_err(pod_status)?;
        let stats = self.measure(move |core, memory| memory.container(core, &container)).await?;
        Ok(Response::new(ContainerStatsResponse { stats: Some(stats) }))
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let stats = self.container_stats_of(request.into_inner().filter).await?;
        Ok(Response::new(ListContainerStatsResponse { stats }))
    }

    type StreamContainerStatsStream = Chunks<StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let container_stats = self.container_stats_of(request.into_inner().filter).await?;
        Ok(Response::new(once(StreamContainerStatsResponse { container_stats })))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let sandbox = self.core.need_sandbox(&request.into_inner().pod_sandbox_id).map_err(pod_status)?;
        let stats = self.measure(move |core, memory| memory.sandbox(core, &sandbox)).await?;
        Ok(Response::new(PodSandboxStatsResponse { stats: Some(stats) }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let stats = self.sandbox_stats_of(request.into_inner().filter).await?;
        Ok(Response::new(ListPodSandboxStatsResponse { stats }))
    }

    type StreamPodSandboxStatsStream = Chunks<StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let pod_sandbox_stats = self.sandbox_stats_of(request.into_inner().filter).await?;
        Ok(Response::new(once(StreamPodSandboxStatsResponse { pod_sandbox_stats })))
    }

    async fn update_runtime_config(
        &self,
        request: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        let network = request.into_inner().runtime_config.and_then(|config| config.network_config);
        if let Some(cidr) = network.map(|network| network.pod_cidr).filter(|cidr| !cidr.is_empty()) {
            self.core.config.network.set_pod_cidr(&cidr);
        }
        Ok(Response::new(UpdateRuntimeConfigResponse {}))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let mut info = HashMap::new();
        if request.into_inner().verbose {
            let config = &self.core.config;
            let registries = &config.registries;
            info.insert("config".into(), serde_json::json!({
                "rootDir": config.root, "stateDir": config.run_dir, "cgroupParent": config.cgroup_parent,
                "registryConfigDir": registries.config_dir, "plainHttpRegistries": registries.plain_http,
                "cniConfDir": config.cni.as_ref().map(|cni| &cni.conf_dir),
                "cniBinDirs": config.cni.as_ref().map(|cni| &cni.bin_dirs),
                "handlers": config.handlers, "cdiDirs": config.cdi_dirs,
                "unifiedCgroups": self.core.machine.unified_cgroups, "apparmor": self.core.machine.apparmor,
            }).to_string());
        }
        let condition = |kind: &str, problem: Option<String>| RuntimeCondition {
            r#type: kind.into(),
            status: problem.is_none(),
            // As containerd says it: people look for it, and tools too.
            reason: if problem.is_some() { "NetworkPluginNotReady".into() } else { String::new() },
            message: problem.map(|why| format!("Network plugin returns error: {why}")).unwrap_or_default(),
        };
        let conditions = vec![
            condition("RuntimeReady", None),
            condition("NetworkReady", self.core.config.network.ready().await.err()),
        ];
        // What another program can do, we do not know.
        let handler = |name: &str| RuntimeHandler {
            name: name.into(),
            features: Some(RuntimeHandlerFeatures {
                recursive_read_only_mounts: true,
                user_namespaces: self.core.machine.no_user_namespaces.is_none()
                    && !self.core.config.handlers.contains_key(name),
            }),
        };
        Ok(Response::new(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            info,
            runtime_handlers: ["", HANDLER]
                .into_iter()
                .chain(self.core.config.handlers.keys().map(String::as_str))
                .map(handler)
                .collect(),
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                mount_options: true,
                ..RuntimeFeatures::default()
            }),
        }))
    }

    async fn checkpoint_container(
        &self,
        _request: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        Err(Status::unimplemented("this runtime does not make checkpoints"))
    }

    async fn checkpoint_pod(&self, _request: Request<CheckpointPodRequest>) -> Answer<CheckpointPodResponse> {
        Err(Status::unimplemented("this runtime does not make checkpoints"))
    }

    async fn restore_pod(&self, _request: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        Err(Status::unimplemented("this runtime does not make checkpoints"))
    }

    type GetContainerEventsStream = Chunks<ContainerEventResponse>;

    async fn get_container_events(
        &self,
        _request: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.core.events.subscribe());
        // A subscriber that fell behind has to list again: an error tells it so, a gap would not.
        let events = events.map(|event| match event {
            Ok(event) => Ok(Arc::unwrap_or_clone(event)),
            Err(lag) => Err(Status::data_loss(lag.to_string())),
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn list_metric_descriptors(
        &self,
        _request: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        Ok(Response::new(ListMetricDescriptorsResponse { descriptors: metrics::descriptors() }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _request: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        Ok(Response::new(ListPodSandboxMetricsResponse { pod_metrics: self.metrics().await? }))
    }

    type StreamPodSandboxMetricsStream = Chunks<StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _request: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let pod_sandbox_metrics = self.metrics().await?;
        Ok(Response::new(once(StreamPodSandboxMetricsResponse { pod_sandbox_metrics })))
    }

    async fn runtime_config(&self, _request: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let linux = LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs as i32 };
        Ok(Response::new(RuntimeConfigResponse { linux: Some(linux) }))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        // The kubelet has changed the pod's cgroup itself; there is nothing else that would follow it.
        self.core.need_sandbox(&request.into_inner().pod_sandbox_id).map_err(pod_status)?;
        Ok(Response::new(UpdatePodSandboxResourcesResponse {}))
    }
}

/// Carries something out to its end, even when the client hangs up: half a change is worse than none.
async fn detached<T, F>(core: &SharedCore, work: impl FnOnce(SharedCore) -> F) -> Result<T, Status>
where
    T: Send + 'static,
    F: Future<Output = Result<T, PodError>> + Send + 'static,
{
    let task = tokio::spawn(work(core.clone()));
    task.await.map_err(|e| Status::internal(e.to_string()))?.map_err(pod_status)
}
