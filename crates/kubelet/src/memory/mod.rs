//! Memory that containers have for themselves, by NUMA node (`pkg/kubelet/cm/memorymanager`): containers of guaranteed
//! pods get theirs of as few nodes as can be.
//!
//! `reserve` says what is not given (pure), `plan` who gets what (pure), `whole` does for pods that have resources as a
//! whole (pure), `state` is kept on disk.

mod plan;
mod reserve;
mod state;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use kinds::gates::Gate;
use parking_lot::Mutex;

use crate::checkpoint::CheckpointError;
use crate::configuration::Fields;
use crate::topology::{Hint, Hints, Machine, Mask};
pub use plan::MemoryError;
use plan::concerns;
pub use state::Block;
use state::{NodeState, State, StateError};

/// The memory of a node.
pub struct Memory {
    path: PathBuf,
    is_static: bool,
    state: Mutex<State>,
}

/// Why the node cannot give memory as it is told to.
#[derive(Debug, thiserror::Error)]
pub enum MemorySetupError {
    /// Settings that cannot be.
    #[error("{0}")]
    Settings(String),
    /// The file is of no use.
    #[error("could not restore state from checkpoint: {source}, please drain this node and delete the memory manager checkpoint file {:?} before restarting Kubelet", path.display().to_string())]
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
        why: &'static str,
    },
    /// It cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl Memory {
    /// As it was given out before; `reserved` is what is kept of the whole node, in bytes by kind.
    ///
    /// # Errors
    /// [`MemorySetupError`].
    pub fn load(
        root: &Path,
        fields: &Fields,
        machine: &Machine,
        reserved: &BTreeMap<String, i64>,
    ) -> Result<Self, MemorySetupError> {
        let path = root.join(state::NAME);
        let is_static = match fields.memory_manager_policy.as_str() {
            "None" => false,
            "Static" => true,
            other => return Err(MemorySetupError::Settings(format!("unknown policy: {other:?}"))),
        };
        let read = state::read(&path, &fields.memory_manager_policy);
        let known = read.map_err(|source| MemorySetupError::State { path: path.clone(), source })?;
        let mut state = known.unwrap_or_default();
        state.by_pod = fields.gates.has(Gate::PodLevelResourceManagers);
        if is_static {
            let empty = reserve::nodes(fields, machine, reserved).map_err(MemorySetupError::Settings)?;
            state =
                begin(state, empty).map_err(|why| MemorySetupError::Invalid { path: path.clone(), why })?;
        }
        let memory = Self { path, is_static, state: Mutex::new(state) };
        memory.write()?;
        Ok(memory)
    }

    fn write(&self) -> Result<(), CheckpointError> {
        let name = if self.is_static { "Static" } else { "None" };
        state::write(&self.path, name, &self.state.lock())
    }

    /// Whether the static policy is at work.
    pub fn is_static(&self) -> bool {
        self.is_static
    }

    /// Whether a pod's containers are to have any for themselves.
    pub fn concerns(&self, pod: &Pod) -> bool {
        self.is_static && concerns(pod, self.state.lock().by_pod)
    }

    /// Where a container could have its own.
    pub fn hints(&self, pod: &Pod, container: &Container) -> Hints {
        if self.is_static { self.state.lock().hints(pod, container) } else { Hints::new() }
    }

    /// Where all containers of a pod could have theirs.
    pub fn pod_hints(&self, pod: &Pod) -> Hints {
        if self.is_static { self.state.lock().pod_hints(pod) } else { Hints::new() }
    }

    /// Gives a container its own, if it is to have any and has none yet; whether it got some.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn allocate(&self, pod: &Pod, container: &Container, place: Hint) -> Result<bool, MemoryError> {
        if !self.is_static {
            return Ok(false);
        }
        let changed = self.state.lock().allocate(pod, container, place)?;
        if changed {
            self.write()?;
        }
        Ok(changed)
    }

    /// Gives a pod that has resources as a whole its own, and its containers theirs of it; whether it got some.
    ///
    /// # Errors
    /// [`MemoryError`].
    pub fn allocate_whole(&self, pod: &Pod, place: Hint) -> Result<bool, MemoryError> {
        if !self.is_static {
            return Ok(false);
        }
        let changed = self.state.lock().allocate_whole(pod, place)?;
        if changed {
            self.write()?;
        }
        Ok(changed)
    }

    /// A pod is over.
    pub fn release(&self, uid: &str) {
        let had = self.state.lock().release(uid);
        if had && let Err(error) = self.write() {
            tracing::error!(%error, "who has which memory is not on disk");
        }
    }

    /// Takes back what pods have that are not there any more.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        let gone: Vec<String> =
            self.state.lock().given.keys().filter(|uid| !is_known(uid)).cloned().collect();
        gone.iter().for_each(|uid| self.release(uid));
    }

    /// What a container has for itself.
    pub fn given(&self, uid: &str, container: &str) -> Vec<Block> {
        self.state.lock().of(uid, container).cloned().unwrap_or_default()
    }

    /// The NUMA nodes whose memory a container may use, as the kernel writes them; nothing when nobody minds.
    pub fn allowed(&self, uid: &str, container: &str) -> Option<String> {
        let blocks = self.given(uid, container);
        let nodes: BTreeSet<i64> = blocks.into_iter().flat_map(|block| block.numa_affinity).collect();
        let nodes: Vec<String> = nodes.into_iter().map(|node| node.to_string()).collect();
        Some(nodes.join(",")).filter(|text| !text.is_empty())
    }

    /// What can be given to containers.
    pub fn allocatable(&self) -> Vec<Block> {
        let state = self.state.lock();
        let tables = state.nodes.iter().flat_map(|(id, node)| {
            node.memory_map.iter().map(move |(kind, table)| Block {
                numa_affinity: vec![*id],
                kind: kind.clone(),
                size: table.allocatable,
            })
        });
        tables.filter(|block| block.size > 0).collect()
    }
}

/// What a state that was kept comes to on this machine; an empty one begins.
fn begin(state: State, empty: BTreeMap<i64, NodeState>) -> Result<State, &'static str> {
    if state.nodes.is_empty() {
        return match state.given.is_empty() {
            true => Ok(State { nodes: empty, ..state }),
            false => Err("[memorymanager] machine state can not be empty when it has memory assignments"),
        };
    }
    let mut expected = State { nodes: empty, ..state.clone() };
    let of_containers = state.given.iter().filter(|(uid, _)| !state.pods.contains_key(*uid));
    let of_containers = of_containers.flat_map(|(_, shares)| shares.values());
    for block in of_containers.chain(state.pods.values()).flatten() {
        let known = |id: &i64| expected.nodes.get(id).is_some_and(|n| n.memory_map.contains_key(&block.kind));
        if !block.numa_affinity.iter().all(known) {
            return Err("[memorymanager] the memory assignment uses the NUMA that does not exist");
        }
        expected.reserve(Mask::of(block.numa_affinity.iter().copied()), &block.kind, block.size);
    }
    match is_same(&expected, &state) {
        true => Ok(state),
        false => Err("[memorymanager] the expected machine state is different from the real one"),
    }
}

/// Whether two machines have the same memory, and as much of it is given in each company of nodes.
fn is_same(expected: &State, state: &State) -> bool {
    let sums = |state: &State, node: &NodeState, kind: &str| {
        let tables = node.cells.iter().filter_map(|id| state.nodes.get(id)?.memory_map.get(kind));
        tables.fold((0, 0), |(free, reserved), table| (free + table.free, reserved + table.reserved))
    };
    expected.nodes.len() == state.nodes.len()
        && expected.nodes.iter().all(|(id, node)| {
            let Some(other) = state.nodes.get(id) else { return false };
            let cells = |node: &NodeState| Mask::of(node.cells.iter().copied());
            node.number_of_assignments == other.number_of_assignments
                && cells(node) == cells(other)
                && node.memory_map.len() == other.memory_map.len()
                && node.memory_map.iter().all(|(kind, table)| {
                    other.memory_map.get(kind).is_some_and(|known| {
                        (known.total, known.system_reserved, known.allocatable)
                            == (table.total, table.system_reserved, table.allocatable)
                    }) && sums(expected, node, kind) == sums(state, other, kind)
                })
        })
}
