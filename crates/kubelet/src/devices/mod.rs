//! Devices of the node that plugins provide (`v1beta1` of the device plugin API): which there are, who has which, and
//! what a container needs for those that it has.
//!
//! `state`, `choose` and `needs` decide (pure), `checkpoint` keeps who has what, `connect` follows a plugin, `server`
//! lets plugins register, `allocate` asks them. It does not know of NUMA nodes beyond their numbers, nor of the API.
//!
//! Invariants:
//! - A device is given once: whoever allocates holds the turn of [`crate::exclusive`].
//! - What is given is on disk before the pod is taken.

mod allocate;
mod checkpoint;
mod choose;
mod connect;
mod hints;
mod needs;
mod server;
mod state;
#[cfg(test)]
pub mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::TaskGroup;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceHealth, ResourceStatus};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::checkpoint::CheckpointError;
use crate::counts::Meter;
use crate::pods::spec::PodExt;
use crate::topology::Hints;
pub use allocate::AllocateError;
use connect::Plugins;
pub use connect::{ConnectError, is_extended, validate};
pub use needs::Needs;
pub use server::serve;
use state::State;

/// Devices of a resource, each with every NUMA node that it is near to.
fn placed(name: &str, devices: &BTreeMap<i64, Vec<String>>) -> Vec<(String, String, Option<i64>)> {
    let one = |node: i64, id: &String| (name.to_owned(), id.clone(), Some(node).filter(|node| *node >= 0));
    devices.iter().flat_map(|(node, ids)| ids.iter().map(move |id| one(*node, id))).collect()
}

/// The devices of a node.
pub struct Devices {
    /// `<root>/device-plugins`.
    folder: PathBuf,
    state: Mutex<State>,
    plugins: Mutex<Plugins>,
    /// What is counted of it.
    pub meter: Meter,
    tasks: TaskGroup,
    /// What the node has is different now.
    changed: Notify,
    /// Pods with a device whose health is another now.
    concerned: Mutex<BTreeSet<String>>,
    concern: Notify,
}

impl Devices {
    /// Those below a kubelet's folder, as they were given out before.
    ///
    /// # Errors
    /// When the file that says so is there and cannot be understood: to begin without it would give devices twice.
    pub fn load(root: &Path, meter: Meter, tasks: &TaskGroup) -> Result<Arc<Self>, CheckpointError> {
        let folder = root.join("device-plugins");
        let mut state = checkpoint::read(&folder.join(checkpoint::NAME))?.unwrap_or_default();
        let now = meter.clock.monotonic();
        state.resources.values_mut().for_each(|resource| resource.stopped = Some(now));
        Ok(Arc::new(Self {
            folder,
            state: Mutex::new(state),
            plugins: Mutex::default(),
            meter,
            tasks: tasks.clone(),
            changed: Notify::new(),
            concerned: Mutex::default(),
            concern: Notify::new(),
        }))
    }

    /// Until the node has other devices.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Until the health of devices changes that pods have; which pods.
    pub async fn concerned(&self) -> BTreeSet<String> {
        loop {
            let uids = std::mem::take(&mut *self.concerned.lock());
            if !uids.is_empty() {
                return uids;
            }
            self.concern.notified().await;
        }
    }

    /// What the node has of each resource, and what of it can be given.
    pub fn amounts(&self) -> BTreeMap<String, (i64, i64)> {
        let expired = self.state.lock().expire(self.meter.clock.monotonic());
        if expired {
            self.keep();
        }
        self.state.lock().amounts()
    }

    /// Whether plugins provide anything that a pod asks for.
    pub fn concerns(&self, pod: &Pod) -> bool {
        let state = self.state.lock();
        let containers = pod.init_containers().iter().chain(pod.containers());
        let mut names = containers.flat_map(|c| c.resources.iter().flat_map(|r| r.limits.iter().flatten()));
        names.any(|(name, _)| state.manages(name))
    }

    /// Where a container could have its devices, among these NUMA nodes.
    pub fn hints(&self, pod: &Pod, container: &Container, nodes: &[i64]) -> Hints {
        self.state.lock().hints(pod, container, nodes)
    }

    /// Where all containers of a pod could have theirs.
    pub fn pod_hints(&self, pod: &Pod, nodes: &[i64]) -> Hints {
        self.state.lock().pod_hints(pod, nodes)
    }

    /// What a pod had can be given to others.
    pub fn release(&self, uid: &str) {
        let had = self.state.lock().given.remove(uid).is_some();
        if had {
            self.keep();
        }
    }

    /// What pods have that are not there any more can be given to others.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        let before = self.state.lock().given.len();
        self.state.lock().given.retain(|uid, _| is_known(uid));
        if self.state.lock().given.len() != before {
            self.keep();
        }
    }

    /// How the devices of a pod's containers are, by container.
    pub fn health(&self, pod: &Pod) -> BTreeMap<String, Vec<ResourceStatus>> {
        let state = self.state.lock();
        let Some(shares) = state.given.get(pod.uid()) else { return BTreeMap::new() };
        let one = |(name, given): (&String, &state::Given)| {
            let devices = state.resources.get(name).map(|resource| &resource.devices);
            let health = |id: String| {
                let ill = devices.and_then(|devices| devices.get(&id)).is_some_and(|device| !device.healthy);
                let health = Some(if ill { "Unhealthy" } else { "Healthy" }.to_owned());
                ResourceHealth { health, resource_id: id, ..ResourceHealth::default() }
            };
            let resources = Some(given.ids().into_iter().map(health).collect());
            ResourceStatus { name: name.clone(), resources }
        };
        shares.iter().map(|(name, given)| (name.clone(), given.iter().map(one).collect())).collect()
    }

    /// What a container has: resources, ids, and a NUMA node that each is near to.
    pub fn given(&self, uid: &str, container: &str) -> Vec<(String, String, Option<i64>)> {
        let state = self.state.lock();
        let given = state.given.get(uid).and_then(|shares| shares.get(container)).into_iter().flatten();
        given.flat_map(|(name, given)| placed(name, &given.devices)).collect()
    }

    /// What can be given, likewise.
    pub fn healthy(&self) -> Vec<(String, String, Option<i64>)> {
        let state = self.state.lock();
        let all = state.resources.iter();
        all.flat_map(|(name, resource)| placed(name, &state.placed(name, &resource.healthy()))).collect()
    }

    /// Writes who has what. A disk that refuses costs nothing but the memory of it over a restart.
    fn keep(&self) {
        if let Err(error) = self.write() {
            tracing::error!(%error, "who has which devices is not on disk");
        }
    }

    fn write(&self) -> Result<(), CheckpointError> {
        let state = self.state.lock();
        checkpoint::write(&self.folder.join(checkpoint::NAME), &state)
    }

    /// Something about the devices of a resource is different.
    fn told(&self, uids: BTreeSet<String>) {
        self.keep();
        self.changed.notify_one();
        if !uids.is_empty() {
            self.concerned.lock().extend(uids);
            self.concern.notify_one();
        }
    }
}
