//! Which of upstream's metrics are here, and why the others are not.

use std::collections::BTreeSet;

use super::table::ALL;

/// Those of `pkg/kubelet` but for what is told elsewhere (probes, certificates), of `pkg/volume/util` and of the client, by
/// name.
const UPSTREAM: &str = include_str!("upstream.txt");

/// What is not told, and why.
const ABSENT: &[(&str, &str)] = &[
    ("csi_operations_seconds", "of CSI, which is not here yet"),
    ("dra_node_prepare_skips_total", "behind DRAOptionalNodeOperations, which is off"),
    ("dra_node_unprepare_skips_total", "behind DRAOptionalNodeOperations, which is off"),
    (
        "force_cleaned_failed_volume_operation_errors_total",
        "volumes are known by their folders: none is reconstructed",
    ),
    (
        "force_cleaned_failed_volume_operations_total",
        "volumes are known by their folders: none is reconstructed",
    ),
    ("kubelet_imagemanager_image_mustpull_checks_total", "of policies of verification"),
    (
        "kubelet_imagemanager_inmemory_pulledrecords_usage_percent",
        "records are read from their files: there is no cache",
    ),
    (
        "kubelet_imagemanager_inmemory_pullintents_usage_percent",
        "records are read from their files: there is no cache",
    ),
    ("kubelet_pleg_discard_events", "there is no queue of events that could be full: workers are woken"),
    ("kubelet_pod_resources_endpoint_errors_get_allocatable", "that answer cannot fail here"),
    ("kubelet_pod_resources_endpoint_errors_list", "that answer cannot fail here"),
    ("kubelet_started_host_process_containers_errors_total", "of Windows"),
    ("kubelet_started_host_process_containers_total", "of Windows"),
    (
        "reconstruct_volume_operations_errors_total",
        "volumes are known by their folders: none is reconstructed",
    ),
    ("reconstruct_volume_operations_total", "volumes are known by their folders: none is reconstructed"),
    (
        "volume_operation_total_seconds",
        "of volumes that are provisioned or attached, which is not the kubelet's here",
    ),
];

#[test]
fn every_metric_of_upstreams_is_told_or_there_is_a_reason() {
    let upstream: BTreeSet<&str> = UPSTREAM.lines().collect();
    let ours: BTreeSet<&str> = ALL.iter().map(|row| row.name).collect();
    let absent: BTreeSet<&str> = ABSENT.iter().map(|(name, _)| *name).collect();
    assert_eq!(ours.len(), ALL.len(), "each name once");
    let missing: Vec<_> = upstream.iter().filter(|name| !ours.contains(*name)).copied().collect();
    assert_eq!(missing, absent.into_iter().collect::<Vec<_>>());
    let invented: Vec<_> = ours.difference(&upstream).collect();
    assert!(invented.is_empty(), "{invented:?}");
}
