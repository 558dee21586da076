//! What was counted, and what is looked at for a request, as the families of `/metrics` and `/metrics/probes`.

use std::sync::Arc;

use super::exposition::{Family, text};
use crate::Shared;
use crate::counts::table::{ALL, Kind};
use crate::counts::{Counts, Value};
use crate::pods::Handle;

/// `/metrics/probes`
pub fn probes(shared: &Shared) -> String {
    let help = "Cumulative number of a liveness, readiness or startup probe for a container by result.";
    let mut family = Family::new("prober_probe_total", "counter", help);
    for (probed, count) in shared.counts.probes() {
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
    let help = "Duration in seconds for a probe response.";
    let mut times = Family::new("prober_probe_duration_seconds", "histogram", help);
    for (probed, histogram) in shared.counts.probe_times() {
        let labels = [
            ("container", probed.container.as_str()),
            ("namespace", probed.namespace.as_str()),
            ("pod", probed.pod.as_str()),
            ("probe_type", probed.kind),
        ];
        times.histogram(&labels, &histogram);
    }
    text(&[times, family])
}

/// The families of the table, for `/metrics`.
pub fn families(shared: &Shared, handles: &[Arc<Handle>]) -> Vec<Family> {
    let seen = Counts::default();
    super::readings::take(shared, handles, &seen);
    let mut families = of(&shared.counts, &seen);
    families.extend(certificates(shared));
    families
}

/// What was counted, and what is seen now.
fn of(counts: &Counts, seen: &Counts) -> Vec<Family> {
    let family = |row: &crate::counts::table::Row| {
        let kind = match row.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let mut family = Family::new(row.name, kind, row.help);
        let series = seen.known(row).unwrap_or_else(|| counts.read(row));
        for (values, value) in &series {
            let labels: Vec<(&'static str, &str)> =
                row.labels.iter().copied().zip(values.iter().map(String::as_str)).collect();
            match value {
                Value::Number(number) => family.add(&labels, Some(*number), None),
                Value::Histogram(histogram) => family.histogram(&labels, histogram),
            }
        }
        family
    };
    ALL.iter().map(family).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::table;

    #[test]
    fn what_is_seen_now_takes_the_place_of_what_was_counted() {
        let (counts, seen) = (Counts::default(), Counts::default());
        counts.count(&table::EVICTIONS, &["memory.available"]);
        counts.set(&table::RUNNING_PODS, &[], 9.0);
        seen.set(&table::RUNNING_PODS, &[], 3.0);
        seen.set(&table::ACTIVE_PODS, &["true"], 1.0);
        let told = text(&of(&counts, &seen));
        for line in [
            "kubelet_evictions{eviction_signal=\"memory.available\"} 1\n",
            "\nkubelet_running_pods 3\n",
            "kubelet_active_pods{static=\"true\"} 1\n",
            "# TYPE kubelet_started_pods_total counter\nkubelet_started_pods_total 0\n",
            "kubelet_pleg_relist_duration_seconds_count 0\n",
        ] {
            assert!(told.contains(line), "{line}: {told}");
        }
        assert!(!told.contains("kubelet_preemptions"), "what never happened has no series");
    }
}
