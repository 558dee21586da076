//! What metrics tell of now, looked at when somebody asks.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Volume;

use super::stats::{claim, volume_disk};
use crate::Shared;
use crate::counts::{Counts, table};
use crate::eviction::tree;
use crate::pods::observed::State;
use crate::pods::spec::PodExt;
use crate::pods::{Handle, log_directory, priority_bucket};

fn float(number: u64) -> f64 {
    number as f64
}

/// Looks at all of it. It reads files, and takes its time.
pub fn take(shared: &Shared, handles: &[Arc<Handle>], seen: &Counts) {
    seen.set(&table::NODE_NAME, &[&shared.config.node_name], 1.0);
    seen.set(&table::CGROUP_VERSION, &[], f64::from(shared.cgroups.version()));
    running(handles, seen);
    workers(handles, seen);
    volumes(shared, handles, seen);
    wanted_volumes(shared, handles, seen);
    logs(shared, handles, seen);
    exclusive(shared, seen);
    for ((signer, state), count) in shared.volumes.certificates() {
        seen.set(&table::POD_CERTIFICATES, &[&signer, state], f64::from(count));
    }
    let (begun, noted) = shared.pulls.counts();
    seen.set(&table::PULLS_BEGUN, &[], begun as f64);
    seen.set(&table::PULLS_NOTED, &[], noted as f64);
    let last = shared.shutdown.last();
    let seconds = |at: Option<jiff::Timestamp>| at.map_or(0.0, |at| at.as_millisecond() as f64 / 1000.0);
    seen.set(&table::SHUTDOWN_START, &[], seconds(last.start_time));
    seen.set(&table::SHUTDOWN_END, &[], seconds(last.end_time));
}

fn running(handles: &[Arc<Handle>], seen: &Counts) {
    seen.set(&table::RUNNING_PODS, &[], 0.0);
    seen.set(&table::RUNNING_CONTAINERS, &["running"], 0.0);
    seen.set(&table::EPHEMERAL_CONTAINERS, &[], 0.0);
    for handle in handles {
        let observed = handle.observed.lock().clone();
        seen.add(&table::RUNNING_PODS, &[], f64::from(u8::from(observed.sandbox().is_some())));
        for container in &observed.containers {
            let state = match container.state {
                State::Created => "created",
                State::Exited => "exited",
                State::Running => "running",
                State::Unknown => "unknown",
            };
            seen.count(&table::RUNNING_CONTAINERS, &[state]);
        }
        for _ in handle.pod().ephemeral_containers() {
            seen.count(&table::EPHEMERAL_CONTAINERS, &[]);
        }
    }
}

/// Where pods are from, and whether they are static, as upstream tells all series of them from the start. What only the
/// runtime knows is ended without a worker here.
const WORKED_ON: [(&str, &str); 5] =
    [("desired", ""), ("desired", "true"), ("orphan", ""), ("orphan", "true"), ("runtime_only", "unknown")];

/// Pods as their workers have them.
fn workers(handles: &[Arc<Handle>], seen: &Counts) {
    seen.set(&table::MIRROR_PODS, &[], 0.0);
    seen.set(&table::RESIZES_IN_PROGRESS, &[], 0.0);
    for is_static in ["", "true"] {
        seen.set(&table::DESIRED_PODS, &[is_static], 0.0);
        seen.set(&table::ACTIVE_PODS, &[is_static], 0.0);
    }
    for (config, is_static) in WORKED_ON {
        for lifecycle in ["sync", "terminating", "terminated"] {
            seen.set(&table::WORKING_PODS, &[config, lifecycle, is_static], 0.0);
        }
    }
    for handle in handles {
        let is_static = if handle.is_static { "true" } else { "" };
        let config = if handle.is_removed() { "orphan" } else { "desired" };
        if !handle.is_removed() {
            seen.count(&table::DESIRED_PODS, &[is_static]);
        }
        let pod = handle.pod();
        let memory = handle.memory.lock();
        let ended = memory.ending.is_some();
        if !handle.is_removed() && !pod.is_terminal() && !ended {
            seen.count(&table::ACTIVE_PODS, &[is_static]);
        }
        if handle.is_static && !memory.ending.as_ref().is_some_and(|ending| ending.refused) {
            seen.count(&table::MIRROR_PODS, &[]);
        }
        let runs = handle.observed.lock().containers.iter().any(|c| c.state == State::Running);
        let ending = handle.is_removed() || pod.is_deleting() || ended;
        let lifecycle = match (ending, runs, pod.is_terminal()) {
            (true, true, _) => "terminating",
            (_, false, true) | (true, false, _) => "terminated",
            _ => "sync",
        };
        seen.count(&table::WORKING_PODS, &[config, lifecycle, is_static]);
        if let Some((reason, _)) = &memory.resize.pending {
            seen.count(&table::RESIZES_PENDING, &[&reason.to_lowercase(), priority_bucket(&pod)]);
        }
        if memory.resize.in_progress.is_some() {
            seen.count(&table::RESIZES_IN_PROGRESS, &[]);
        }
    }
}

/// Volumes that pods want, and those that are there, by who makes them.
fn wanted_volumes(shared: &Shared, handles: &[Arc<Handle>], seen: &Counts) {
    for handle in handles {
        let pod = handle.pod();
        for volume in pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
            let plugin = crate::volumes::plugin(volume);
            if !handle.is_removed() && !pod.is_terminal() {
                seen.count(&table::VOLUMES, &[plugin, "desired_state_of_world"]);
            }
            if shared.volumes.is_there(&pod, volume) {
                seen.count(&table::VOLUMES, &[plugin, "actual_state_of_world"]);
            }
        }
    }
}

/// Of claims' volumes.
fn volumes(shared: &Shared, handles: &[Arc<Handle>], seen: &Counts) {
    let rows = [
        &table::VOLUME_CAPACITY,
        &table::VOLUME_AVAILABLE,
        &table::VOLUME_USED,
        &table::VOLUME_INODES,
        &table::VOLUME_INODES_FREE,
        &table::VOLUME_INODES_USED,
    ];
    for pod in handles.iter().map(|handle| handle.pod()) {
        let list: &[Volume] = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        for volume in list {
            let Some(name) = claim(pod.name(), volume) else { continue };
            let Some(disk) = volume_disk(shared, pod.uid(), volume) else { continue };
            let values =
                [disk.capacity, disk.available, disk.used, disk.inodes, disk.inodes_free, disk.inodes_used];
            // Several pods may share a claim: its series is the same for all of them.
            for (row, value) in rows.iter().zip(values) {
                seen.set(row, &[pod.namespace(), &name], float(value));
            }
        }
    }
}

fn logs(shared: &Shared, handles: &[Arc<Handle>], seen: &Counts) {
    for handle in handles {
        let pod = handle.pod();
        let folder = log_directory(shared, &pod);
        let observed = handle.observed.lock().clone();
        for container in &observed.containers {
            let bytes = tree(&folder.join(&container.name)).0;
            let labels = [container.name.as_str(), pod.namespace(), pod.name(), pod.uid()];
            seen.set(&table::LOG_BYTES, &labels, bytes as f64);
        }
    }
}

/// What containers have for themselves.
fn exclusive(shared: &Shared, seen: &Counts) {
    let (milli, by_node) = shared.exclusive.cpus.used();
    seen.set(&table::CPU_SHARED, &[], float(milli));
    let count = |count: usize| u32::try_from(count).map_or(f64::MAX, f64::from);
    seen.set(&table::CPU_EXCLUSIVE, &[], count(by_node.values().sum()));
    for (node, cpus) in by_node {
        seen.set(&table::CPU_PER_NUMA, &[&node.to_string()], count(cpus));
    }
    for (driver, claims) in shared.claims.in_use() {
        seen.set(&table::CLAIMS_IN_USE, &[&driver], count(claims));
    }
}
