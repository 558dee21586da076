//! What the node, its pods and their containers use: looked at once for a request, and told in several forms.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use cri::v1 as wire;
use k8s_openapi::api::core::v1::Pod;

use super::{Refusal, Server};
use crate::Shared;
use crate::eviction::tree;
use crate::machine::Meminfo;
use crate::pods::Handle;
use crate::pods::observed::{CONTAINER_NAME, Instance, Observed, POD_UID};
use crate::pods::spec::PodExt;

/// One pod and what the runtime measured of it.
pub struct PodMeasure {
    pub pod: Arc<Pod>,
    pub observed: Arc<Observed>,
    pub sandbox: Option<wire::LinuxPodSandboxStats>,
    pub containers: Vec<ContainerMeasure>,
}

/// One container.
pub struct ContainerMeasure {
    pub name: String,
    pub instance: Option<Instance>,
    pub stats: wire::ContainerStats,
}

/// A CRI number.
pub fn number(value: Option<&wire::UInt64Value>) -> Option<u64> {
    value.map(|value| value.value)
}

impl ContainerMeasure {
    /// Nanoseconds of processor time.
    pub fn cpu(&self) -> Option<u64> {
        number(self.stats.cpu.as_ref()?.usage_core_nano_seconds.as_ref())
    }

    /// Bytes.
    pub fn working_set(&self) -> Option<u64> {
        number(self.stats.memory.as_ref()?.working_set_bytes.as_ref())
    }

    /// When its processor time was measured, in nanoseconds since 1970.
    pub fn at(&self) -> i64 {
        self.stats.cpu.as_ref().map_or(0, |cpu| cpu.timestamp)
    }
}

/// Asks the runtime. Only pods of which it knows something are there.
pub async fn measure(server: &Server) -> Result<Vec<PodMeasure>, Refusal> {
    let runtime = &server.shared.runtime;
    let asked = tokio::try_join!(runtime.stats(), runtime.sandbox_stats());
    let (stats, sandboxes) = asked.map_err(|status| Refusal::internal(status.message()))?;
    let mut sandboxes: HashMap<String, wire::LinuxPodSandboxStats> = sandboxes
        .into_iter()
        .filter_map(|stats| Some((stats.attributes?.metadata?.uid, stats.linux?)))
        .collect();
    let mut containers: HashMap<String, Vec<wire::ContainerStats>> = HashMap::new();
    for stats in stats {
        let labels = stats.attributes.as_ref().map(|attributes| &attributes.labels);
        // What carries no pod's label was not made by a kubelet.
        if let Some(uid) = labels.and_then(|labels| labels.get(POD_UID)).cloned() {
            containers.entry(uid).or_default().push(stats);
        }
    }
    let mut pods: Vec<PodMeasure> = server
        .pods
        .list()
        .iter()
        .map(|handle| {
            let containers = containers.remove(&handle.uid).unwrap_or_default();
            pod(handle, sandboxes.remove(&handle.uid), containers)
        })
        .filter(|pod| pod.sandbox.is_some() || !pod.containers.is_empty())
        .collect();
    pods.sort_by(|a, b| a.key().cmp(&b.key()));
    Ok(pods)
}

fn pod(
    handle: &Handle,
    sandbox: Option<wire::LinuxPodSandboxStats>,
    stats: Vec<wire::ContainerStats>,
) -> PodMeasure {
    let observed = handle.observed.lock().clone();
    let measures = stats.into_iter().filter_map(|stats| {
        let attributes = stats.attributes.as_ref()?;
        let name = attributes.labels.get(CONTAINER_NAME)?.clone();
        let instance = observed.containers.iter().find(|container| container.id == attributes.id).cloned();
        Some(ContainerMeasure { name, instance, stats })
    });
    let mut containers: Vec<ContainerMeasure> = measures.collect();
    // Of a container that was restarted the newest instance counts.
    let started = |measure: &ContainerMeasure| measure.instance.as_ref().map_or(0, |i| i.started_at);
    containers.sort_by(|a, b| (&a.name, started(b)).cmp(&(&b.name, started(a))));
    containers.dedup_by(|later, first| later.name == first.name);
    PodMeasure { pod: handle.pod(), observed, sandbox, containers }
}

impl PodMeasure {
    /// Namespace and name.
    pub fn key(&self) -> (&str, &str) {
        let metadata = &self.pod.metadata;
        (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    /// The image that the pod names for a container.
    pub fn image(&self, container: &str) -> Option<String> {
        self.pod.container(container)?.image.clone()
    }

    /// Nanoseconds of processor time, of the whole pod if the runtime tells that.
    pub fn cpu(&self) -> Option<u64> {
        let whole = self.sandbox.as_ref().and_then(|sandbox| sandbox.cpu.as_ref());
        number(whole.and_then(|cpu| cpu.usage_core_nano_seconds.as_ref()))
            .or_else(|| self.sum(ContainerMeasure::cpu))
    }

    /// Bytes, likewise.
    pub fn working_set(&self) -> Option<u64> {
        let whole = self.sandbox.as_ref().and_then(|sandbox| sandbox.memory.as_ref());
        number(whole.and_then(|memory| memory.working_set_bytes.as_ref()))
            .or_else(|| self.sum(ContainerMeasure::working_set))
    }

    /// The sum over all containers, if any tells.
    pub fn sum(&self, of: impl Fn(&ContainerMeasure) -> Option<u64>) -> Option<u64> {
        let mut known = self.containers.iter().filter_map(of).peekable();
        known.peek()?;
        Some(known.sum())
    }

    /// When it was measured, in nanoseconds since 1970.
    pub fn at(&self) -> i64 {
        let whole = self.sandbox.as_ref().and_then(|sandbox| sandbox.cpu.as_ref()).map(|cpu| cpu.timestamp);
        whole.or_else(|| self.containers.iter().map(ContainerMeasure::at).max()).unwrap_or(0)
    }
}

/// What the node uses: nanoseconds of processor time and bytes of memory.
pub struct NodeMeasure {
    pub cpu: Option<u64>,
    pub working_set: Option<u64>,
    pub rss: Option<u64>,
    /// Whether the node is the whole machine.
    pub is_machine: bool,
}

/// Whether the node is the whole machine.
pub fn is_machine(shared: &Shared) -> bool {
    shared.config.capacity.is_none() && matches!(shared.config.cgroup_root.as_str(), "/" | "")
}

/// Of the whole machine, or, for a node that is only a part of it, of its pods.
pub fn node(shared: &Shared, pods: &[PodMeasure]) -> std::io::Result<NodeMeasure> {
    if !is_machine(shared) {
        let sum = |of: fn(&PodMeasure) -> Option<u64>| Some(pods.iter().filter_map(of).sum());
        return Ok(NodeMeasure {
            cpu: sum(PodMeasure::cpu),
            working_set: sum(PodMeasure::working_set),
            rss: None,
            is_machine: false,
        });
    }
    let (stat, meminfo) = (std::fs::read_to_string("/proc/stat")?, Meminfo::read()?);
    Ok(NodeMeasure {
        cpu: processor(&stat),
        working_set: meminfo
            .bytes("MemTotal")
            .zip(meminfo.bytes("MemAvailable"))
            .map(|(all, free)| all.saturating_sub(free)),
        rss: meminfo.bytes("AnonPages"),
        is_machine: true,
    })
}

/// Nanoseconds that processors worked: neither idle nor waiting; guests are part of user time.
fn processor(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, _, _, irq, softirq, steal, ..] = ticks.as_slice() else { return None };
    // The kernel's tick is a hundredth of a second for every program.
    Some((user + nice + system + irq + softirq + steal) * 10_000_000)
}

/// A file system, and how much of it something uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Disk {
    pub available: u64,
    pub capacity: u64,
    pub used: u64,
    pub inodes_free: u64,
    pub inodes: u64,
    pub inodes_used: u64,
}

/// The file system of a path, as a whole.
pub fn disk(path: &Path) -> Option<Disk> {
    let disk = nix::sys::statvfs::statvfs(path).ok()?;
    let size = disk.fragment_size();
    Some(Disk {
        available: disk.blocks_available() * size,
        capacity: disk.blocks() * size,
        used: disk.blocks().saturating_sub(disk.blocks_free()) * size,
        inodes_free: disk.files_free(),
        inodes: disk.files(),
        inodes_used: disk.files().saturating_sub(disk.files_free()),
    })
}

/// The same with what a folder uses of it; a folder that is a file system of its own uses all that is used.
pub fn disk_of(folder: &Path) -> Option<Disk> {
    use std::os::unix::fs::MetadataExt;
    let whole = disk(folder)?;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    if device(folder) != folder.parent().and_then(device) {
        return Some(whole);
    }
    let (bytes, inodes) = tree(folder);
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    Some(Disk { used: unsigned(bytes), inodes_used: unsigned(inodes), ..whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_read() {
        assert_eq!(processor("cpu  1 2 3 100 200 4 5 6 7 8\ncpu0 1\n"), Some(21 * 10_000_000));
        assert_eq!(processor("cpu0 1\n"), None);
    }

    #[test]
    fn a_folder_uses_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![1; 100_000]).unwrap();
        let disk = disk_of(&dir.path().join("a")).unwrap();
        assert!((100_000..200_000).contains(&disk.used) && disk.inodes_used == 1, "{disk:?}");
        assert_eq!(super::disk_of(&dir.path().join("none")), None);
    }
}
