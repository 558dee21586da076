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
use super::rank::{ContainerUse, PodUse, Space};
use super::signal::Signal;
use crate::Shared;
use crate::machine::{Meminfo, Tasks};
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
    match pods_memory(shared) {
        Ok(Some(observed)) => note(Signal::PodsMemory, Ok(observed)),
        Ok(None) => {}
        Err(error) => note(Signal::PodsMemory, Err(error)),
    }
    note(Signal::Pid, pids());
    let root = &shared.config.root_dir;
    note(Signal::NodeDisk, disk(root).map(|(bytes, _)| bytes));
    note(Signal::NodeInodes, disk(root).map(|(_, inodes)| inodes));
    match shared.runtime.filesystems().await {
        Ok((images, containers)) => {
            let mut both = |mountpoint: Option<&String>, bytes: Signal, inodes: Signal| {
                let Some(path) = mountpoint.map(Path::new) else { return };
                note(bytes, disk(path).map(|(bytes, _)| bytes));
                note(inodes, disk(path).map(|(_, inodes)| inodes));
            };
            both(images.as_ref(), Signal::ImageDisk, Signal::ImageInodes);
            both(containers.as_ref().or(images.as_ref()), Signal::ContainerDisk, Signal::ContainerInodes);
        }
        Err(status) => tracing::debug!(%status, "the runtime does not tell of its images' disk"),
    }
    observations
}

fn memory(shared: &Shared) -> io::Result<Observation> {
    let meminfo = Meminfo::read()?;
    let of = |key: &str| meminfo.bytes(key).map(number).ok_or_else(|| io::Error::other(key.to_owned()));
    let (total, free) = (of("MemTotal")?, of("MemAvailable")?);
    let capacity = number(shared.machine.memory);
    if capacity >= total {
        return Ok(Observation { available: free, capacity });
    }
    // A node with a declared capacity has no more than that, however much the machine has.
    let used = shared.cgroups.working_set(&pods_group(shared))?.unwrap_or(0);
    Ok(Observation { available: free.min(capacity - used), capacity })
}

/// Of all pods together, if they are limited together.
fn pods_memory(shared: &Shared) -> io::Result<Option<Observation>> {
    let group = pods_group(shared);
    let limit = shared.cgroups.memory_limit(&group)?;
    let used = shared.cgroups.working_set(&group)?;
    // What is left is never less than nothing: pages that go first are not counted as used.
    Ok(limit.zip(used).map(|(limit, used)| {
        let available = (limit - used).max(0);
        Observation { available, capacity: available + used }
    }))
}

/// The cgroup of all pods together.
pub fn pods_group(shared: &Shared) -> String {
    format!("{}/kubepods", shared.config.cgroup_root.trim_end_matches('/'))
}

fn pids() -> io::Result<Observation> {
    let Tasks { running, most } = Tasks::read()?;
    Ok(Observation { available: most - running, capacity: most })
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
        ContainerUse {
            name: container.name.clone(),
            memory: stats.and_then(|stats| value(stats.memory.as_ref()?.working_set_bytes.as_ref())),
            memory_request: requested(container, "memory"),
            layer: layer.map(|layer| Space {
                bytes: value(layer.used_bytes.as_ref()).unwrap_or(0),
                inodes: value(layer.inodes_used.as_ref()).unwrap_or(0),
            }),
            logs: if with_disk { space(&logs.join(&container.name)) } else { Space::default() },
            disk_request: requested(container, "ephemeral-storage"),
        }
    });
    let containers: Vec<ContainerUse> = containers.collect();
    let requests = requests(&pod);
    let ask = |name: &str| {
        let text = requests.get(name).map(|text| text.0.as_str());
        text.and_then(|text| text.parse::<Quantity>().ok()).map_or(0, |quantity| quantity.value())
    };
    let of_pod = pod.spec().and_then(|spec| spec.resources.as_ref()?.requests.as_ref()?.get("memory"));
    PodUse {
        uid: handle.uid.clone(),
        name: pod.name().to_owned(),
        priority: pod.spec().and_then(|spec| spec.priority).unwrap_or(0),
        known: !own.is_empty(),
        memory: containers.iter().filter_map(|container| container.memory).sum(),
        memory_request: ask("memory"),
        own_memory_request: of_pod.and_then(|text| text.0.parse().ok()),
        volumes: if with_disk { empty_dirs(shared, &pod) } else { Space::default() },
        disk_request: ask("ephemeral-storage"),
        pids: shared.cgroups.pids(&crate::pods::cgroup(shared, &pod)).unwrap_or(0),
        containers,
    }
}

fn space(folder: &Path) -> Space {
    let (bytes, inodes) = tree(folder);
    Space { bytes, inodes }
}

/// Bytes and inodes of a pod's emptyDirs that are on the disk.
fn empty_dirs(shared: &Shared, pod: &Pod) -> Space {
    let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let on_disk = volumes.iter().filter(|volume| {
        volume.empty_dir.as_ref().is_some_and(|empty| empty.medium.as_deref().unwrap_or_default().is_empty())
    });
    let folders = on_disk.filter_map(|volume| shared.volumes.empty_dir(pod, &volume.name));
    folders.map(|folder| space(&folder)).fold(Space::default(), |sum, one| sum + one)
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
        for file in ["pid_max", "threads-max"] {
            let limit = fs::read_to_string(Path::new("/proc/sys/kernel").join(file)).unwrap();
            assert!(pids.capacity <= limit.trim().parse().unwrap(), "{file}");
        }
        let (bytes, _) = disk(Path::new("/")).unwrap();
        assert!(0 < bytes.capacity, "{bytes:?}");
    }
}
