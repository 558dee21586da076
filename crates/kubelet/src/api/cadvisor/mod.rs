//! `/metrics/cadvisor`: what the machine, its groups, its pods and their containers use, under cAdvisor's names. What the
//! kernel tells of control groups is read from it; file systems, interfaces and processes of pods are told by the runtime.

mod groups;
mod labels;
mod machine;
mod reading;
mod relayed;
mod rows;

use std::collections::BTreeMap;

use self::groups::{Group, Kind};
use self::labels::{of_container, of_group, with};
use super::Server;
use super::exposition::{Family, text};
use super::measures::{ContainerMeasure, PodMeasure, is_machine, measure, number};
use crate::pods::observed::Instance;
use crate::{Shared, pods};

/// The text of the page.
pub async fn page(server: &Server) -> String {
    let measured = measure(server).await;
    let failed = if measured.is_err() { 1.0 } else { 0.0 };
    let relayed = relayed::read(&server.shared.runtime).await;
    let shared = server.shared.clone();
    let made = tokio::task::spawn_blocking(move || {
        let pods = measured.as_deref().unwrap_or_default();
        let (read, told) = (from_kernel(&shared, pods), from_runtime(&shared, pods));
        merged(read, told, relayed)
    });
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    let (failed, families) = match made.await {
        Ok(families) => (failed, families),
        Err(error) => {
            tracing::warn!(%error, "containers are not measured");
            (1.0, String::new())
        }
    };
    text(&[Family::new("container_scrape_error", "gauge", help).single(Some(failed), None)]) + &families
}

/// The text of all families: what was read of the kernel, with what the runtime has beyond it (`relayed`), and, where it has
/// no metrics of its own, what its statistics tell.
fn merged(read: Vec<Family>, told: Vec<Family>, mut relayed: BTreeMap<String, relayed::Text>) -> String {
    let mut families = BTreeMap::new();
    for family in read {
        let mut written = text(std::slice::from_ref(&family));
        // Both know of file systems and interfaces, one the machine's, the other those of pods.
        if let Some(more) = relayed.remove(family.name).filter(|_| is_shared(family.name)) {
            written.push_str(&more.samples);
        } else if let Some(more) = told.iter().find(|told| told.name == family.name) {
            let all = text(std::slice::from_ref(more));
            written.extend(all.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]));
        }
        families.insert(family.name.to_owned(), written);
    }
    for family in told.iter().filter(|family| !family.samples.is_empty()) {
        families.entry(family.name.to_owned()).or_insert_with(|| match relayed.remove(family.name) {
            // The CRI's numbers have no fractions.
            Some(more) if !family.name.contains("_seconds") => more.head + &more.samples,
            _ => text(std::slice::from_ref(family)),
        });
    }
    for (name, more) in relayed {
        families.entry(name).or_insert_with(|| more.head + &more.samples);
    }
    families.into_values().collect()
}

/// Whether a family has samples of the machine and of pods that are read in different places. What devices did is counted
/// for each group by the kernel.
fn is_shared(name: &str) -> bool {
    let is_counted = ["_reads_total", "_writes_total", "_reads_bytes_total", "_writes_bytes_total"];
    name.starts_with("container_network_")
        || name.starts_with("container_fs_") && !is_counted.iter().any(|end| name.ends_with(end))
}

/// What the kernel tells.
fn from_kernel(shared: &Shared, pods: &[PodMeasure]) -> Vec<Family> {
    let now = shared.config.clock.now().as_millisecond();
    let seen = machine::Seen::read();
    let mut families =
        groups::families(shared.cgroups.hierarchies(), &all_groups(shared, pods), &seen.io(), now);
    families.extend(machine::families(&shared.machine));
    families.extend(seen.families(&of_group("/", None), now));
    families
}

/// The machine's, those that hold pods, each pod's and each container's.
fn all_groups(shared: &Shared, pods: &[PodMeasure]) -> Vec<Group> {
    let roots = pods::cgroup_roots(&shared.config.cgroup_root);
    let mut places = roots.iter().map(|group| shared.cgroups.place(group).into_owned()).peekable();
    // A node that is only a part of the machine uses what its pods use.
    let (place, kind) = match (is_machine(shared), places.peek()) {
        (false, Some(all)) => (all.clone(), Kind::Pods),
        _ => ("/".to_owned(), Kind::Machine),
    };
    let mut groups = vec![Group { labels: of_group("/", None), place, kind }];
    for place in places {
        groups.push(Group { labels: of_group(&place, None), place, kind: Kind::Pods });
    }
    for pod in pods {
        let place = pods::place(shared, &pod.pod);
        groups.push(Group { labels: of_group(&place, Some(pod.key())), place, kind: Kind::Pods });
        for container in &pod.containers {
            let labels = container_labels(shared, pod, container);
            let place = labels.iter().find(|(name, _)| *name == "id").map(|(_, id)| id.clone());
            groups.push(Group { labels, place: place.unwrap_or_default(), kind: Kind::Container });
        }
    }
    groups
}

fn container_labels(shared: &Shared, pod: &PodMeasure, container: &ContainerMeasure) -> labels::Labels {
    let attributes = container.stats.attributes.as_ref();
    let id = attributes.map(|attributes| attributes.id.as_str()).unwrap_or_default();
    let place = format!("{}/{}", pods::place(shared, &pod.pod), container_place(shared, id));
    // A runtime is asked for the digest that was found; whoever reads this knows the name.
    let named = pod.image(&container.name);
    let image = named.or_else(|| container.instance.as_ref().map(|instance| instance.image.clone()));
    of_container([&container.name, &place, &image.unwrap_or_default(), id], pod.key())
}

/// What a container's cgroup is called below its pod's.
fn container_place(shared: &Shared, id: &str) -> String {
    match (shared.runtime.name.as_str(), shared.cgroups.has_units()) {
        ("containerd", true) => format!("cri-containerd-{id}.scope"),
        ("cri-o", true) => format!("crio-{id}.scope"),
        ("cri-o", false) => format!("crio-{id}"),
        _ => id.to_owned(),
    }
}

/// What the runtime's statistics tell.
fn from_runtime(shared: &Shared, pods: &[PodMeasure]) -> Vec<Family> {
    let gauge = |name, help| Family::new(name, "gauge", help);
    let mut layer = gauge(
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem.",
    );
    let mut start =
        gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds.");
    let mut processes = gauge("container_processes", "Number of processes running inside the container.");
    // A node that is only a part of the machine began when its groups did.
    if let Some(booted) = super::system::booted().filter(|_| is_machine(shared)) {
        start.add(&with(&of_group("/", None), &[]), Some(booted as f64), None);
    }
    for pod in pods {
        for container in &pod.containers {
            let labels = container_labels(shared, pod, container);
            let disk = container.stats.writable_layer.as_ref();
            let used = disk.and_then(|disk| number(disk.used_bytes.as_ref()));
            layer.add(&with(&labels, &[]), used.map(|used| used as f64), millis(container.at()));
            start.add(&with(&labels, &[]), container.instance.as_ref().and_then(started), None);
        }
        let tasks = pod.sandbox.as_ref().and_then(|sandbox| sandbox.process.as_ref());
        let count = tasks.and_then(|tasks| number(tasks.process_count.as_ref()));
        let labels = of_group(&pods::place(shared, &pod.pod), Some(pod.key()));
        processes.add(&with(&labels, &[]), count.map(|count| count as f64), millis(pod.at()));
    }
    let mut families = vec![layer, start, processes];
    families.extend(network(shared, pods));
    families
}

/// Nanoseconds as the milliseconds of a sample; what was not measured has none.
pub fn millis(nanoseconds: i64) -> Option<i64> {
    (nanoseconds > 0).then_some(nanoseconds / 1_000_000)
}

/// When a container was started, in seconds since 1970.
pub fn started(instance: &Instance) -> Option<f64> {
    (instance.started_at > 0).then(|| instance.started_at as f64 / 1e9)
}

/// The families of interfaces: what every runtime tells first.
fn network_families() -> [Family; 8] {
    let counter = |name, help| Family::new(name, "counter", help);
    [
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
        counter("container_network_receive_packets_total", "Cumulative count of packets received"),
        counter(
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
        ),
        counter("container_network_transmit_packets_total", "Cumulative count of packets transmitted"),
        counter(
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
        ),
    ]
}

fn network(shared: &Shared, pods: &[PodMeasure]) -> Vec<Family> {
    let mut families = network_families();
    for pod in pods {
        let Some(usage) = pod.sandbox.as_ref().and_then(|sandbox| sandbox.network.as_ref()) else { continue };
        let labels = of_group(&pods::place(shared, &pod.pod), Some(pod.key()));
        for interface in usage.default_interface.iter().chain(&usage.interfaces) {
            let labels = with(&labels, &[("interface", &interface.name)]);
            let values =
                [&interface.rx_bytes, &interface.rx_errors, &interface.tx_bytes, &interface.tx_errors];
            for (family, value) in families.iter_mut().zip(values) {
                let value = number(value.as_ref()).map(|value| value as f64);
                family.add(&labels, value, millis(usage.timestamp));
            }
        }
    }
    families.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_pods_share_families_and_nothing_is_told_twice() {
        let labels = of_group("/", None);
        let family = |name, id: &str, value| {
            let mut family = Family::new(name, "gauge", "Help.");
            family.add(&[("id", id)], Some(value), None);
            family
        };
        let relayed = |name: &str, value: u32| {
            let head = format!("# HELP {name} Told.\n# TYPE {name} gauge\n");
            (name.to_owned(), relayed::Text { head, samples: format!("{name}{{id=\"c\"}} {value}\n") })
        };
        let read = vec![
            family("container_fs_limit_bytes", "/", 1.0),
            family("container_memory_rss", "/c", 2.0),
            family("container_processes", "/c", 1.0),
        ];
        let told = vec![
            family("container_start_time_seconds", "/c", 3.5),
            family("container_fs_usage_bytes", "/c", 4.0),
            family("container_processes", "/p", 9.0),
        ];
        let more = BTreeMap::from([
            relayed("container_fs_limit_bytes", 5),
            relayed("container_memory_rss", 6),
            relayed("container_start_time_seconds", 3),
            relayed("container_fs_usage_bytes", 7),
            relayed("container_last_seen", 8),
        ]);
        let head = |name: &str, help: &str| format!("# HELP {name} {help}\n# TYPE {name} gauge\n");
        let wanted = head("container_fs_limit_bytes", "Help.")
            + "container_fs_limit_bytes{id=\"/\"} 1\ncontainer_fs_limit_bytes{id=\"c\"} 5\n"
            + &head("container_fs_usage_bytes", "Told.")
            + "container_fs_usage_bytes{id=\"c\"} 7\n"
            + &head("container_last_seen", "Told.")
            + "container_last_seen{id=\"c\"} 8\n"
            + &head("container_memory_rss", "Help.")
            + "container_memory_rss{id=\"/c\"} 2\n"
            + &head("container_processes", "Help.")
            + "container_processes{id=\"/c\"} 1\ncontainer_processes{id=\"/p\"} 9\n"
            + &head("container_start_time_seconds", "Help.")
            + "container_start_time_seconds{id=\"/c\"} 3.5\n";
        assert_eq!(merged(read, told, more), wanted);
        assert!(labels.iter().all(|(name, text)| text.is_empty() || *name == "id"));
    }
}
