//! Processors that containers have for themselves (`pkg/kubelet/cm/cpumanager`): a container of a guaranteed pod that
//! asks for whole ones gets them, and everybody else shares the rest.
//!
//! `layout` says what is where, `take` and `distribute` choose, `policy` decides who gets what, `whole` does for pods that
//! have resources as a whole (all pure), `state` is kept on disk. Nothing here changes a container: whoever runs it asks
//! what it may run on.

mod distribute;
mod hints;
mod layout;
mod options;
mod policy;
mod set;
mod state;
mod take;
mod whole;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use parking_lot::Mutex;

use crate::checkpoint::CheckpointError;
use crate::configuration::Fields;
use crate::pods::has_own_resources;
use crate::pods::spec::PodExt;
use crate::topology::{Hints, Machine, Mask, Policy};
pub use layout::{Cpu, Layout};
pub use policy::CpuError;
use policy::Static;
pub use set::CpuSet;
use state::{State, StateError};

/// The processors of a node.
pub struct Cpus {
    path: PathBuf,
    /// Without one nobody has any for itself.
    policy: Option<Static>,
    state: Mutex<State>,
}

/// Why the node cannot give processors as it is told to.
#[derive(Debug, thiserror::Error)]
pub enum CpusError {
    /// Settings that cannot be.
    #[error("new static policy error: {0}")]
    Settings(String),
    /// The file is of no use.
    #[error("could not restore state from checkpoint: {source}, please drain this node and delete the CPU manager checkpoint file {:?} before restarting Kubelet", path.display().to_string())]
    State {
        /// Which.
        path: PathBuf,
        /// Why.
        source: StateError,
    },
    /// The file says what cannot be.
    #[error("invalid state, please drain node and remove policy state file {:?}: {why}", path.display().to_string())]
    Invalid {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// It cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Cpus {
    /// As they were given out before; `reserved` is what system and Kubernetes keep, in thousandths.
    ///
    /// # Errors
    /// [`CpusError`].
    pub fn load(
        root: &Path,
        fields: &Fields,
        machine: &Machine,
        reserved: i64,
        placed: Policy,
    ) -> Result<Self, CpusError> {
        let path = root.join(state::NAME);
        let policy = match fields.cpu_manager_policy.as_str() {
            "none" => None,
            "static" => {
                Some(Static::new(fields, &machine.cpus, reserved, placed).map_err(CpusError::Settings)?)
            }
            other => return Err(CpusError::Settings(format!("unknown policy: {other:?}"))),
        };
        let read = state::read(&path, &fields.cpu_manager_policy);
        let known = read.map_err(|source| CpusError::State { path: path.clone(), source })?;
        let state = match (&policy, known) {
            (None, known) => known.unwrap_or_default(),
            (Some(policy), known) => policy
                .begin(known.unwrap_or_default())
                .map_err(|why| CpusError::Invalid { path: path.clone(), why })?,
        };
        let cpus = Self { path, policy, state: Mutex::new(state) };
        cpus.write()?;
        Ok(cpus)
    }

    fn name(&self) -> &'static str {
        if self.policy.is_some() { "static" } else { "none" }
    }

    fn write(&self) -> Result<(), CheckpointError> {
        let by_pod = self.policy.as_ref().is_some_and(|policy| policy.by_pod);
        state::write(&self.path, self.name(), by_pod, &self.state.lock())
    }

    /// Whether a pod is to have any, or one of its containers.
    pub fn concerns(&self, pod: &Pod) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.concerns(pod))
    }

    /// Whether a container has processors that nobody else may use.
    pub fn has_own(&self, pod: &Pod, container: &Container) -> bool {
        let shares = || self.policy.as_ref().is_some_and(|policy| policy.of_container(pod, container) == 0);
        self.exclusive(pod.uid(), &container.name).is_some() && !(has_own_resources(pod) && shares())
    }

    /// Whether all processors of a pod's group are its containers' own: of a pod that has resources as a whole, those of
    /// each of them.
    pub fn bounds(&self, pod: &Pod) -> bool {
        let mut all = pod.init_containers().iter().chain(pod.containers());
        match has_own_resources(pod) {
            true => all.all(|container| self.has_own(pod, container)),
            false => self.concerns(pod),
        }
    }

    /// Whether the static policy is at work.
    pub fn is_static(&self) -> bool {
        self.policy.is_some()
    }

    /// Where a container could have its own.
    pub fn hints(&self, pod: &Pod, container: &Container) -> Hints {
        let policy = self.policy.as_ref();
        policy.map(|policy| policy.hints(&self.state.lock(), pod, container)).unwrap_or_default()
    }

    /// Where all containers of a pod could have theirs.
    pub fn pod_hints(&self, pod: &Pod) -> Hints {
        let policy = self.policy.as_ref();
        policy.map(|policy| policy.pod_hints(&self.state.lock(), pod)).unwrap_or_default()
    }

    /// Gives a container its own, if it is to have any and has none yet; whether it got some.
    ///
    /// # Errors
    /// [`CpuError`].
    pub fn allocate(
        &self,
        pod: &Pod,
        container: &Container,
        affinity: Option<Mask>,
    ) -> Result<bool, CpuError> {
        let Some(policy) = &self.policy else { return Ok(false) };
        let changed = policy.allocate(&mut self.state.lock(), pod, container, affinity)?;
        if changed {
            self.write()?;
        }
        Ok(changed)
    }

    /// Gives a pod that has resources as a whole its own, and its containers theirs of these; whether it got some.
    ///
    /// # Errors
    /// [`CpuError`].
    pub fn allocate_whole(&self, pod: &Pod, affinity: Option<Mask>) -> Result<bool, CpuError> {
        let Some(policy) = &self.policy else { return Ok(false) };
        let changed = policy.allocate_whole(&mut self.state.lock(), pod, affinity)?;
        if changed {
            self.write()?;
        }
        Ok(changed)
    }

    /// The boundaries within which processors are given, as metrics name them.
    pub fn boundaries(&self) -> Vec<&'static str> {
        self.policy.as_ref().map(Static::boundaries).unwrap_or_default()
    }

    /// How many thousandths of a processor all others share, and how many processors are given away on each NUMA node.
    pub fn used(&self) -> (u64, BTreeMap<i64, usize>) {
        let Some(policy) = &self.policy else { return (0, BTreeMap::new()) };
        let state = self.state.lock();
        let shared = u64::try_from(policy.available(&state).len()).unwrap_or(0) * 1000;
        (shared, policy.by_node(&state.exclusive()))
    }

    /// A pod is over; whether it had any.
    pub fn release(&self, uid: &str) -> bool {
        let had = self.state.lock().release(uid);
        if had {
            self.keep();
        }
        had
    }

    /// Takes back what pods have that are not there any more; whether there were any.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) -> bool {
        let gone: Vec<String> =
            self.state.lock().given.keys().filter(|uid| !is_known(uid)).cloned().collect();
        gone.iter().filter(|uid| self.release(uid)).count() > 0
    }

    fn keep(&self) {
        if let Err(error) = self.write() {
            tracing::error!(%error, "who has which cpus is not on disk");
        }
    }

    /// What a container has for itself, or with others of its pod; nothing if it shares with all.
    pub fn exclusive(&self, uid: &str, container: &str) -> Option<CpuSet> {
        self.state.lock().of(uid, container).cloned()
    }

    /// What a container may run on; `None` when nobody minds.
    pub fn allowed(&self, uid: &str, container: &str) -> Option<CpuSet> {
        self.policy.as_ref()?;
        let state = self.state.lock();
        Some(state.of(uid, container).unwrap_or(&state.shared).clone()).filter(|set| !set.is_empty())
    }

    /// What can be given to containers for themselves.
    pub fn allocatable(&self) -> CpuSet {
        self.policy.as_ref().map(Static::allocatable).unwrap_or_default()
    }
}
