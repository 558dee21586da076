//! Measures: what the node has left, and what its pods use.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cri::v1 as wire;
use k8s_openapi::api::core::v1::Pod;
use schema::quantity::Quantity;

use super::plan::{Observation, Observations};
use super::rank::{ContainerUse, PodUse};
use super::settings::Signal;
use crate::Shared;
use crate::pods::observed::{CONTAINER_NAME, POD_UID};
use crate::pods::spec::PodExt;
use crate::pods::{Handle, log_directory, requests};

/// Bytes and inodes of a tree; links are not followed, and files with several names count once for each.
pub fn tree(folder: &Path) -> (i64, i64) {
    let (mut bytes, mut inodes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // What goes while it is counted is not counted.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let Ok(metadata) = entry.metadata() else { continue };
            inodes += 1;
            bytes += i64::try_from(metadata.blocks()).unwrap_or(0) * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    (bytes, inodes)
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Looks at the node. What cannot be measured is left out and told.
pub async fn observe(shared: &Shared) -> Observations {
    let mut observations = Observations::new();
    let mut note = |signal: Signal, observed: io::Result<Observation>| match observed {
        Ok(observed) => drop(observations.insert(signal, observed)),
        Err(error) => tracing::debug!(signal = signal.name(), %error, "a signal is not measured"),
    };
    note(Signal::Memory, memory(shared));
    note(Signal::Pid, pids());
    let root = &shared.config.root_dir;
    note(Signal::NodeDisk, disk(root).map(|(bytes, _)| bytes));
    note(Signal::NodeInodes, disk(root).map(|(_, inodes)| inodes));
    match shared.runtime.image_filesystem().await {
        Ok(Some(mountpoint)) => {
            let path = Path::new(&mountpoint);
            note(Signal::ImageDisk, disk(path).map(|(bytes, _)| bytes));
            note(Signal::ImageInodes, disk(path).map(|(_, inodes)| inodes));
        }
        Ok(None) => {}
        Err(status) => tracing::debug!(%status, "the runtime does not tell of its images' disk"),
    }
    observations
}

fn memory(shared: &Shared) -> io::Result<Observation> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let of = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
        kib.and_then(|kib| kib.parse::<i64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other(key.to_owned()))
    };
    let (total, free) = (of("MemTotal")?, of("MemAvailable")?);
    let capacity = number(shared.machine.memory);
    if capacity >= total {
        return Ok(Observation { available: free, capacity });
    }
    // A node with a declared capacity has no more than that, however much the machine has.
    let group = format!("{}/kubepods", shared.config.cgroup_root.trim_end_matches('/'));
    let used = shared.cgroups.memory_usage(&group)?.unwrap_or(0);
    Ok(Observation { available: free.min(capacity - used), capacity })
}

fn pids() -> io::Result<Observation> {
    let most = fs::read_to_string("/proc/sys/kernel/pid_max")?;
    let capacity = most.trim().parse::<i64>().map_err(io::Error::other)?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let running = load.split_whitespace().nth(3).and_then(|word| word.split('/').nth(1));
    let running = running.and_then(|number| number.parse::<i64>().ok());
    let running = running.ok_or_else(|| io::Error::other("/proc/loadavg"))?;
    Ok(Observation { available: capacity - running, capacity })
}

fn disk(path: &Path) -> io::Result<(Observation, Observation)> {
    let disk = nix::sys::statvfs::statvfs(path)?;
    let size = disk.fragment_size();
    let bytes = Observation {
        available: number(disk.blocks_available() * size),
        capacity: number(disk.blocks() * size),
    };
    let inodes = Observation { available: number(disk.files_available()), capacity: number(disk.files()) };
    Ok((bytes, inodes))
}

fn requested(of: &k8s_openapi::api::core::v1::Container, name: &str) -> Option<Quantity> {
    of.resources.as_ref()?.requests.as_ref()?.get(name)?.0.parse().ok()
}

fn value(of: Option<&wire::UInt64Value>) -> Option<i64> {
    of.map(|value| number(value.value))
}

/// What a pod uses; its disk only if that is asked for, since that is much work.
pub fn pod(shared: &Shared, handle: &Handle, stats: &[wire::ContainerStats], with_disk: bool) -> PodUse {
    let pod = handle.pod();
    let label = |stats: &wire::ContainerStats, key: &str| {
        stats
            .attributes
            .as_ref()
            .and_then(|attributes| attributes.labels.get(key))
            .cloned()
            .unwrap_or_default()
    };
    let own: HashMap<String, &wire::ContainerStats> = stats
        .iter()
        .filter(|stats| label(stats, POD_UID) == handle.uid)
        .map(|stats| (label(stats, CONTAINER_NAME), stats))
        .collect();
    let logs = log_directory(shared, &pod);
    let containers = pod.containers().iter().chain(pod.init_containers()).map(|container| {
        let stats = own.get(&container.name);
        let layer = stats.and_then(|stats| stats.writable_layer.as_ref());
        let logs = if with_disk { tree(&logs.join(&container.name)).0 } else { 0 };
        ContainerUse {
            name: container.name.clone(),
            memory: stats.and_then(|stats| value(stats.memory.as_ref()?.working_set_bytes.as_ref())),
            memory_request: requested(container, "memory"),
            disk: value(layer.and_then(|layer| layer.used_bytes.as_ref())).map(|layer| layer + logs),
            disk_request: requested(container, "ephemeral-storage"),
        }
    });
    let containers: Vec<ContainerUse> = containers.collect();
    let known = !own.is_empty();
    let sum =
        |of: fn(&ContainerUse) -> Option<i64>| known.then(|| containers.iter().filter_map(of).sum::<i64>());
    let volumes = if with_disk { empty_dirs(shared, &pod) } else { (0, 0) };
    let requests = requests(&pod);
    let ask = |name: &str| {
        let text = requests.get(name).map(|text| text.0.as_str());
        text.and_then(|text| text.parse::<Quantity>().ok()).map_or(0, |quantity| quantity.value())
    };
    let pids = shared.cgroups.pids(&crate::pods::cgroup(shared, &pod));
    PodUse {
        uid: handle.uid.clone(),
        priority: pod.spec().and_then(|spec| spec.priority).unwrap_or(0),
        critical: is_critical(handle, &pod),
        memory: sum(|container| container.memory),
        memory_request: ask("memory"),
        disk: sum(|container| container.disk).map(|bytes| bytes + volumes.0),
        disk_request: ask("ephemeral-storage"),
        inodes: known.then_some(volumes.1),
        pids,
        containers,
    }
}

/// Bytes and inodes of a pod's emptyDirs that are on the disk.
fn empty_dirs(shared: &Shared, pod: &Pod) -> (i64, i64) {
    let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let on_disk = volumes.iter().filter(|volume| {
        volume.empty_dir.as_ref().is_some_and(|empty| empty.medium.as_deref().unwrap_or_default().is_empty())
    });
    let folders = on_disk.filter_map(|volume| shared.volumes.empty_dir(pod, &volume.name));
    folders.map(|folder| tree(&folder)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Whether a pod is never given up: static, mirrored, or critical for the system.
pub fn is_critical(handle: &Handle, pod: &Pod) -> bool {
    handle.is_static || pod.is_critical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_measured_without_following_links() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        fs::write(dir.path().join("d/f"), vec![1; 100_000]).unwrap();
        std::os::unix::fs::symlink("/usr", dir.path().join("link")).unwrap();
        let (bytes, inodes) = tree(dir.path());
        assert_eq!(inodes, 3);
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
    }

    #[test]
    fn the_kernel_tells_of_processes_and_disks() {
        let pids = pids().unwrap();
        assert!(0 < pids.available && pids.available < pids.capacity, "{pids:?}");
        let (bytes, _) = disk(Path::new("/")).unwrap();
        assert!(0 < bytes.capacity, "{bytes:?}");
    }
}
