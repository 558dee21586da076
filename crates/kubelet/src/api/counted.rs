//! What was counted, as the families of `/metrics` and `/metrics/probes`, under upstream's names.

use super::exposition::{Family, text};
use crate::Shared;

/// `/metrics/probes`
pub fn probes(shared: &Shared) -> String {
    let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
    let mut family = Family::new("prober_probe_total", "counter", help);
    for (probed, count) in shared.counts.read().probes {
        let labels = [
            ("container", probed.container.as_str()),
            ("namespace", probed.namespace.as_str()),
            ("pod", probed.pod.as_str()),
            ("pod_uid", probed.uid.as_str()),
            ("probe_type", probed.kind),
            ("result", probed.result),
        ];
        family.add(&labels, Some(count as f64), None);
    }
    text(&[family])
}

/// The rest, for `/metrics`.
pub fn families(shared: &Shared) -> Vec<Family> {
    let read = shared.counts.read();
    let counter = |name, help| Family::new(name, "counter", help);
    let histogram = |name, help| Family::new(name, "histogram", help);
    let mut evictions = counter("kubelet_evictions", "Cumulative number of pod evictions by eviction signal");
    for (signal, count) in &read.evictions {
        evictions.add(&[("eviction_signal", signal)], Some(*count as f64), None);
    }
    let mut containers =
        counter("kubelet_started_containers_total", "Cumulative number of containers started");
    for (kind, count) in &read.containers {
        containers.add(&[("container_type", kind)], Some(*count as f64), None);
    }
    let help = "Duration in seconds to pull an image.";
    let mut pulls = histogram("kubelet_image_pull_duration_seconds", help);
    for (size, taken) in &read.pulls {
        pulls.histogram(&[("image_size_in_bytes", size)], taken);
    }
    let help =
        "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync";
    let mut rounds = histogram("kubelet_pod_worker_duration_seconds", help);
    for (operation, taken) in &read.rounds {
        rounds.histogram(&[("operation_type", operation)], taken);
    }
    let help = "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run";
    let mut starts = histogram("kubelet_pod_start_duration_seconds", help);
    starts.histogram(&[], &read.pod_starts);
    let pods = counter("kubelet_started_pods_total", "Cumulative number of pods started")
        .single(Some(read.pods as f64), None);
    let mut relists =
        histogram("kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG.");
    relists.histogram(&[], &read.relists);
    let mut families = vec![relists, evictions, containers, pulls, rounds, starts, pods];
    families.extend(operations(shared));
    families.extend(certificates(shared));
    families.extend(shutdown(shared));
    families
}

/// Of the container runtime.
fn operations(shared: &Shared) -> [Family; 3] {
    let mut total = Family::new(
        "kubelet_runtime_operations_total",
        "counter",
        "Cumulative number of runtime operations by operation type.",
    );
    let mut errors = Family::new(
        "kubelet_runtime_operations_errors_total",
        "counter",
        "Cumulative number of runtime operation errors by operation type.",
    );
    let mut durations = Family::new(
        "kubelet_runtime_operations_duration_seconds",
        "histogram",
        "Duration in seconds of runtime operations. Broken down by operation type.",
    );
    for (operation, (taken, failed)) in shared.runtime.operations.read() {
        let labels = [("operation_type", operation)];
        total.add(&labels, Some(taken.count() as f64), None);
        errors.add(&labels, (failed > 0).then_some(failed as f64), None);
        durations.histogram(&labels, &taken);
    }
    [total, errors, durations]
}

/// Of the last graceful shutdown, if there was one.
fn shutdown(shared: &Shared) -> Vec<Family> {
    let last = shared.shutdown.last();
    let Some(start) = last.start_time else { return Vec::new() };
    let seconds = |at: jiff::Timestamp| at.as_millisecond() as f64 / 1000.0;
    let of = |name, help, value| Family::new(name, "gauge", help).single(Some(value), None);
    vec![
        of(
            "kubelet_graceful_shutdown_start_time_seconds",
            "Last graceful shutdown start time since unix epoch in seconds",
            seconds(start),
        ),
        of(
            "kubelet_graceful_shutdown_end_time_seconds",
            "Last graceful shutdown end time since unix epoch in seconds; 0 while it lasts",
            last.end_time.map_or(0.0, seconds),
        ),
    ]
}

/// Of the node's certificates, where they are renewed.
fn certificates(shared: &Shared) -> Vec<Family> {
    let now = shared.config.clock.now();
    let names = [
        (
            "kubelet_certificate_manager_client_ttl_seconds",
            "The TTL of the kubelet's client certificate; infinite while there is none.",
            "kubelet_certificate_manager_client_expiration_renew_errors",
        ),
        (
            "kubelet_certificate_manager_server_ttl_seconds",
            "The TTL of the kubelet's serving certificate; infinite while there is none.",
            "kubelet_server_expiration_renew_errors",
        ),
    ];
    let (client, server) = &shared.config.renewals;
    let mut families = Vec::new();
    for ((ttl, help, errors), measure) in names.into_iter().zip([client, server]) {
        let Some(measure) = measure else { continue };
        let end = *measure.not_after.lock();
        let left = end.map_or(f64::INFINITY, |end| end.duration_since(now).as_secs_f64());
        families.push(Family::new(ttl, "gauge", help).single(Some(left), None));
        let failed = measure.failures.load(std::sync::atomic::Ordering::Relaxed);
        let help = "How often the certificate could not be renewed.";
        families.push(Family::new(errors, "counter", help).single(Some(failed as f64), None));
    }
    families
}
