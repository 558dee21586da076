//! Which memory is given to whom, and the file that says so (`memory_manager_state`), in upstream's first format; in its
//! second one where pods can have some as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, CheckpointError, Summed, list, map};

/// The file's name.
pub const NAME: &str = "memory_manager_state";

/// One kind of memory of a NUMA node, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    pub total: u64,
    pub system_reserved: u64,
    pub allocatable: u64,
    /// Given to containers.
    pub reserved: u64,
    pub free: u64,
}

/// A NUMA node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// How many containers have memory of it, each kind counted.
    pub number_of_assignments: i64,
    /// By resource: `memory`, `hugepages-2Mi`.
    pub memory_map: BTreeMap<String, Table>,
    /// The nodes that memory is given of together with this one's.
    pub cells: Vec<i64>,
}

/// What a container has of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    pub numa_affinity: Vec<i64>,
    #[serde(rename = "type")]
    pub kind: String,
    pub size: u64,
}

/// By pod's uid and container.
pub type Given = BTreeMap<String, BTreeMap<String, Vec<Block>>>;

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub nodes: BTreeMap<i64, NodeState>,
    pub given: Given,
    /// What pods have as a whole, by uid: their containers' is of it.
    pub pods: BTreeMap<String, Vec<Block>>,
    /// Whether pods that have resources as a whole take part (`PodLevelResourceManagers`); of no file.
    pub by_pod: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    policy_name: String,
    machine_state: BTreeMap<i64, NodeState>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: Given,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pod_entries: BTreeMap<String, Whole>,
    checksum: u64,
    /// Whether it is of the second format; nothing but its sum says so.
    #[serde(skip)]
    has_pods: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Whole {
    memory_blocks: Vec<Block>,
}

impl Table {
    fn dumped(&self) -> String {
        format!(
            "<*>{{TotalMemSize:(uint64){} SystemReserved:(uint64){} Allocatable:(uint64){} Reserved:(uint64){} Free:(uint64){}}}",
            self.total, self.system_reserved, self.allocatable, self.reserved, self.free
        )
    }
}

impl NodeState {
    fn dumped(&self) -> String {
        let tables = map(self.memory_map.iter().map(|(kind, table)| (kind, table.dumped())));
        format!(
            "<*>{{NumberOfAssignments:(int){} MemoryMap:(map[v1.ResourceName]*state.MemoryTable){tables} Cells:([]int){}}}",
            self.number_of_assignments,
            list(&self.cells)
        )
    }
}

impl Block {
    fn dumped(&self) -> String {
        format!(
            "{{NUMAAffinity:([]int){} Type:(v1.ResourceName){} Size:(uint64){}}}",
            list(&self.numa_affinity),
            self.kind,
            self.size
        )
    }
}

impl Summed for File {
    fn sum(&mut self) -> &mut u64 {
        &mut self.checksum
    }

    fn dumped(&self) -> String {
        let nodes = map(self.machine_state.iter().map(|(id, node)| (id, node.dumped())));
        let blocks = |blocks: &Vec<Block>| list(blocks.iter().map(Block::dumped));
        let containers = |containers: &BTreeMap<String, Vec<Block>>| {
            map(containers.iter().map(|(name, list)| (name, blocks(list))))
        };
        let entries = map(self.entries.iter().map(|(uid, list)| (uid, containers(list))));
        let whole =
            |whole: &Whole| format!("{{MemoryBlocks:([]state.Block){}}}", blocks(&whole.memory_blocks));
        let pods = map(self.pod_entries.iter().map(|(uid, given)| (uid, whole(given))));
        let pods = match self.has_pods {
            true => format!(" PodEntries:(state.PodMemoryAssignments){pods}"),
            false => String::new(),
        };
        format!(
            "(*state.MemoryManagerCheckpoint){{PolicyName:(string){} MachineState:(state.NUMANodeMap){nodes} Entries:(state.ContainerMemoryAssignments){entries}{pods} Checksum:(checksum.Checksum)0}}",
            self.policy_name
        )
    }

    fn other_format(&mut self) -> bool {
        self.has_pods = !self.has_pods;
        self.has_pods || self.pod_entries.is_empty()
    }
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("[memorymanager] configured policy {wanted:?} differs from state checkpoint policy {found:?}")]
    Policy { wanted: String, found: String },
}

/// Reads the file that this policy wrote; `None` when there is none.
///
/// # Errors
/// [`StateError`].
pub fn read(path: &Path, policy: &str) -> Result<Option<State>, StateError> {
    let Some(file) = checkpoint::read_summed::<File>(path)? else { return Ok(None) };
    if file.policy_name != policy {
        return Err(StateError::Policy { wanted: policy.to_owned(), found: file.policy_name });
    }
    let pods = file.pod_entries.into_iter().map(|(uid, whole)| (uid, whole.memory_blocks)).collect();
    Ok(Some(State { nodes: file.machine_state, given: file.entries, pods, by_pod: false }))
}

/// Writes the file, in the second format if pods can have some as a whole, or still have.
///
/// # Errors
/// [`CheckpointError`].
pub fn write(path: &Path, policy: &str, state: &State) -> Result<(), CheckpointError> {
    let whole = |blocks: &Vec<Block>| Whole { memory_blocks: blocks.clone() };
    let file = File {
        policy_name: policy.to_owned(),
        machine_state: state.nodes.clone(),
        entries: state.given.clone(),
        pod_entries: state.pods.iter().map(|(uid, blocks)| (uid.clone(), whole(blocks))).collect(),
        checksum: 0,
        has_pods: state.by_pod || !state.pods.is_empty(),
    };
    checkpoint::write_summed(path, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_files_are_read_and_ours_are_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        assert_eq!(read(&path, "Static").unwrap(), None);
        // From upstream's own tests, sum included.
        let text = r#"{"policyName":"static","machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":{"total":2048,"systemReserved":512,"allocatable":1536,"reserved":512,"free":1024}},"cells":[]}},"entries":{"pod":{"container1":[{"numaAffinity":[0],"type":"memory","size":512}]}},"checksum":4215593881}"#;
        std::fs::write(&path, text).unwrap();
        let state = read(&path, "static").unwrap().unwrap();
        assert_eq!(state.nodes[&0].memory_map["memory"].free, 1024);
        write(&path, "static", &state).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert!(matches!(read(&path, "Static"), Err(StateError::Policy { .. })));
        std::fs::write(&path, text.replace("1536", "1537")).unwrap();
        assert!(matches!(read(&path, "static"), Err(StateError::Checkpoint(_))));
        // Where pods have some as a whole, likewise.
        let text = r#"{"policyName":"static","machineState":{"0":{"numberOfAssignments":0,"memoryMap":{"memory":{"total":2048,"systemReserved":512,"allocatable":1536,"reserved":512,"free":1024}},"cells":[]}},"entries":{"pod":{"container1":[{"numaAffinity":[0],"type":"memory","size":512}]}},"podEntries":{"pod":{"memoryBlocks":[{"numaAffinity":[0],"type":"memory","size":512}]}},"checksum":1278640530}"#;
        std::fs::write(&path, text).unwrap();
        let mut state = read(&path, "static").unwrap().unwrap();
        assert_eq!(state.pods["pod"][0].size, 512);
        write(&path, "static", &state).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        state.pods.clear();
        for by_pod in [true, false] {
            state.by_pod = by_pod;
            write(&path, "static", &state).unwrap();
            let known = read(&path, "static").unwrap().unwrap();
            assert_eq!((&known.given, &known.pods), (&state.given, &state.pods), "{by_pod}");
        }
    }
}
