//! Makes and starts one container.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use cri::v1 as wire;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;

use super::Handle;
use super::config::{self, Prepared};
use super::env::{self, Sources};
use super::fields::Surroundings;
use super::jobs::{Failed, failed, log_directory, make_group, sandbox_config};
use super::observed::State;
use super::spec::PodExt;
use super::{pulling, resources, stopping};
use crate::Shared;
use crate::collect::logs::links;
use crate::counts::table;
use crate::probes::hooks;

/// So many images' users are remembered.
const MOST_IMAGE_USERS: usize = 1000;

/// Which container is started, and where.
pub struct Attempt<'a> {
    pub container: &'a str,
    pub sandbox: &'a str,
    pub restarts: u32,
}

/// The addresses that the pod has now.
pub fn pod_ips(shared: &Shared, handle: &Handle, pod: &Pod) -> Vec<String> {
    if pod.host_network() {
        return shared.config.node_ips();
    }
    handle.observed.lock().sandbox().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
}

/// Owns what [`Surroundings`] borrow.
pub struct OwnedSurroundings<'a> {
    pod: &'a Pod,
    pod_ips: Vec<String>,
    host_ips: Vec<String>,
    allocatable: BTreeMap<String, i64>,
}

impl OwnedSurroundings<'_> {
    pub fn borrow(&self) -> Surroundings<'_> {
        Surroundings {
            pod: self.pod,
            pod_ips: &self.pod_ips,
            host_ips: &self.host_ips,
            allocatable: &self.allocatable,
        }
    }
}

/// What the pod can be told of itself now.
pub fn surroundings<'a>(shared: &Shared, handle: &Handle, pod: &'a Pod) -> OwnedSurroundings<'a> {
    OwnedSurroundings {
        pod,
        pod_ips: pod_ips(shared, handle, pod),
        host_ips: shared.config.node_ips(),
        allocatable: shared.ledger.allocatable().clone(),
    }
}

/// The handler of a runtime class.
pub async fn handler(shared: &Shared, class: &str) -> Result<String, String> {
    if class.is_empty() {
        return Ok(String::new());
    }
    let api: Api<RuntimeClass> = Api::all(shared.client.clone());
    api.get(class)
        .await
        .map(|class| class.handler)
        .map_err(|error| format!("RuntimeClass {class:?}: {error}"))
}

/// Makes and starts a container.
pub async fn start(shared: &Shared, handle: &Handle, pod: &Pod, attempt: &Attempt<'_>) -> Result<(), Failed> {
    let Some(container) = pod.container(attempt.container) else { return Ok(()) };
    let container = container.as_ref();
    let refuse = |reason: &str, message: String| {
        shared.recorder.warning(pod.reference(Some(&container.name)), "Failed", format!("Error: {message}"));
        let labels = [reason, pod.kind_of(&container.name)];
        shared.counts.count(&table::STARTED_CONTAINERS_ERRORS, &labels);
        failed(reason, message)
    };
    let images = pulling::volumes(shared, handle, pod, container).await?;
    for _ in &images {
        shared.counts.count(&table::IMAGE_VOLUMES, &[]);
    }
    let mounted = |row: &table::Row| images.iter().for_each(|_| shared.counts.count(row, &[]));
    let config = prepare(shared, handle, pod, container, attempt, &images)
        .await
        .map_err(|message| refuse("CreateContainerConfigError", message))?;
    let mut sandbox = sandbox_config(shared, pod, 0)?;
    if let Some(options) = config::sandbox_namespaces(&mut sandbox) {
        options.userns_options = config::users(&config);
    }
    // Somebody may have removed it while nothing ran there: the runtime would make one without the pod's limits.
    let group = resources::cgroup_parent(&shared.config.cgroup_root, pod);
    if !shared.cgroups.exists(&group) {
        tracing::warn!(pod = %pod.described(), group, "the pod's cgroup is gone and is made again");
        make_group(shared, pod).await.map_err(|error| refuse("CreateContainerError", error.to_string()))?;
    }
    let placed =
        config.linux.as_ref().and_then(|linux| linux.resources.as_ref()).map(|r| r.cpuset_cpus.clone());
    let id = shared.runtime.create_container(attempt.sandbox, Box::new(config), sandbox).await.map_err(
        |status| {
            mounted(&table::IMAGE_VOLUMES_ERRORS);
            refuse("CreateContainerError", status.message().to_owned())
        },
    )?;
    mounted(&table::IMAGE_VOLUMES_MOUNTED);
    let about = || pod.reference(Some(&container.name));
    shared.recorder.normal(about(), "Created", "Container created");
    if let Err(status) = shared.runtime.start_container(&id).await {
        // Left there it would count as one that a dead kubelet did not get to start.
        let state = shared.runtime.container_status(&id).await.map(|status| status.state);
        if state.ok() == Some(wire::ContainerState::ContainerCreated as i32)
            && let Err(status) = shared.runtime.remove_container(&id).await
        {
            tracing::debug!(%status, "a container that did not start is not removed");
        }
        return Err(refuse("RunContainerError", status.message().to_owned()));
    }
    links::make(shared, pod, &container.name, &id, attempt.restarts);
    shared.exclusive.started(&id, placed.as_deref().unwrap_or_default());
    let given = resources::given_in(pod, container);
    {
        let mut memory = handle.memory.lock();
        memory.resize.actuated.insert(id.clone(), given);
        memory.made.insert(id.clone());
    }
    shared.recorder.normal(about(), "Started", "Container started");
    shared.counts.count(&table::STARTED_CONTAINERS, &[pod.kind_of(&container.name)]);
    post_start(shared, handle, pod, container, &id).await
}

async fn post_start(
    shared: &Shared,
    handle: &Handle,
    pod: &Pod,
    container: &Container,
    id: &str,
) -> Result<(), Failed> {
    let Some(hook) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else {
        return Ok(());
    };
    let ip = pod_ips(shared, handle, pod).first().cloned().unwrap_or_default();
    let gates = shared.config.configuration.fields.gates;
    let target = hooks::Target { id, ip: &ip, container, gates };
    let Err(message) = hooks::run(shared, pod, hook, &target, Duration::from_secs(3600)).await else {
        return Ok(());
    };
    let name = container.name.as_str();
    tracing::warn!(pod = %pod.described(), name, message, "a postStart hook failed");
    // What a command or a server says may be secret: it stays out of events.
    shared.recorder.warning(pod.reference(Some(name)), "FailedPostStartHook", "PostStartHook failed");
    let killed = stopping::kill(shared, handle, pod, (id, name), pod.grace(), "FailedPostStartHook").await;
    killed.map_err(|(_, message)| failed("PostStartHookError", message))
}

async fn prepare(
    shared: &Shared,
    handle: &Handle,
    pod: &Pod,
    container: &Container,
    attempt: &Attempt<'_>,
    images: &BTreeMap<String, String>,
) -> Result<wire::ContainerConfig, String> {
    let owned = surroundings(shared, handle, pod);
    let surroundings = owned.borrow();
    let links = pod.spec().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    // A container that started before the services are known would never learn of them.
    if !tokio::time::timeout(Duration::from_secs(5), shared.services.synced()).await.unwrap_or(false) {
        return Err("services have not yet been read at least once, cannot construct envvars".to_owned());
    }
    let services: Vec<_> = shared.services.list().into_iter().map(|(_, service)| service).collect();
    let services = env::services(&services, pod.namespace(), links);
    let sources = fetch(shared, pod, container).await?;
    let mut needs = shared.exclusive.start(pod, container).await.map_err(|error| error.to_string())?;
    let claimed = shared.claims.devices(pod, container).map_err(|error| error.to_string())?;
    claimed.iter().for_each(|device| needs.add_cdi(device));
    let own = env::build(container, &surroundings, &sources, &services).map_err(|error| error.to_string())?;
    // Where a device and the pod name the same, the pod is right.
    let is_own = |name: &str| own.iter().any(|(known, _)| known == name);
    let mut env: Vec<_> = needs.env.into_iter().filter(|(name, _)| !is_own(name)).collect();
    env.extend(own);
    let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut mounts = needs.mounts;
    mounts.extend(shared.volumes.mounts(pod, container, images, lookup).map_err(|error| error.to_string())?);
    let files = own_files(shared, pod, container, attempt, surroundings.pod_ips);
    mounts.extend(files.map_err(|error| format!("writing the container's own files: {error}"))?);
    let mut devices = needs.devices;
    devices.extend(shared.volumes.devices(pod, container).map_err(|error| error.to_string())?);
    let image_ref = handle.memory.lock().fetched(container).unwrap_or_default().to_owned();
    let image_user = image_user(shared, &image_ref).await?;
    let log = log_directory(shared, pod).join(&container.name);
    std::fs::create_dir_all(&log).map_err(|error| format!("making {}: {error}", log.display()))?;
    shared.grown.watch(pod.uid(), &container.name, &log);
    let prepared = Prepared {
        env,
        mounts,
        devices,
        image_ref,
        image_user,
        restarts: attempt.restarts,
        target: target(handle, pod, container)?,
        users: users(shared, pod)?,
        means: shared.means,
        annotations: needs.annotations,
        cdi: needs.cdi,
        placement: shared.exclusive.placement(pod, container),
    };
    config::container(pod, container, prepared).map_err(|error| error.to_string())
}

/// Whom an image's containers run as, by number or by name. An image that is named by its content is asked for once.
async fn image_user(shared: &Shared, reference: &str) -> Result<(Option<i64>, String), String> {
    if let Some(user) = shared.image_users.lock().get(reference) {
        return Ok(user.clone());
    }
    let image = shared.runtime.image(reference).await.map_err(|status| status.message().to_owned())?;
    let Some(image) = image else { return Ok((None, String::new())) };
    let user = (image.uid.map(|uid| uid.value), image.username);
    if reference.contains("sha256:") {
        let mut known = shared.image_users.lock();
        if known.len() >= MOST_IMAGE_USERS {
            known.clear();
        }
        known.insert(reference.to_owned(), user.clone());
    }
    Ok(user)
}

/// The users that a pod has for itself, if it does not share the node's.
pub fn users(shared: &Shared, pod: &Pod) -> Result<Option<wire::UserNamespace>, String> {
    if pod.spec().and_then(|spec| spec.host_users) != Some(false) {
        return Ok(None);
    }
    shared.users.of(pod.uid()).map(Some).map_err(|error| error.to_string())
}

/// Why a pod cannot have the users that it asks for by a runtime handler.
pub fn check_users(
    shared: &Shared,
    users: Option<&wire::UserNamespace>,
    handler: &str,
) -> Result<(), String> {
    if users.is_none() || shared.runtime.user_namespaces.contains(handler) {
        return Ok(());
    }
    let who =
        if handler.is_empty() { "runtime".to_owned() } else { format!("RuntimeClass handler {handler:?}") };
    Err(format!("can't set `spec.hostUsers: false`, {who} does not support user namespaces"))
}

/// The id of the running container whose processes an ephemeral one is to see; empty if it names none.
fn target(handle: &Handle, pod: &Pod, container: &Container) -> Result<String, String> {
    let ephemeral = pod.ephemeral_containers().iter().find(|ephemeral| ephemeral.name == container.name);
    let name = ephemeral.and_then(|ephemeral| ephemeral.target_container_name.as_deref()).unwrap_or_default();
    if name.is_empty() {
        return Ok(String::new());
    }
    let observed = handle.observed.lock().clone();
    let found = observed.latest(name).filter(|target| target.state == State::Running);
    found.map(|target| target.id.clone()).ok_or_else(|| format!("unable to find target container {name}"))
}

/// Fetches what an environment refers to.
async fn fetch(shared: &Shared, pod: &Pod, container: &Container) -> Result<Sources, String> {
    let (maps, secrets) = env::references(container);
    let mut sources = Sources { files: env_files(shared, pod, container)?, ..Sources::default() };
    let api: Api<ConfigMap> = Api::namespaced(shared.client.clone(), pod.namespace());
    for name in maps {
        let found = api.get_opt(&name).await.map_err(|error| format!("configmap {name:?}: {error}"))?;
        sources.config_maps.insert(name, found.map(Arc::new));
    }
    let api: Api<Secret> = Api::namespaced(shared.client.clone(), pod.namespace());
    for name in secrets {
        let found = api.get_opt(&name).await.map_err(|error| format!("secret {name:?}: {error}"))?;
        sources.secrets.insert(name, found.map(Arc::new));
    }
    Ok(sources)
}

/// The environment files that a container names, by volume and path.
fn env_files(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
) -> Result<HashMap<(String, String), Option<String>>, String> {
    let mut files = HashMap::new();
    for from in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
        let Some(source) = &from.file_key_ref else { continue };
        let volume = &source.volume_name;
        let root = shared.volumes.empty_dir(pod, volume);
        let root =
            root.ok_or_else(|| format!("cannot find the volume {volume:?} referenced by FileKeyRef"))?;
        let text = crate::volumes::read_within(&root, &source.path)
            .map_err(|error| format!("couldn't parse env file: {error}"))?;
        files.insert((volume.clone(), source.path.clone()), text);
    }
    Ok(files)
}

/// The files that the kubelet itself puts into containers: `/etc/hosts` and the termination message.
fn own_files(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    attempt: &Attempt<'_>,
    ips: &[String],
) -> std::io::Result<Vec<wire::Mount>> {
    let root: PathBuf = shared.volumes.pod_dir(pod.uid());
    let mut mounts = Vec::new();
    let taken = |path: &str| container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == path);
    if !taken("/etc/hosts") {
        let of_node = if pod.host_network() { Some(std::fs::read_to_string("/etc/hosts")?) } else { None };
        let text = config::hosts(pod, ips, &shared.config.cluster_domain, of_node.as_deref());
        let path = root.join("etc-hosts");
        std::fs::create_dir_all(&root)?;
        std::fs::write(&path, text)?;
        failpoint::hit("kubelet.start.hosts_written");
        mounts.push(wire::Mount {
            container_path: "/etc/hosts".to_owned(),
            host_path: path.display().to_string(),
            ..Default::default()
        });
    }
    let directory = root.join("containers").join(&container.name);
    std::fs::create_dir_all(&directory)?;
    let path = directory.join(attempt.restarts.to_string());
    std::fs::write(&path, "")?;
    failpoint::hit("kubelet.start.message_file_made");
    // Whatever user the container has, it may leave a message.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    mounts.push(wire::Mount {
        container_path: config::message_path(container).to_owned(),
        host_path: path.display().to_string(),
        ..Default::default()
    });
    Ok(mounts)
}
