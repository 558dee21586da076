//! Who has which processors, and the file that says so (`cpu_manager_state`), in upstream's second format; in its third
//! one where pods can have some as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CpuSet;
use crate::checkpoint::{self, CheckpointError, Summed, map};

/// The file's name.
pub const NAME: &str = "cpu_manager_state";

/// Who has which processors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// Those that everybody else shares.
    pub shared: CpuSet,
    /// By pod's uid and container.
    pub given: BTreeMap<String, BTreeMap<String, CpuSet>>,
    /// What pods have as a whole, by uid: their containers' are of these.
    pub pods: BTreeMap<String, CpuSet>,
}

impl State {
    /// What a container has for itself.
    pub fn of(&self, uid: &str, container: &str) -> Option<&CpuSet> {
        self.given.get(uid)?.get(container)
    }

    /// What any container has for itself.
    pub fn exclusive(&self) -> CpuSet {
        let sets = self.given.values().flat_map(BTreeMap::values).chain(self.pods.values());
        sets.fold(CpuSet::default(), |all, set| all.or(set))
    }

    /// A pod is over: whether it had any.
    pub fn release(&mut self, uid: &str) -> bool {
        let (of_containers, whole) = (self.given.remove(uid), self.pods.remove(uid));
        let had = of_containers.is_some() || whole.is_some();
        let sets = of_containers.into_iter().flat_map(BTreeMap::into_values).chain(whole);
        self.shared = sets.fold(self.shared.clone(), |shared, set| shared.or(&set));
        had
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    policy_name: String,
    // Go does not mind how letters are written: files of old have another one here.
    #[serde(alias = "defaultCPUSet")]
    default_cpu_set: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pod_entries: BTreeMap<String, Whole>,
    checksum: u64,
    /// Whether it is of the third format; nothing but its sum says so.
    #[serde(skip)]
    has_pods: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Whole {
    cpu_set: String,
}

impl Summed for File {
    fn sum(&mut self) -> &mut u64 {
        &mut self.checksum
    }

    fn dumped(&self) -> String {
        let entries = map(self.entries.iter().map(|(uid, sets)| (uid, map(sets))));
        let pods = map(self.pod_entries.iter().map(|(uid, whole)| (uid, whole.dumped())));
        let pods = match self.has_pods {
            true => format!(" PodEntries:(state.PodCPUAssignments){pods}"),
            false => String::new(),
        };
        format!(
            "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} Entries:(map[string]map[string]string){entries}{pods} Checksum:(checksum.Checksum)0}}",
            self.policy_name, self.default_cpu_set
        )
    }

    fn other_format(&mut self) -> bool {
        self.has_pods = !self.has_pods;
        self.has_pods || self.pod_entries.is_empty()
    }
}

impl Whole {
    fn dumped(&self) -> String {
        let set: CpuSet = self.cpu_set.parse().unwrap_or_default();
        let members = map(set.iter().map(|cpu| (cpu, "{}")));
        format!("{{CPUSet:(cpuset.CPUSet){{elems:(map[int]struct {{}}){members}}}}}")
    }
}

/// Why the file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("configured policy {wanted:?} differs from state checkpoint policy {found:?}")]
    Policy { wanted: String, found: String },
    #[error(transparent)]
    Set(#[from] super::set::NoCpuSet),
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
    let mut state = State { shared: file.default_cpu_set.parse()?, ..State::default() };
    for (uid, sets) in file.entries {
        for (container, set) in sets {
            state.given.entry(uid.clone()).or_default().insert(container, set.parse()?);
        }
    }
    for (uid, whole) in file.pod_entries {
        state.pods.insert(uid, whole.cpu_set.parse()?);
    }
    Ok(Some(state))
}

/// Writes the file, in the third format if pods can have some as a whole (`by_pod`), or still have.
///
/// # Errors
/// [`CheckpointError`].
pub fn write(path: &Path, policy: &str, by_pod: bool, state: &State) -> Result<(), CheckpointError> {
    let whole = |set: &CpuSet| Whole { cpu_set: set.to_string() };
    let text = |sets: &BTreeMap<String, CpuSet>| {
        sets.iter().map(|(container, set)| (container.clone(), set.to_string())).collect()
    };
    let file = File {
        policy_name: policy.to_owned(),
        default_cpu_set: state.shared.to_string(),
        entries: state.given.iter().map(|(uid, sets)| (uid.clone(), text(sets))).collect(),
        pod_entries: state.pods.iter().map(|(uid, set)| (uid.clone(), whole(set))).collect(),
        checksum: 0,
        has_pods: by_pod || !state.pods.is_empty(),
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
        assert_eq!(read(&path, "none").unwrap(), None);
        // From upstream's own tests, sum included.
        let text = r#"{"policyName":"none","defaultCPUSet":"1-3","entries":{"pod":{"container1":"4-6","container2":"1-3"}},"checksum":3610638499}"#;
        std::fs::write(&path, text).unwrap();
        let mut state = read(&path, "none").unwrap().unwrap();
        assert_eq!(state.of("pod", "container1").unwrap().to_string(), "4-6");
        assert!(matches!(read(&path, "static"), Err(StateError::Policy { .. })));
        write(&path, "none", false, &state).unwrap();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, text.replace("defaultCPUSet", "defaultCpuSet"));
        std::fs::write(&path, written.replace("4-6", "4-7")).unwrap();
        assert!(matches!(read(&path, "none"), Err(StateError::Checkpoint(CheckpointError::Corrupt { .. }))));
        assert!(state.release("pod") && !state.release("pod"));
        assert_eq!(state.shared.to_string(), "1-6");
        write(&path, "none", false, &State { shared: "4-6".parse().unwrap(), ..State::default() }).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with(r#""checksum":354655845}"#));
    }

    #[test]
    fn what_pods_have_as_a_whole_is_written_as_upstream_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        // From upstream's own tests, sum included.
        let text = r#"{"policyName":"none","defaultCpuSet":"1-3","entries":{"pod":{"container1":"4-6","container2":"1-3"}},"podEntries":{"pod":{"cpuSet":"4-6"}},"checksum":2649431787}"#;
        std::fs::write(&path, text).unwrap();
        let mut state = read(&path, "none").unwrap().unwrap();
        assert_eq!(state.pods["pod"].to_string(), "4-6");
        for by_pod in [true, false] {
            write(&path, "none", by_pod, &state).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{by_pod}");
        }
        std::fs::write(&path, text.replace(r#""cpuSet":"4-6""#, r#""cpuSet":"4-7""#)).unwrap();
        assert!(matches!(read(&path, "none"), Err(StateError::Checkpoint(CheckpointError::Corrupt { .. }))));
        assert!(state.release("pod") && state.pods.is_empty());
        for by_pod in [true, false] {
            write(&path, "none", by_pod, &state).unwrap();
            assert_eq!(read(&path, "none").unwrap().as_ref(), Some(&state), "{by_pod}");
        }
    }
}
