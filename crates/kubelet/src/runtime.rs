//! The CRI, as the kubelet uses it. Knows nothing of pods' specifications.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base::{SharedClock, failpoint};
use cri::v1 as wire;
use cri::{ImageClient, RuntimeClient};
use parking_lot::Mutex;
use tonic::Status;

use crate::counts::Counts;

/// Pulls may take long.
const PULL_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long it is believed where a runtime keeps images and containers.
const PLACES_AGE: Duration = Duration::from_secs(300);

/// The mount points of images and of containers' own layers, as far as they are told.
type Places = (Option<String>, Option<String>);

/// Why a runtime cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(transparent)]
    Connect(#[from] cri::ConnectError),
    /// It does not say something without which pods might be refused that it could run.
    #[error("the container runtime does not tell {what}: {status}")]
    Silent { what: &'static str, status: Box<Status> },
}

impl RuntimeError {
    fn silent(what: &'static str) -> impl Fn(Status) -> Self {
        move |status| Self::Silent { what, status: Box::new(status) }
    }
}

/// Both halves of a runtime.
#[derive(Clone)]
pub struct Runtime {
    runtime: RuntimeClient,
    images: ImageClient,
    /// Such as `containerd`; the scheme of container ids.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Whether it makes mounts read-only down to the last one.
    pub recursive_read_only: bool,
    /// Whether it knows `supplementalGroupsPolicy`.
    pub supplemental_groups: bool,
    /// Whether a mount may forbid something (KEP-5855).
    pub mount_options: bool,
    /// The handlers whose pods may have users of their own; the empty name is the default's.
    pub user_namespaces: BTreeSet<String>,
    /// Who makes the cgroups of its containers; `None` of one that is too old to say.
    pub cgroup_driver: Option<wire::CgroupDriver>,
    /// How often it was asked, for the metrics.
    counts: Arc<Counts>,
    clock: SharedClock,
    limit: Duration,
    places: Arc<Mutex<Option<(Duration, Places)>>>,
}

fn within<T>(message: T, limit: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(limit);
    request
}

type Answer<T> = Result<T, Status>;

impl Runtime {
    /// Connects, and asks who it is and what it can do. Its images may be somebody else's. What does not take long by its
    /// nature has `limit` (`runtimeRequestTimeout`).
    ///
    /// # Errors
    /// When it is not there, or does not answer.
    pub async fn connect(
        endpoint: &str,
        of_images: Option<&str>,
        counts: &Arc<Counts>,
        (clock, limit): (&SharedClock, Duration),
    ) -> Result<Self, RuntimeError> {
        let (runtime, mut images) = cri::connect(endpoint).await?;
        if let Some(endpoint) = of_images {
            (_, images) = cri::connect(endpoint).await?;
        }
        let mut runtime = Self {
            runtime,
            images,
            name: String::new(),
            version: String::new(),
            recursive_read_only: false,
            supplemental_groups: false,
            mount_options: false,
            user_namespaces: BTreeSet::new(),
            cgroup_driver: None,
            counts: counts.clone(),
            clock: clock.clone(),
            limit,
            places: Arc::default(),
        };
        let version = runtime.request(wire::VersionRequest { version: "v1".to_owned() });
        let version = runtime.runtime.version(version).await.map_err(RuntimeError::silent("its version"))?;
        let version = version.into_inner();
        (runtime.name, runtime.version) = (version.runtime_name, version.runtime_version);
        runtime.learn(runtime.status().await.map_err(RuntimeError::silent("what it can do"))?);
        let driver = runtime.asked_cgroup_driver().await;
        runtime.cgroup_driver = driver.map_err(RuntimeError::silent("who makes cgroups"))?;
        Ok(runtime)
    }

    fn learn(&mut self, status: wire::StatusResponse) {
        self.supplemental_groups = status.features.is_some_and(|f| f.supplemental_groups_policy);
        self.mount_options = status.features.is_some_and(|f| f.mount_options);
        for handler in status.runtime_handlers {
            let Some(features) = handler.features else { continue };
            if handler.name.is_empty() {
                self.recursive_read_only = features.recursive_read_only_mounts;
            }
            if features.user_namespaces {
                self.user_namespaces.insert(handler.name);
            }
        }
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        within(message, self.limit)
    }

    /// Counts a call, and how long it takes. It is boxed before it is waited for: calls are large.
    fn measured<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Answer<T>> + Send,
    ) -> impl Future<Output = Answer<T>> + Send {
        let call = Box::pin(call);
        async move {
            let begun = self.clock.monotonic();
            failpoint::hit_of("kubelet", operation, "asked");
            let answer = call.await;
            failpoint::hit_of("kubelet", operation, "answered");
            // What is gone is asked for now and then, and no error of the runtime.
            let failed = answer.as_ref().is_err_and(|status| status.code() != tonic::Code::NotFound);
            self.counts.asked(operation, self.clock.monotonic().saturating_sub(begun), failed);
            answer
        }
    }

    async fn asked_cgroup_driver(&self) -> Answer<Option<wire::CgroupDriver>> {
        let mut runtime = self.runtime.clone();
        let asked = runtime.runtime_config(self.request(wire::RuntimeConfigRequest {}));
        match self.measured("runtime_config", asked).await {
            Ok(answer) => Ok(answer.into_inner().linux.map(|linux| linux.cgroup_driver())),
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Its conditions.
    pub async fn status(&self) -> Answer<wire::StatusResponse> {
        Ok(self
            .measured(
                "status",
                self.runtime.clone().status(self.request(wire::StatusRequest { verbose: false })),
            )
            .await?
            .into_inner())
    }

    /// Tells it the node's pod network.
    pub async fn set_pod_cidr(&self, pod_cidr: &str) -> Answer<()> {
        let network_config = Some(wire::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let runtime_config = Some(wire::RuntimeConfig { network_config });
        let message = wire::UpdateRuntimeConfigRequest { runtime_config };
        self.measured(
            "update_runtime_config",
            self.runtime.clone().update_runtime_config(self.request(message)),
        )
        .await
        .map(drop)
    }

    /// All sandboxes, or those with a label.
    pub async fn sandboxes(&self, label: Option<(&str, &str)>) -> Answer<Vec<wire::PodSandbox>> {
        let label_selector =
            label.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        let filter = Some(wire::PodSandboxFilter { label_selector, ..Default::default() });
        let message = wire::ListPodSandboxRequest { filter };
        Ok(self
            .measured("list_podsandbox", self.runtime.clone().list_pod_sandbox(self.request(message)))
            .await?
            .into_inner()
            .items)
    }

    /// All containers, or those with a label.
    pub async fn containers(&self, label: Option<(&str, &str)>) -> Answer<Vec<wire::Container>> {
        let label_selector =
            label.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
        let filter = Some(wire::ContainerFilter { label_selector, ..Default::default() });
        let message = wire::ListContainersRequest { filter };
        Ok(self
            .measured("list_containers", self.runtime.clone().list_containers(self.request(message)))
            .await?
            .into_inner()
            .containers)
    }

    /// A sandbox.
    pub async fn sandbox_status(&self, id: &str) -> Answer<wire::PodSandboxStatus> {
        let message = wire::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self
            .measured("podsandbox_status", self.runtime.clone().pod_sandbox_status(self.request(message)))
            .await?
            .into_inner();
        answer.status.ok_or_else(|| Status::not_found(format!("no status of sandbox {id}")))
    }

    /// A container.
    pub async fn container_status(&self, id: &str) -> Answer<wire::ContainerStatus> {
        let message = wire::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self
            .measured("container_status", self.runtime.clone().container_status(self.request(message)))
            .await?
            .into_inner();
        answer.status.ok_or_else(|| Status::not_found(format!("no status of container {id}")))
    }

    /// Makes a sandbox; its id.
    pub async fn run_sandbox(&self, config: wire::PodSandboxConfig, handler: &str) -> Answer<String> {
        let message =
            wire::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        Ok(self
            .measured("run_podsandbox", self.runtime.clone().run_pod_sandbox(within(message, 2 * self.limit)))
            .await?
            .into_inner()
            .pod_sandbox_id)
    }

    /// Ends a sandbox. One that is gone is no error.
    pub async fn stop_sandbox(&self, id: &str) -> Answer<()> {
        let message = wire::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(
            self.measured("stop_podsandbox", self.runtime.clone().stop_pod_sandbox(self.request(message)))
                .await
                .map(drop),
        )
    }

    /// Removes a sandbox and its containers. One that is gone is no error.
    pub async fn remove_sandbox(&self, id: &str) -> Answer<()> {
        let message = wire::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_fine(
            self.measured(
                "remove_podsandbox",
                self.runtime.clone().remove_pod_sandbox(self.request(message)),
            )
            .await
            .map(drop),
        )
    }

    /// Makes a container; its id.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: Box<wire::ContainerConfig>,
        sandbox_config: wire::PodSandboxConfig,
    ) -> Answer<String> {
        let mut runtime = self.runtime.clone();
        let message = wire::CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(*config),
            sandbox_config: Some(sandbox_config),
        };
        let answer = Box::pin(async move { runtime.create_container(self.request(message)).await });
        Ok(self.measured("create_container", answer).await?.into_inner().container_id)
    }

    /// Starts a container.
    pub async fn start_container(&self, id: &str) -> Answer<()> {
        let message = wire::StartContainerRequest { container_id: id.to_owned() };
        self.measured("start_container", self.runtime.clone().start_container(self.request(message)))
            .await
            .map(drop)
    }

    /// Stops a container: asks it to, and kills it after `grace` seconds.
    pub async fn stop_container(&self, id: &str, grace: i64) -> Answer<()> {
        let message = wire::StopContainerRequest { container_id: id.to_owned(), timeout: grace };
        let limit = self.limit + Duration::from_secs(grace.unsigned_abs());
        gone_is_fine(
            self.measured("stop_container", self.runtime.clone().stop_container(within(message, limit)))
                .await
                .map(drop),
        )
    }

    /// Removes a container. One that is gone is no error.
    pub async fn remove_container(&self, id: &str) -> Answer<()> {
        let message = wire::RemoveContainerRequest { container_id: id.to_owned() };
        gone_is_fine(
            self.measured("remove_container", self.runtime.clone().remove_container(self.request(message)))
                .await
                .map(drop),
        )
    }

    /// Changes what a running container may use. Fields that are 0 stay as they are.
    pub async fn update_container(&self, id: &str, linux: wire::LinuxContainerResources) -> Answer<()> {
        let message = wire::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(linux),
            ..Default::default()
        };
        self.measured(
            "update_container",
            self.runtime.clone().update_container_resources(self.request(message)),
        )
        .await
        .map(drop)
    }

    /// Tells it that a pod's own limits change. A runtime that does not want to know is no error.
    pub async fn update_sandbox(&self, id: &str, resources: wire::LinuxContainerResources) -> Answer<()> {
        let message = wire::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.to_owned(),
            resources: Some(resources),
            ..Default::default()
        };
        match self
            .measured(
                "update_podsandbox_resources",
                self.runtime.clone().update_pod_sandbox_resources(self.request(message)),
            )
            .await
        {
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(()),
            other => other.map(drop),
        }
    }

    /// Runs a command in a container and waits for it.
    pub async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        limit: Duration,
    ) -> Answer<wire::ExecSyncResponse> {
        let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let message = wire::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout };
        Ok(self
            .measured(
                "exec_sync",
                self.runtime.clone().exec_sync(within(message, limit + Duration::from_secs(5))),
            )
            .await?
            .into_inner())
    }

    /// Where to stream an exec.
    pub async fn exec(&self, message: wire::ExecRequest) -> Answer<String> {
        Ok(self.measured("exec", self.runtime.clone().exec(self.request(message))).await?.into_inner().url)
    }

    /// Where to stream an attach.
    pub async fn attach(&self, message: wire::AttachRequest) -> Answer<String> {
        Ok(self
            .measured("attach", self.runtime.clone().attach(self.request(message)))
            .await?
            .into_inner()
            .url)
    }

    /// Where to stream a port-forward.
    pub async fn port_forward(&self, sandbox: &str, port: Vec<i32>) -> Answer<String> {
        let message = wire::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port };
        Ok(self
            .measured("port_forward", self.runtime.clone().port_forward(self.request(message)))
            .await?
            .into_inner()
            .url)
    }

    /// What happens to containers, from now on.
    pub async fn events(&self) -> Answer<tonic::Streaming<wire::ContainerEventResponse>> {
        Ok(self.runtime.clone().get_container_events(wire::GetEventsRequest {}).await?.into_inner())
    }

    /// What the runtime measures of its pods by itself: what each metric means, and all of them.
    pub async fn metrics(&self) -> Answer<(Vec<wire::MetricDescriptor>, Vec<wire::PodSandboxMetrics>)> {
        let (mut runtime, mut other) = (self.runtime.clone(), self.runtime.clone());
        let (descriptors, metrics) = tokio::try_join!(
            runtime.list_metric_descriptors(self.request(wire::ListMetricDescriptorsRequest {})),
            other.list_pod_sandbox_metrics(self.request(wire::ListPodSandboxMetricsRequest {})),
        )?;
        Ok((descriptors.into_inner().descriptors, metrics.into_inner().pod_metrics))
    }

    /// What containers use.
    pub async fn stats(&self) -> Answer<Vec<wire::ContainerStats>> {
        let message = wire::ListContainerStatsRequest { filter: None };
        Ok(self
            .measured(
                "list_container_stats",
                self.runtime.clone().list_container_stats(self.request(message)),
            )
            .await?
            .into_inner()
            .stats)
    }

    /// Writes a container's whole state to a file.
    pub async fn checkpoint(&self, id: &str, location: String) -> Answer<()> {
        let message =
            wire::CheckpointContainerRequest { container_id: id.to_owned(), location, ..Default::default() };
        self.measured(
            "checkpoint_container",
            self.runtime.clone().checkpoint_container(self.request(message)),
        )
        .await
        .map(drop)
    }

    /// What pods use as a whole. A runtime that does not measure that has none.
    pub async fn sandbox_stats(&self) -> Answer<Vec<wire::PodSandboxStats>> {
        let message = wire::ListPodSandboxStatsRequest { filter: None };
        match self
            .measured(
                "list_podsandbox_stats",
                self.runtime.clone().list_pod_sandbox_stats(self.request(message)),
            )
            .await
        {
            Ok(answer) => Ok(answer.into_inner().stats),
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(Vec::new()),
            // One pod that cannot be measured makes containerd tell of none.
            Err(status) => {
                tracing::debug!(%status, "the runtime does not measure all pods at once: each is asked for alone");
                self.each_sandbox_stats().await
            }
        }
    }

    /// The same, one by one; those that cannot be measured are left out.
    async fn each_sandbox_stats(&self) -> Answer<Vec<wire::PodSandboxStats>> {
        let mut found = Vec::new();
        let ready = wire::PodSandboxState::SandboxReady as i32;
        for sandbox in self.sandboxes(None).await?.into_iter().filter(|sandbox| sandbox.state == ready) {
            let message = wire::PodSandboxStatsRequest { pod_sandbox_id: sandbox.id };
            let mut runtime = self.runtime.clone();
            match self.measured("podsandbox_stats", runtime.pod_sandbox_stats(self.request(message))).await {
                Ok(answer) => found.extend(answer.into_inner().stats),
                Err(status) => tracing::debug!(%status, "a pod cannot be measured"),
            }
        }
        Ok(found)
    }

    /// Where images are kept, and where containers' own layers are. To answer that a runtime adds up what lies there,
    /// so it is asked seldom.
    pub async fn filesystems(&self) -> Answer<Places> {
        let now = self.clock.monotonic();
        if let Some((asked, places)) = self.places.lock().as_ref()
            && now.saturating_sub(*asked) < PLACES_AGE
        {
            return Ok(places.clone());
        }
        let answer = self
            .measured(
                "image_fs_info",
                self.images.clone().image_fs_info(self.request(wire::ImageFsInfoRequest {})),
            )
            .await?
            .into_inner();
        let first = |usages: Vec<wire::FilesystemUsage>| {
            let id = usages.into_iter().next().and_then(|usage| usage.fs_id);
            id.map(|id| id.mountpoint).filter(|path| !path.is_empty())
        };
        let places = (first(answer.image_filesystems), first(answer.container_filesystems));
        *self.places.lock() = Some((now, places.clone()));
        Ok(places)
    }

    /// Removes an image. One that is gone is no error.
    pub async fn remove_image(&self, image: &str) -> Answer<()> {
        let message = wire::RemoveImageRequest { image: Some(spec(image)) };
        gone_is_fine(
            self.measured("remove_image", self.images.clone().remove_image(self.request(message)))
                .await
                .map(drop),
        )
    }

    /// Lets a container write to a new log, after its old one was moved away.
    pub async fn reopen_log(&self, id: &str) -> Answer<()> {
        let message = wire::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.measured(
            "reopen_container_log",
            self.runtime.clone().reopen_container_log(self.request(message)),
        )
        .await
        .map(drop)
    }

    /// The images that are there.
    pub async fn images(&self) -> Answer<Vec<wire::Image>> {
        let message = wire::ListImagesRequest { filter: None };
        Ok(self
            .measured("list_images", self.images.clone().list_images(self.request(message)))
            .await?
            .into_inner()
            .images)
    }

    /// One image, if it is there.
    pub async fn image(&self, image: &str) -> Answer<Option<wire::Image>> {
        let message = wire::ImageStatusRequest { image: Some(spec(image)), verbose: false };
        Ok(self
            .measured("image_status", self.images.clone().image_status(self.request(message)))
            .await?
            .into_inner()
            .image)
    }

    /// Pulls an image; its reference.
    pub async fn pull(
        &self,
        image: &str,
        auth: Option<wire::AuthConfig>,
        sandbox_config: wire::PodSandboxConfig,
    ) -> Answer<String> {
        let message =
            wire::PullImageRequest { image: Some(spec(image)), auth, sandbox_config: Some(sandbox_config) };
        Ok(self
            .measured("pull_image", self.images.clone().pull_image(within(message, PULL_TIMEOUT)))
            .await?
            .into_inner()
            .image_ref)
    }
}

fn spec(image: &str) -> wire::ImageSpec {
    wire::ImageSpec { image: image.to_owned(), user_specified_image: image.to_owned(), ..Default::default() }
}

fn gone_is_fine(answer: Answer<()>) -> Answer<()> {
    match answer {
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_says_how_long_it_may_take() {
        let request = within((), Duration::from_secs(5));
        assert_eq!(request.metadata().get("grpc-timeout").unwrap(), "5000000u");
    }
}
