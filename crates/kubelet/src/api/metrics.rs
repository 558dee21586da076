//! `/metrics` and `/metrics/resource`, under upstream's names.

use super::cadvisor::{millis, started};
use super::exposition::{Family, float, seconds, text};
use super::measures::{PodMeasure, measure, node, number};
use super::{Refusal, Server};
use crate::machine::Meminfo;
use crate::{Shared, pods};

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
            start.add(&labels, container.instance.as_ref().and_then(started), None);
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
