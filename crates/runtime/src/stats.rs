//! What containers and pods use, from their cgroups and writable layers.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::v1::{
    ContainerAttributes, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage, IoUsage,
    LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes,
    PodSandboxStats, ProcessUsage, PsiData, PsiStats, SwapUsage, UInt64Value,
};
use parking_lot::Mutex;

use crate::cgroup::{Pressure, Usage, Waited};
use crate::pod::{Container, Core, Sandbox};

/// How long the size of a writable layer is believed: adding it up reads every inode.
const SIZE_AGE: Duration = Duration::from_secs(15);

/// What has to be remembered between two readings.
#[derive(Default)]
pub struct Memory {
    sizes: Mutex<HashMap<String, (Duration, u64, u64)>>,
    cpu: Mutex<HashMap<String, (i64, u64)>>,
}

fn value(value: Option<u64>) -> Option<UInt64Value> {
    value.map(|value| UInt64Value { value })
}

impl Memory {
    /// A container's statistics. Blocks.
    pub fn container(&self, core: &Core, container: &Arc<Container>) -> ContainerStats {
        let now = core.now();
        let cgroup = container.state().cgroup;
        let usage = container.process().map(|_| core.cgroups.usage(&cgroup)).unwrap_or_default();
        let (bytes, inodes) = self.writable(core, container);
        let layer = FilesystemUsage {
            timestamp: now,
            fs_id: Some(FilesystemIdentifier { mountpoint: core.config.root.display().to_string() }),
            used_bytes: value(Some(bytes)),
            inodes_used: value(Some(inodes)),
        };
        ContainerStats {
            attributes: Some(ContainerAttributes {
                id: container.id.clone(),
                metadata: container.config.metadata.clone(),
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            }),
            cpu: usage.cpu.map(|total| self.cpu(core, &container.id, &cgroup, now, total)),
            memory: memory(core, &cgroup, &usage, now),
            writable_layer: Some(layer),
            swap: swap(core, &cgroup, now),
            io: io(core, &cgroup, now),
        }
    }

    /// A pod's statistics. Blocks.
    pub fn sandbox(&self, core: &Core, sandbox: &Arc<Sandbox>) -> PodSandboxStats {
        let now = core.now();
        let cgroup = sandbox.state().cgroup;
        let usage = if sandbox.is_ready() { core.cgroups.usage(&cgroup) } else { Usage::default() };
        let containers = core.containers_of(&sandbox.id);
        let running = containers.iter().filter(|container| container.process().is_some());
        PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: sandbox.config.metadata.clone(),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            }),
            linux: Some(LinuxPodSandboxStats {
                cpu: usage.cpu.map(|total| self.cpu(core, &sandbox.id, &cgroup, now, total)),
                memory: memory(core, &cgroup, &usage, now),
                network: network(sandbox, now),
                process: usage
                    .pids
                    .map(|pids| ProcessUsage { timestamp: now, process_count: value(Some(pids)) }),
                containers: running.map(|container| self.container(core, container)).collect(),
                io: io(core, &cgroup, now),
            }),
            windows: None,
        }
    }

    fn cpu(&self, core: &Core, id: &str, cgroup: &str, now: i64, total: u64) -> CpuUsage {
        let before = self.cpu.lock().insert(id.to_owned(), (now, total));
        let rate = before.filter(|(then, _)| now > *then).map(|(then, before)| {
            (u128::from(total.saturating_sub(before)) * 1_000_000_000 / (now - then) as u128) as u64
        });
        CpuUsage {
            timestamp: now,
            usage_core_nano_seconds: value(Some(total)),
            usage_nano_cores: value(rate),
            psi: core.cgroups.pressure("cpu", cgroup).map(psi),
        }
    }

    fn writable(&self, core: &Core, container: &Container) -> (u64, u64) {
        let now = core.config.clock.monotonic();
        if let Some((then, bytes, inodes)) = self.sizes.lock().get(&container.id)
            && now.saturating_sub(*then) < SIZE_AGE
        {
            return (*bytes, *inodes);
        }
        let (bytes, inodes) = disk_usage(&container.upper()).unwrap_or_else(|error| {
            tracing::debug!(container = container.id, %error, "reading the size of a writable layer");
            (0, 0)
        });
        self.sizes.lock().insert(container.id.clone(), (now, bytes, inodes));
        (bytes, inodes)
    }

    /// Forgets what is gone.
    pub fn forget(&self, id: &str) {
        self.sizes.lock().remove(id);
        self.cpu.lock().remove(id);
    }
}

fn psi(pressure: Pressure) -> PsiStats {
    let data = |Waited { shares: [avg10, avg60, avg300], total }| PsiData { total, avg10, avg60, avg300 };
    PsiStats { full: Some(data(pressure.full)), some: Some(data(pressure.some)) }
}

fn io(core: &Core, cgroup: &str, now: i64) -> Option<IoUsage> {
    core.cgroups.pressure("io", cgroup).map(|pressure| IoUsage { timestamp: now, psi: Some(psi(pressure)) })
}

fn swap(core: &Core, cgroup: &str, now: i64) -> Option<SwapUsage> {
    let (used, available) = core.cgroups.swap(cgroup)?;
    Some(SwapUsage {
        timestamp: now,
        swap_available_bytes: value(available),
        swap_usage_bytes: value(Some(used)),
    })
}

fn memory(core: &Core, cgroup: &str, usage: &Usage, now: i64) -> Option<MemoryUsage> {
    let working_set = usage.working_set?;
    Some(MemoryUsage {
        timestamp: now,
        working_set_bytes: value(Some(working_set)),
        available_bytes: value(usage.memory_limit.map(|limit| limit.saturating_sub(working_set))),
        usage_bytes: value(usage.memory),
        rss_bytes: value(usage.rss),
        page_faults: value(usage.faults.map(|(all, _)| all)),
        major_page_faults: value(usage.faults.map(|(_, major)| major)),
        psi: core.cgroups.pressure("memory", cgroup).map(psi),
    })
}

/// `/proc/net/dev` of a pod's own network.
fn device_table(sandbox: &Sandbox) -> Option<String> {
    let netns = sandbox.netns().filter(|_| sandbox.is_ready())?;
    let read = || fs::read_to_string("/proc/thread-self/net/dev");
    match crate::sys::namespace::in_network(&netns, read) {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::debug!(sandbox = sandbox.id, %error, "reading network counters");
            None
        }
    }
}

/// A pod's interfaces but loopback, each with its counters in the kernel's order: eight of receiving, eight of
/// sending.
pub fn counters(sandbox: &Sandbox) -> Vec<(String, Vec<u64>)> {
    let table = device_table(sandbox).unwrap_or_default();
    let line = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters = counters.split_whitespace().map_while(|n| n.parse().ok()).collect();
        Some((name.trim().to_owned(), counters))
    };
    table.lines().filter_map(line).filter(|(name, _)| name != "lo").collect()
}

/// The counters of a pod's interfaces, read inside its namespace.
fn network(sandbox: &Sandbox, now: i64) -> Option<NetworkUsage> {
    let text = device_table(sandbox)?;
    let (default_interface, interfaces) = divide(&text);
    Some(NetworkUsage { timestamp: now, default_interface, interfaces })
}

/// The interface that a pod's traffic goes through, and the others.
fn divide(table: &str) -> (Option<NetworkInterfaceUsage>, Vec<NetworkInterfaceUsage>) {
    let mut all: Vec<_> = table.lines().filter_map(interface).filter(|i| i.name != "lo").collect();
    let first = all.iter().position(|i| i.name == "eth0").unwrap_or(0);
    let default = (first < all.len()).then(|| all.remove(first));
    (default, all)
}

fn interface(line: &str) -> Option<NetworkInterfaceUsage> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let at = |i: usize| value(counters.get(i).copied());
    Some(NetworkInterfaceUsage {
        name: name.trim().to_owned(),
        rx_bytes: Some(at(0)?),
        rx_errors: at(2),
        tx_bytes: at(8),
        tx_errors: at(10),
    })
}

/// Bytes on disk and inodes below a folder, without following links.
pub fn disk_usage(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut bytes, mut inodes) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // Removed while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let Ok(meta) =
                entry.as_ref().map_err(|e| e.kind()).and_then(|e| e.metadata().map_err(|e| e.kind()))
            else {
                continue;
            };
            inodes += 1;
            bytes += meta.blocks() * 512;
            if meta.is_dir()
                && let Ok(entry) = entry
            {
                folders.push(entry.path());
            }
        }
    }
    Ok((bytes, inodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_counters() {
        let line = "  eth0: 1000 10 1 0 0 0 0 0 2000 20 2 0 0 0 0 0";
        let found = interface(line).unwrap();
        assert_eq!(
            (found.name.as_str(), found.rx_bytes.unwrap().value, found.tx_bytes.unwrap().value),
            ("eth0", 1000, 2000)
        );
        assert!(interface("Inter-|   Receive").is_none());
        let table = format!("Inter-|   Receive\n{}\n{line}\n", line.replace("eth0", "net1"));
        let (default, others) = divide(&table);
        let others: Vec<&str> = others.iter().map(|other| other.name.as_str()).collect();
        assert_eq!((default.unwrap().name.as_str(), others), ("eth0", vec!["net1"]), "none is told twice");
        assert_eq!(divide(&line.replace("eth0", "lo")), (None, Vec::new()));
    }
}
