//! `/metrics`, `/metrics/resource` and `/metrics/cadvisor`, under upstream's names.

use super::exposition::{Family, text};
use super::measures::{ContainerMeasure, PodMeasure, measure, node, number};
use super::{Refusal, Server, relayed};
use crate::machine::Meminfo;
use crate::{Shared, pods};

fn float(number: u64) -> f64 {
    number as f64
}

/// Nanoseconds as seconds.
fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

/// Nanoseconds as the milliseconds of a sample; what was not measured has none.
fn millis(nanoseconds: i64) -> Option<i64> {
    (nanoseconds > 0).then_some(nanoseconds / 1_000_000)
}

/// `/metrics`
pub async fn own(server: &Server) -> Result<String, Refusal> {
    let shared = server.shared.clone();
    let pods = server.pods.clone();
    tokio::task::spawn_blocking(move || text(&own_families(&shared, &pods))).await.map_err(Refusal::internal)
}

fn own_families(shared: &Shared, pods: &pods::Pods) -> Vec<Family> {
    let mut families = super::counted::families(shared, &pods.list());
    families.extend(process());
    let mut build =
        Family::new("kubernetes_build_info", "gauge", "The version that is running. The count is always 1.");
    build.add(&[("git_version", kinds::KUBERNETES_VERSION), ("platform", "linux")], Some(1.0), None);
    families.push(build);
    families.push(gates(shared.config.configuration.fields.gates));
    families
}

/// Which features are on.
fn gates(gates: kinds::gates::Gates) -> Family {
    let mut family = Family::new(kinds::gates::METRIC, "gauge", kinds::gates::HELP);
    for (name, stage, on) in gates.all() {
        family.add(&[("name", name), ("stage", stage)], Some(f64::from(u8::from(on))), None);
    }
    family
}

/// Of this process. What the kernel does not tell is left out.
fn process() -> Vec<Family> {
    let status = Meminfo::of(std::fs::read_to_string("/proc/self/status").unwrap_or_default());
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The program's name stands in parentheses, and may hold anything.
    let words: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |index: usize| words.get(index).and_then(|word| word.parse::<f64>().ok()).map(|ticks| ticks / 100.0);
    let machine = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = machine.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    let files = std::fs::read_dir("/proc/self/fd").map(|list| list.count()).ok();
    let cpu = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
    let start = boot.zip(ticks(19)).map(|(boot, after)| boot + after);
    let file_count = files.and_then(|count| u32::try_from(count).ok()).map(f64::from);
    let of = |name, kind, help, value| Family::new(name, kind, help).single(value, None);
    vec![
        of("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.", cpu),
        of("process_open_fds", "gauge", "Number of open file descriptors.", file_count),
        of(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory size in bytes.",
            status.bytes("VmRSS").map(float),
        ),
        of(
            "process_start_time_seconds",
            "gauge",
            "Start time of the process since unix epoch in seconds.",
            start,
        ),
        of(
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory size in bytes.",
            status.bytes("VmSize").map(float),
        ),
    ]
}

/// `/metrics/resource`
pub async fn resource(server: &Server) -> String {
    let measured = measure(server).await;
    let mut families = Vec::new();
    let mut failed = 1.0;
    if let Ok(pods) = &measured {
        families = resource_families(pods);
        let at = server.shared.config.clock.now().as_millisecond();
        match node(&server.shared, pods) {
            Ok(used) => {
                let help = "Cumulative cpu time consumed by the node in core-seconds";
                let cpu = Family::new("node_cpu_usage_seconds_total", "counter", help);
                families.push(cpu.single(used.cpu.map(seconds), Some(at)));
                let help = "Current working set of the node in bytes";
                let memory = Family::new("node_memory_working_set_bytes", "gauge", help);
                families.push(memory.single(used.working_set.map(float), Some(at)));
                failed = 0.0;
            }
            Err(error) => tracing::warn!(%error, "what the node uses is not measured"),
        }
    }
    families.sort_by_key(|family| family.name);
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    families.push(Family::new("resource_scrape_error", "gauge", help).single(Some(failed), None));
    text(&families)
}

fn resource_families(pods: &[PodMeasure]) -> Vec<Family> {
    let mut cpu = Family::new(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the container in core-seconds",
    );
    let mut memory = Family::new(
        "container_memory_working_set_bytes",
        "gauge",
        "Current working set of the container in bytes",
    );
    let mut start = Family::new(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds",
    );
    let mut swap = Family::new(
        "container_swap_usage_bytes",
        "gauge",
        "Current amount of the container swap usage in bytes. Reported only on non-windows systems",
    );
    let mut pod_cpu = Family::new(
        "pod_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed by the pod in core-seconds",
    );
    let mut pod_memory =
        Family::new("pod_memory_working_set_bytes", "gauge", "Current working set of the pod in bytes");
    let mut pod_swap = Family::new(
        "pod_swap_usage_bytes",
        "gauge",
        "Current amount of the pod swap usage in bytes. Reported only on non-windows systems",
    );
    for pod in pods {
        let (namespace, name) = pod.key();
        for container in &pod.containers {
            let labels = [("container", container.name.as_str()), ("namespace", namespace), ("pod", name)];
            let at = millis(container.at());
            cpu.add(&labels, container.cpu().map(seconds), at);
            memory.add(&labels, container.working_set().map(float), at);
            start.add(&labels, started(container), None);
            let used = container.stats.swap.as_ref().and_then(|swap| number(swap.swap_usage_bytes.as_ref()));
            swap.add(&labels, used.map(float), at);
        }
        let labels = [("namespace", namespace), ("pod", name)];
        pod_cpu.add(&labels, pod.cpu().map(seconds), millis(pod.at()));
        pod_memory.add(&labels, pod.working_set().map(float), millis(pod.at()));
        let swapped = pod.sum(|c| number(c.stats.swap.as_ref()?.swap_usage_bytes.as_ref()));
        pod_swap.add(&labels, swapped.map(float), millis(pod.at()));
    }
    vec![cpu, memory, start, swap, pod_cpu, pod_memory, pod_swap]
}

fn started(container: &ContainerMeasure) -> Option<f64> {
    let started = container.instance.as_ref()?.started_at;
    u64::try_from(started).ok().filter(|started| *started > 0).map(seconds)
}

/// `/metrics/cadvisor`
pub async fn cadvisor(server: &Server) -> String {
    let measured = measure(server).await;
    let shared = &server.shared;
    let mut families = measured.as_ref().map(|pods| cadvisor_families(shared, pods)).unwrap_or_default();
    let machine = &shared.machine;
    let cores = float(machine.cpu_millis) / 1000.0;
    families.push(
        Family::new("machine_cpu_cores", "gauge", "Number of logical CPU cores.").single(Some(cores), None),
    );
    let help = "Amount of memory installed on the machine.";
    families
        .push(Family::new("machine_memory_bytes", "gauge", help).single(Some(float(machine.memory)), None));
    let mut relayed = relayed::read(&shared.runtime).await;
    // What the runtime measures by itself it knows better, and more of; but the CRI's numbers have no fractions.
    let has_fractions = |name: &str| name.contains("_seconds");
    relayed.retain(|name, _| !has_fractions(name) || families.iter().all(|family| family.name != name));
    families.retain(|family| !relayed.contains_key(family.name));
    families.sort_by_key(|family| family.name);
    let failed = if measured.is_err() { 1.0 } else { 0.0 };
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    families.insert(0, Family::new("container_scrape_error", "gauge", help).single(Some(failed), None));
    let mut out = text(&families);
    relayed.values().for_each(|family| out.push_str(family));
    out
}

fn cadvisor_families(shared: &Shared, pods: &[PodMeasure]) -> Vec<Family> {
    let mut cpu = Family::new(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
    );
    let gauge = |name, help| Family::new(name, "gauge", help);
    let mut memory = [
        gauge(
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
        ),
        gauge("container_memory_working_set_bytes", "Current working set in bytes."),
        gauge("container_memory_rss", "Size of RSS in bytes."),
    ];
    let mut layer = gauge(
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
    );
    let mut start =
        gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.");
    let mut processes = gauge("container_processes", "Number of processes running inside the container.");
    let mut families = Vec::new();
    for pod in pods {
        let (namespace, name) = pod.key();
        let group = pods::place(shared, &pod.pod);
        for container in &pod.containers {
            let id = container
                .stats
                .attributes
                .as_ref()
                .map(|attributes| attributes.id.as_str())
                .unwrap_or_default();
            let path = format!("{group}/{}", container_place(shared, id));
            let image =
                container.instance.as_ref().map(|instance| instance.image.as_str()).unwrap_or_default();
            let labels = [
                ("container", container.name.as_str()),
                ("id", path.as_str()),
                ("image", image),
                ("name", id),
                ("namespace", namespace),
                ("pod", name),
            ];
            let at = millis(container.at());
            let mut with_cpu = vec![("container", container.name.as_str()), ("cpu", "total")];
            with_cpu.extend(labels.iter().skip(1));
            cpu.add(&with_cpu, container.cpu().map(seconds), at);
            let used = container.stats.memory.as_ref();
            let values = [
                used.and_then(|used| number(used.usage_bytes.as_ref())),
                container.working_set(),
                used.and_then(|used| number(used.rss_bytes.as_ref())),
            ];
            for (family, value) in memory.iter_mut().zip(values) {
                family.add(&labels, value.map(float), at);
            }
            let disk = container.stats.writable_layer.as_ref();
            layer.add(&labels, disk.and_then(|disk| number(disk.used_bytes.as_ref())).map(float), at);
            start.add(&labels, started(container), None);
        }
        let count =
            pod.sandbox.as_ref().and_then(|sandbox| number(sandbox.process.as_ref()?.process_count.as_ref()));
        let labels = [
            ("container", ""),
            ("id", group.as_str()),
            ("image", ""),
            ("name", ""),
            ("namespace", namespace),
            ("pod", name),
        ];
        processes.add(&labels, count.map(float), millis(pod.at()));
    }
    families.extend(memory);
    families.extend([cpu, layer, start, processes]);
    families.extend(network(shared, pods));
    families
}

fn network(shared: &Shared, pods: &[PodMeasure]) -> Vec<Family> {
    let counter = |name, help| Family::new(name, "counter", help);
    let mut families = [
        counter("container_network_receive_bytes_total", "Cumulative count of bytes received"),
        counter(
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
        ),
        counter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted"),
        counter(
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
        ),
    ];
    for pod in pods {
        let Some(usage) = pod.sandbox.as_ref().and_then(|sandbox| sandbox.network.as_ref()) else { continue };
        let (namespace, name) = pod.key();
        let group = pods::place(shared, &pod.pod);
        for interface in usage.default_interface.iter().chain(&usage.interfaces) {
            let labels = [
                ("container", ""),
                ("id", group.as_str()),
                ("image", ""),
                ("interface", interface.name.as_str()),
                ("name", ""),
                ("namespace", namespace),
                ("pod", name),
            ];
            let values =
                [&interface.rx_bytes, &interface.rx_errors, &interface.tx_bytes, &interface.tx_errors];
            for (family, value) in families.iter_mut().zip(values) {
                family.add(&labels, number(value.as_ref()).map(float), millis(usage.timestamp));
            }
        }
    }
    families.into()
}

/// What a container's cgroup is called below its pod's.
fn container_place(shared: &Shared, id: &str) -> String {
    match shared.runtime.name.as_str() {
        "containerd" if shared.cgroups.has_units() => format!("cri-containerd-{id}.scope"),
        "cri-o" if shared.cgroups.has_units() => format!("crio-{id}.scope"),
        _ => id.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let told = text(&process());
        for name in [
            "process_cpu_seconds_total ",
            "process_open_fds ",
            "process_resident_memory_bytes ",
            "process_start_time_seconds ",
        ] {
            let line = told.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            assert!(value.is_some_and(|value| value >= 0.0), "{name}: {told}");
        }
    }

    #[test]
    fn units_are_prometheus() {
        assert_eq!(seconds(1_500_000_000), 1.5);
        assert_eq!((millis(0), millis(1_767_225_600_123_456_789)), (None, Some(1_767_225_600_123)));
    }
}
