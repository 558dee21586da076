//! What the CRI calls metrics: cadvisor's names, for kubelets that no longer read cgroups themselves.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cri::v1::{ContainerMetrics, Metric, MetricDescriptor, MetricType, PodSandboxMetrics, UInt64Value};

use crate::pod::{Container, Core, Sandbox};
use crate::stats::Memory;

/// One number: its name, what distinguishes it from others of that name, and whether it only grows.
struct Row {
    name: &'static str,
    help: &'static str,
    extra: &'static [&'static str],
    kind: MetricType,
}

const COUNTER: MetricType = MetricType::Counter;
const GAUGE: MetricType = MetricType::Gauge;

/// What all of them are told apart by: the labels that a kubelet gives to cadvisor's, by which dashboards choose.
const LABELS: [&str; 6] = ["id", "name", "image", "container", "namespace", "pod"];

const fn row(
    name: &'static str,
    help: &'static str,
    extra: &'static [&'static str],
    kind: MetricType,
) -> Row {
    Row { name, help, extra, kind }
}

const NET: &[&str] = &["interface"];
const DEVICE: &[&str] = &["device"];

const ROWS: &[Row] = &[
    row(
        "container_blkio_device_usage_total",
        "Bytes that were read or written",
        &["device", "operation"],
        COUNTER,
    ),
    row("container_cpu_cfs_periods_total", "Elapsed enforcement periods", &[], COUNTER),
    row("container_cpu_cfs_throttled_periods_total", "Throttled enforcement periods", &[], COUNTER),
    row("container_cpu_cfs_throttled_seconds_total", "Time of being throttled", &[], COUNTER),
    row("container_cpu_system_seconds_total", "Processor time in the kernel", &[], COUNTER),
    row("container_cpu_usage_seconds_total", "Processor time", &["cpu"], COUNTER),
    row("container_cpu_user_seconds_total", "Processor time outside the kernel", &[], COUNTER),
    row("container_file_descriptors", "Open descriptors", &[], GAUGE),
    row("container_fs_inodes_free", "Inodes that are free", DEVICE, GAUGE),
    row("container_fs_inodes_total", "Inodes that there are", DEVICE, GAUGE),
    row("container_fs_limit_bytes", "Bytes that the container can use", DEVICE, GAUGE),
    row("container_fs_reads_bytes_total", "Bytes that were read", DEVICE, COUNTER),
    row("container_fs_reads_total", "Reads", DEVICE, COUNTER),
    row("container_fs_usage_bytes", "Bytes that the container uses", DEVICE, GAUGE),
    row("container_fs_writes_bytes_total", "Bytes that were written", DEVICE, COUNTER),
    row("container_fs_writes_total", "Writes", DEVICE, COUNTER),
    row("container_last_seen", "When the container was last seen", &[], GAUGE),
    row("container_memory_cache", "Bytes of cached files", &[], GAUGE),
    row("container_memory_failcnt", "How often the limit was hit", &[], COUNTER),
    row("container_memory_failures_total", "Page faults", &["failure_type", "scope"], COUNTER),
    row("container_memory_kernel_usage", "Bytes of the kernel's memory", &[], GAUGE),
    row("container_memory_mapped_file", "Bytes of mapped files", &[], GAUGE),
    row("container_memory_max_usage_bytes", "The most bytes that were used", &[], GAUGE),
    row("container_memory_rss", "Bytes of anonymous memory", &[], GAUGE),
    row("container_memory_swap", "Bytes that are swapped out", &[], GAUGE),
    row("container_memory_total_active_file_bytes", "Bytes of files that were used lately", &[], GAUGE),
    row("container_memory_total_inactive_file_bytes", "Bytes of files that were not used lately", &[], GAUGE),
    row("container_memory_usage_bytes", "Bytes, caches included", &[], GAUGE),
    row("container_memory_working_set_bytes", "Bytes that cannot be dropped at once", &[], GAUGE),
    row("container_network_receive_bytes_total", "Bytes that came", NET, COUNTER),
    row("container_network_receive_errors_total", "Errors of receiving", NET, COUNTER),
    row(
        "container_network_receive_packets_dropped_total",
        "Packets that came and were dropped",
        NET,
        COUNTER,
    ),
    row("container_network_receive_packets_total", "Packets that came", NET, COUNTER),
    row("container_network_transmit_bytes_total", "Bytes that went", NET, COUNTER),
    row("container_network_transmit_errors_total", "Errors of sending", NET, COUNTER),
    row(
        "container_network_transmit_packets_dropped_total",
        "Packets that were to go and were dropped",
        NET,
        COUNTER,
    ),
    row("container_network_transmit_packets_total", "Packets that went", NET, COUNTER),
    row("container_oom_events_total", "Processes killed for want of memory", &[], COUNTER),
    row(
        "container_pressure_cpu_stalled_seconds_total",
        "Time without progress for want of processors",
        &[],
        COUNTER,
    ),
    row("container_pressure_cpu_waiting_seconds_total", "Time of waiting for processors", &[], COUNTER),
    row(
        "container_pressure_io_stalled_seconds_total",
        "Time without progress for want of devices",
        &[],
        COUNTER,
    ),
    row("container_pressure_io_waiting_seconds_total", "Time of waiting for devices", &[], COUNTER),
    row(
        "container_pressure_memory_stalled_seconds_total",
        "Time without progress for want of memory",
        &[],
        COUNTER,
    ),
    row("container_pressure_memory_waiting_seconds_total", "Time of waiting for memory", &[], COUNTER),
    row("container_processes", "Processes", &[], GAUGE),
    row("container_sockets", "Open sockets", &[], GAUGE),
    row("container_spec_cpu_period", "Enforcement period in microseconds", &[], GAUGE),
    row("container_spec_cpu_quota", "Microseconds in each enforcement period", &[], GAUGE),
    row("container_spec_cpu_shares", "Share of the processor", &[], GAUGE),
    row("container_spec_memory_limit_bytes", "Limit of memory; 0 without one", &[], GAUGE),
    row("container_spec_memory_swap_limit_bytes", "Limit of memory and swap; 0 without one", &[], GAUGE),
    row("container_start_time_seconds", "When the container started", &[], GAUGE),
    row("container_threads", "Threads", &[], GAUGE),
    row("container_threads_max", "Limit of threads; 0 without one", &[], GAUGE),
];

/// What there is.
pub fn descriptors() -> Vec<MetricDescriptor> {
    let describe = |row: &Row| MetricDescriptor {
        name: row.name.into(),
        help: row.help.into(),
        label_keys: LABELS.iter().chain(row.extra).map(ToString::to_string).collect(),
    };
    ROWS.iter().map(describe).collect()
}

/// Values of one container or pod.
struct Values {
    labels: [String; LABELS.len()],
    timestamp: i64,
    list: Vec<Metric>,
}

impl Values {
    fn add(&mut self, name: &'static str, extra: &[&str], value: Option<u64>) {
        let (Some(value), Some(row)) = (value, ROWS.iter().find(|row| row.name == name)) else { return };
        self.list.push(Metric {
            name: name.into(),
            timestamp: self.timestamp,
            metric_type: row.kind as i32,
            label_values: self.labels.iter().cloned().chain(extra.iter().map(ToString::to_string)).collect(),
            value: Some(UInt64Value { value }),
        });
    }
}

/// A pod's values and those of its containers that run. Blocks.
pub fn of_sandbox(core: &Core, memory: &Memory, sandbox: &Arc<Sandbox>) -> PodSandboxMetrics {
    let meta = sandbox.config.metadata.clone().unwrap_or_default();
    let pod = [meta.namespace, meta.name];
    let [namespace, name] = pod.clone();
    let mut values = Values {
        labels: [sandbox.state().cgroup, sandbox.id.clone(), String::new(), "POD".into(), namespace, name],
        timestamp: core.now(),
        list: Vec::new(),
    };
    for (interface, counters) in crate::stats::counters(sandbox) {
        for (name, at) in [
            ("container_network_receive_bytes_total", 0),
            ("container_network_receive_packets_total", 1),
            ("container_network_receive_errors_total", 2),
            ("container_network_receive_packets_dropped_total", 3),
            ("container_network_transmit_bytes_total", 8),
            ("container_network_transmit_packets_total", 9),
            ("container_network_transmit_errors_total", 10),
            ("container_network_transmit_packets_dropped_total", 11),
        ] {
            values.add(name, &[&interface], counters.get(at).copied());
        }
    }
    let containers = core.containers_of(&sandbox.id);
    let running = containers.iter().filter(|container| container.process().is_some());
    PodSandboxMetrics {
        pod_sandbox_id: sandbox.id.clone(),
        metrics: values.list,
        container_metrics: running.map(|container| of_container(core, memory, container, &pod)).collect(),
    }
}

fn of_container(
    core: &Core,
    memory: &Memory,
    container: &Arc<Container>,
    [namespace, pod]: &[String; 2],
) -> ContainerMetrics {
    let state = container.state();
    let config = &container.config;
    let name = config.metadata.as_ref().map(|meta| meta.name.clone()).unwrap_or_default();
    let image = config.image.clone().unwrap_or_default();
    // A kubelet asks for the digest that it has found; whoever reads this knows the name.
    let asked = Some(image.user_specified_image).filter(|name| !name.is_empty()).unwrap_or(image.image);
    let labels = [state.cgroup.clone(), container.id.clone(), asked, name, namespace.clone(), pod.clone()];
    let mut values = Values { labels, timestamp: core.now(), list: Vec::new() };
    resources(&mut values, core, container);
    processes(&mut values, core, &state.cgroup);
    storage(&mut values, core, memory, container);
    let nanoseconds = 1_000_000_000;
    values.add("container_last_seen", &[], u64::try_from(core.now() / nanoseconds).ok());
    let started = container.status().started_at / nanoseconds;
    values.add("container_start_time_seconds", &[], u64::try_from(started).ok());
    ContainerMetrics { container_id: container.id.clone(), metrics: values.list }
}

fn resources(values: &mut Values, core: &Core, container: &Container) {
    let cgroup = container.state().cgroup;
    let (usage, detail) = (core.cgroups.usage(&cgroup), core.cgroups.detail(&cgroup));
    // Whole seconds: the protocol has no fractions.
    let seconds = |nanoseconds: Option<u64>| nanoseconds.map(|n| n / 1_000_000_000);
    values.add("container_cpu_usage_seconds_total", &["total"], seconds(usage.cpu));
    values.add("container_cpu_user_seconds_total", &[], seconds(detail.user));
    values.add("container_cpu_system_seconds_total", &[], seconds(detail.system));
    values.add("container_cpu_cfs_periods_total", &[], Some(detail.periods));
    values.add("container_cpu_cfs_throttled_periods_total", &[], Some(detail.throttled_periods));
    values.add("container_cpu_cfs_throttled_seconds_total", &[], seconds(Some(detail.throttled)));
    values.add("container_memory_usage_bytes", &[], usage.memory);
    values.add("container_memory_working_set_bytes", &[], usage.working_set);
    values.add("container_memory_rss", &[], usage.rss);
    values.add("container_memory_cache", &[], Some(detail.cache));
    values.add("container_memory_mapped_file", &[], Some(detail.mapped));
    values.add("container_memory_swap", &[], Some(detail.swap));
    values.add("container_memory_kernel_usage", &[], Some(detail.kernel));
    values.add("container_memory_failcnt", &[], Some(detail.limit_hits));
    values.add("container_memory_max_usage_bytes", &[], detail.peak);
    values.add("container_memory_total_active_file_bytes", &[], Some(detail.active_file));
    values.add("container_memory_total_inactive_file_bytes", &[], Some(detail.inactive_file));
    for (what, stalled, waiting) in [
        (
            "cpu",
            "container_pressure_cpu_stalled_seconds_total",
            "container_pressure_cpu_waiting_seconds_total",
        ),
        ("io", "container_pressure_io_stalled_seconds_total", "container_pressure_io_waiting_seconds_total"),
        (
            "memory",
            "container_pressure_memory_stalled_seconds_total",
            "container_pressure_memory_waiting_seconds_total",
        ),
    ] {
        let pressure = core.cgroups.pressure(what, &cgroup);
        values.add(stalled, &[], seconds(pressure.map(|pressure| pressure.full.total)));
        values.add(waiting, &[], seconds(pressure.map(|pressure| pressure.some.total)));
    }
    values.add("container_oom_events_total", &[], Some(core.cgroups.oom_kills(&cgroup)));
    if let Some((all, major)) = usage.faults {
        values.add("container_memory_failures_total", &["pgfault", "container"], Some(all));
        values.add("container_memory_failures_total", &["pgmajfault", "container"], Some(major));
    }
    let wanted = container.resources();
    let positive = |number: i64| Some(u64::try_from(number).unwrap_or(0));
    let limit = |bytes: i64| positive(bytes).map(|bytes| whole_pages(bytes, base::memory::page()));
    let period = if wanted.cpu_period > 0 { wanted.cpu_period } else { 100_000 };
    values.add("container_spec_cpu_period", &[], positive(period));
    values.add(
        "container_spec_cpu_quota",
        &[],
        u64::try_from(wanted.cpu_quota).ok().filter(|quota| *quota > 0),
    );
    values.add("container_spec_cpu_shares", &[], positive(wanted.cpu_shares.max(2)));
    values.add("container_spec_memory_limit_bytes", &[], limit(wanted.memory_limit_in_bytes));
    values.add("container_spec_memory_swap_limit_bytes", &[], limit(wanted.memory_swap_limit_in_bytes));
    values.add("container_threads", &[], usage.pids);
    values.add("container_threads_max", &[], Some(detail.pids_limit.unwrap_or(0)));
}

/// What the kernel makes of a limit in bytes: it counts memory in pages, and leaves out what does not fill one.
fn whole_pages(bytes: u64, page: u64) -> u64 {
    bytes - bytes.checked_rem(page).unwrap_or(0)
}

/// What the container's processes have open. One that ends meanwhile is not counted.
fn processes(values: &mut Values, core: &Core, cgroup: &str) {
    let Ok(pids) = core.cgroups.processes(cgroup) else { return };
    let (mut descriptors, mut sockets) = (0u64, 0u64);
    for pid in &pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            descriptors += 1;
            let is_socket = |target: std::path::PathBuf| target.to_string_lossy().starts_with("socket:");
            sockets += u64::from(fs::read_link(entry.path()).is_ok_and(is_socket));
        }
    }
    values.add("container_processes", &[], Some(pids.len() as u64));
    values.add("container_file_descriptors", &[], Some(descriptors));
    values.add("container_sockets", &[], Some(sockets));
}

fn storage(values: &mut Values, core: &Core, memory: &Memory, container: &Arc<Container>) {
    let used = memory.container(core, container).writable_layer.and_then(|layer| layer.used_bytes);
    let device = core.config.root.display().to_string();
    values.add("container_fs_usage_bytes", &[&device], used.map(|used| used.value));
    if let Ok(whole) = nix::sys::statvfs::statvfs(Path::new(&core.config.root)) {
        values.add("container_fs_limit_bytes", &[&device], Some(whole.blocks() * whole.fragment_size()));
        values.add("container_fs_inodes_total", &[&device], Some(whole.files()));
        values.add("container_fs_inodes_free", &[&device], Some(whole.files_free()));
    }
    for io in core.cgroups.io(&container.state().cgroup) {
        let device = io.name();
        values.add("container_fs_reads_bytes_total", &[&device], Some(io.read_bytes));
        values.add("container_fs_writes_bytes_total", &[&device], Some(io.written_bytes));
        values.add("container_fs_reads_total", &[&device], Some(io.reads));
        values.add("container_fs_writes_total", &[&device], Some(io.writes));
        values.add("container_blkio_device_usage_total", &[&device, "Read"], Some(io.read_bytes));
        values.add("container_blkio_device_usage_total", &[&device, "Write"], Some(io.written_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_memory_is_told_in_whole_pages() {
        assert_eq!(whole_pages(80_000_000, 4096), 79_998_976);
        assert_eq!(whole_pages(80_000_000, 65_536), 79_953_920);
        assert_eq!(whole_pages(64 << 20, 4096), 64 << 20);
        assert_eq!(whole_pages(0, 4096), 0, "none is none");
    }

    #[test]
    fn values_have_as_many_labels_as_their_descriptor() {
        let labels = ["a", "b", "c", "d", "e", "f"].map(str::to_owned);
        let mut values = Values { labels, timestamp: 1, list: Vec::new() };
        values.add("container_memory_failures_total", &["pgfault", "container"], Some(3));
        values.add("container_memory_rss", &[], None);
        let descriptors = descriptors();
        let of = |name: &str| descriptors.iter().find(|d| d.name == name).unwrap();
        assert_eq!(values.list.len(), 1, "what the kernel does not tell is left out");
        assert_eq!(values.list[0].label_values.len(), of(&values.list[0].name).label_keys.len());
        assert!(descriptors.iter().all(|d| d.name.starts_with("container_") && !d.help.is_empty()));
    }
}
