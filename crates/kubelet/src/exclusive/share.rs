//! Keeps containers on the processors that they may run on: those with some for themselves on these, everybody else
//! off them. What changes is told to containers that run; those that start are given it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cri::v1 as wire;
use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Exclusive;
use crate::Shared;
use crate::cpus::CpuSet;
use crate::pods::observed::{CONTAINER_NAME, POD_UID};
use crate::pods::spec::PodExt;

/// After a container could not be told.
const AGAIN: Duration = Duration::from_secs(1);

/// Where a container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// What it may run on; nothing when nobody minds.
    cpus: Option<CpuSet>,
    /// NUMA nodes of its memory, as the kernel writes them.
    memory: Option<String>,
    /// Whether the processors are its own: a limit of their time would only slow it down.
    is_exclusive: bool,
}

impl Placement {
    /// Adds it to what a container may use.
    pub fn apply(&self, mut resources: wire::LinuxContainerResources) -> wire::LinuxContainerResources {
        resources.cpuset_cpus = self.cpus.as_ref().map(ToString::to_string).unwrap_or_default();
        resources.cpuset_mems = self.memory.clone().unwrap_or_default();
        if self.is_exclusive {
            resources.cpu_quota = -1;
        }
        resources
    }
}

/// What containers were told last.
#[derive(Default)]
pub(super) struct Shares {
    /// By container's id.
    told: Mutex<HashMap<String, CpuSet>>,
    changed: Notify,
}

impl Shares {
    /// Who may run where is different now.
    pub fn change(&self) {
        self.changed.notify_one();
    }
}

impl Exclusive {
    /// Where a container is to run.
    pub fn placement(&self, pod: &Pod, container: &Container) -> Placement {
        Placement {
            cpus: self.cpus.allowed(pod.uid(), &container.name),
            memory: self.memory.allowed(pod.uid(), &container.name),
            is_exclusive: self.cpus.has_own(pod, container),
        }
    }

    /// Whether a pod's limit of processor time would only slow it down: it has processors for itself.
    pub fn has_cpus(&self, pod: &Pod) -> bool {
        self.cpus.bounds(pod)
    }

    /// A container was started on these. If that is out of date by now, it is told.
    pub fn started(&self, id: &str, cpus: &str) {
        if let Ok(cpus) = cpus.parse::<CpuSet>()
            && !cpus.is_empty()
        {
            self.shares.told.lock().insert(id.to_owned(), cpus);
            self.shares.change();
        }
    }
}

/// Tells containers, as long as the group runs.
pub async fn run(shared: Arc<Shared>) {
    if !shared.exclusive.cpus.is_static() {
        return;
    }
    loop {
        if tell(&shared).await {
            shared.exclusive.shares.changed.notified().await;
        } else {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Tells every container that runs what is new to it; whether all could be told.
async fn tell(shared: &Shared) -> bool {
    let containers = match shared.runtime.containers(None).await {
        Ok(containers) => containers,
        Err(status) => {
            tracing::warn!(%status, "who runs where is not told: the runtime does not list its containers");
            return false;
        }
    };
    let shares = &shared.exclusive.shares;
    shares.told.lock().retain(|id, _| containers.iter().any(|container| container.id == *id));
    let mut all = true;
    for container in containers {
        let label = |key: &str| container.labels.get(key).map(String::as_str);
        let (Some(uid), Some(name)) = (label(POD_UID), label(CONTAINER_NAME)) else { continue };
        if container.state != wire::ContainerState::ContainerRunning as i32 {
            continue;
        }
        let Some(cpus) = shared.exclusive.cpus.allowed(uid, name) else { continue };
        if shares.told.lock().get(&container.id) == Some(&cpus) {
            continue;
        }
        let resources = wire::LinuxContainerResources { cpuset_cpus: cpus.to_string(), ..Default::default() };
        match shared.runtime.update_container(&container.id, resources).await {
            Ok(()) => {
                tracing::debug!(uid, name, %cpus, "a container runs elsewhere now");
                shares.told.lock().insert(container.id, cpus);
            }
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => {
                tracing::warn!(uid, name, %status, "a container is not told on which cpus it may run");
                all = false;
            }
        }
    }
    all
}
