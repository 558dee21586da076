//! What the runtime says of one pod.

use std::collections::HashMap;
use std::path::Path;

use cri::v1 as wire;
use k8s_openapi::api::core::v1::{ContainerUser, LinuxContainerUser};

use crate::runtime::Runtime;

/// The labels by which a pod is found again; upstream's.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotations of containers; upstream's.
pub const HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// The most of a termination message that is kept, and of a log that stands in for one.
const MESSAGE_BYTES: usize = 4096;
const LOG_BYTES: u64 = 2048;
const LOG_LINES: usize = 80;

/// How a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    #[default]
    Created,
    Running,
    Exited,
    Unknown,
}

/// A sandbox.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sandbox {
    pub id: String,
    pub attempt: u32,
    pub ready: bool,
    pub created_at: i64,
    pub ips: Vec<String>,
}

/// A container. Times are nanoseconds since 1970; 0 is never.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Instance {
    pub id: String,
    pub name: String,
    pub sandbox: String,
    pub restarts: u32,
    pub state: State,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub image: String,
    pub image_id: String,
    pub hash: String,
    /// Who its process was at first.
    pub user: Option<ContainerUser>,
    /// The signal that asks it to stop, if the runtime tells.
    pub stop_signal: Option<String>,
    /// The ids of the images that volumes are, by where they are mounted, if they are to be told.
    pub volumes: Vec<(String, String)>,
}

/// All of a pod, newest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    pub sandboxes: Vec<Sandbox>,
    pub containers: Vec<Instance>,
}

impl Observed {
    /// The newest sandbox, if it works.
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of a name.
    pub fn latest(&self, name: &str) -> Option<&Instance> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// All containers of a name, newest first.
    pub fn instances<'o>(&'o self, name: &'o str) -> impl Iterator<Item = &'o Instance> {
        self.containers.iter().filter(move |container| container.name == name)
    }
}

/// What was asked of the runtime already and does not change any more.
#[derive(Default)]
pub struct Cache {
    /// Whether to ask which images volumes are.
    asks_for_volumes: bool,
    containers: HashMap<String, (i32, Instance)>,
    sandboxes: HashMap<String, Vec<String>>,
}

impl Cache {
    /// Nothing is known yet.
    pub fn new(asks_for_volumes: bool) -> Self {
        Self { asks_for_volumes, ..Self::default() }
    }
}

/// Asks the runtime for a pod.
pub async fn observe(runtime: &Runtime, uid: &str, cache: &mut Cache) -> Result<Observed, tonic::Status> {
    let label = Some((POD_UID, uid));
    let (sandboxes, containers) = tokio::try_join!(runtime.sandboxes(label), runtime.containers(label))?;
    let mut observed = Observed::default();
    for sandbox in sandboxes {
        let ready = sandbox.state == wire::PodSandboxState::SandboxReady as i32;
        let ips = match cache.sandboxes.get(&sandbox.id) {
            Some(ips) => ips.clone(),
            None => {
                let Some(ips) = addresses(runtime, &sandbox.id).await? else { continue };
                if !ips.is_empty() {
                    cache.sandboxes.insert(sandbox.id.clone(), ips.clone());
                }
                ips
            }
        };
        let attempt = sandbox.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        observed.sandboxes.push(Sandbox {
            id: sandbox.id,
            attempt,
            ready,
            created_at: sandbox.created_at,
            ips,
        });
    }
    for container in containers {
        let known = cache.containers.get(&container.id).filter(|(state, _)| *state == container.state);
        let instance = match known {
            Some((_, instance)) => instance.clone(),
            None => match runtime.container_status(&container.id).await {
                Ok(status) => {
                    let state = status.state;
                    let volumes = match cache.asks_for_volumes {
                        true => images_of_volumes(runtime, &status.mounts).await,
                        false => Some(Vec::new()),
                    };
                    let is_whole = volumes.is_some();
                    let volumes = volumes.unwrap_or_default();
                    let instance = Instance { volumes, ..instance(&container, status) };
                    if is_whole {
                        cache.containers.insert(container.id.clone(), (state, instance.clone()));
                    }
                    instance
                }
                Err(status) if status.code() == tonic::Code::NotFound => continue,
                Err(status) => return Err(status),
            },
        };
        observed.containers.push(instance);
    }
    cache.containers.retain(|id, _| observed.containers.iter().any(|container| container.id == *id));
    cache.sandboxes.retain(|id, _| observed.sandboxes.iter().any(|sandbox| sandbox.id == *id));
    observed.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.attempt, sandbox.created_at)));
    observed
        .containers
        .sort_by_key(|container| std::cmp::Reverse((container.created_at, container.restarts)));
    Ok(observed)
}

async fn addresses(runtime: &Runtime, id: &str) -> Result<Option<Vec<String>>, tonic::Status> {
    match runtime.sandbox_status(id).await {
        Ok(status) => {
            let network = status.network.unwrap_or_default();
            let more = network.additional_ips.into_iter().map(|ip| ip.ip);
            Ok(Some(std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect()))
        }
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(status),
    }
}

fn instance(listed: &wire::Container, status: wire::ContainerStatus) -> Instance {
    let text = |key: &str| status.annotations.get(key).cloned().unwrap_or_default();
    let attempt = status.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
    let state = match wire::ContainerState::try_from(status.state) {
        Ok(wire::ContainerState::ContainerCreated) => State::Created,
        Ok(wire::ContainerState::ContainerRunning) => State::Running,
        Ok(wire::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    };
    let message = if state == State::Exited { last_words(&status) } else { status.message.clone() };
    Instance {
        id: status.id.clone(),
        name: listed.labels.get(CONTAINER_NAME).cloned().unwrap_or_default(),
        sandbox: listed.pod_sandbox_id.clone(),
        restarts: text(RESTART_COUNT).parse().unwrap_or(attempt),
        state,
        created_at: status.created_at,
        started_at: status.started_at,
        finished_at: status.finished_at,
        exit_code: status.exit_code,
        reason: status.reason.clone(),
        message,
        image: image_name(status.image.as_ref()),
        image_id: if status.image_ref.is_empty() {
            status.image_id.clone()
        } else {
            status.image_ref.clone()
        },
        hash: text(HASH),
        user: status.user.as_ref().and_then(|user| user.linux.as_ref()).map(user),
        stop_signal: signal_name(status.stop_signal),
        volumes: Vec::new(),
    }
}

/// The ids of the images that are mounted, by where; nothing if the runtime does not tell at the moment. One that is gone
/// meanwhile has none.
async fn images_of_volumes(runtime: &Runtime, mounts: &[wire::Mount]) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    for mount in mounts {
        let Some(image) = &mount.image else { continue };
        match runtime.image(&image.image).await {
            Ok(image) => found.extend(image.map(|image| (mount.container_path.clone(), image.id))),
            Err(status) => {
                tracing::debug!(path = mount.container_path, %status, "which image a volume is stays unknown");
                return None;
            }
        }
    }
    Some(found)
}

fn user(user: &wire::LinuxContainerUser) -> ContainerUser {
    let groups = user.supplemental_groups.clone();
    let linux = LinuxContainerUser {
        uid: user.uid,
        gid: user.gid,
        supplemental_groups: Some(groups).filter(|groups| !groups.is_empty()),
    };
    ContainerUser { linux: Some(linux) }
}

/// Such as `SIGTERM`; nothing for the runtime's own choice.
fn signal_name(number: i32) -> Option<String> {
    let name = wire::Signal::try_from(number).ok().filter(|_| number != 0)?.as_str_name();
    let name = name.strip_prefix("SIGNAL_")?;
    // The protocol has no signs in its names.
    Some(name.replace("RTMINPLUS", "RTMIN+").replace("RTMAXMINUS", "RTMAX-"))
}

/// The image as a name where the runtime knows one: containers are made of ids.
fn image_name(image: Option<&wire::ImageSpec>) -> String {
    let Some(image) = image else { return String::new() };
    let is_id = image.image.starts_with("sha256:");
    if is_id && !image.user_specified_image.is_empty() {
        image.user_specified_image.clone()
    } else {
        image.image.clone()
    }
}

/// What a container left in its termination message file, or the end of its log if it asked for that.
fn last_words(status: &wire::ContainerStatus) -> String {
    let text = |key: &str| status.annotations.get(key).map(String::as_str).unwrap_or_default();
    let path = text(MESSAGE_PATH);
    let mount = status.mounts.iter().find(|mount| !path.is_empty() && mount.container_path == path);
    // Reading it is best effort: a container may have replaced the file with anything.
    let file = mount.and_then(|mount| std::fs::read(&mount.host_path).ok()).unwrap_or_default();
    let file =
        String::from_utf8_lossy(file.get(..MESSAGE_BYTES.min(file.len())).unwrap_or_default()).into_owned();
    if !file.is_empty() {
        return file;
    }
    if text(MESSAGE_POLICY) == "FallbackToLogsOnError" && status.exit_code != 0 {
        return crate::api::logs::tail(Path::new(&status.log_path), LOG_LINES, LOG_BYTES).unwrap_or_default();
    }
    status.message.clone()
}
