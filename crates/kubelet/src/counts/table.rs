//! The table of metrics: one row for each, under upstream's name (`pkg/kubelet`, `pkg/volume/util`,
//! `component-base/metrics/prometheus/restclient`).

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// Upper bounds, in the unit of the metric.
    Histogram(&'static [f64]),
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

/// Bounds in seconds.
const POD_START_BOUNDS: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
const IMAGE_PULL_BOUNDS: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0,
    2700.0, 3600.0,
];
/// Prometheus' own.
pub const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// 5 ms, and each 2.5 times the one before it.
const OPERATION: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];
const STATUS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
/// From 0.1 to 40 seconds in 15 steps of the same ratio.
const CLAIMS: &[f64] = &[
    0.1,
    0.15341274046343842,
    0.23535468936502527,
    0.3610640788074783,
    0.5539182981429955,
    0.8497812405164085,
    1.3036726867407036,
    2.0,
    3.0682548092687676,
    4.707093787300504,
    7.221281576149562,
    11.078365962859903,
    16.99562481032816,
    26.07345373481405,
    40.0,
];
/// 50 µs, and each twice the one before it, in milliseconds.
const PLACING: &[f64] =
    &[0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2];
/// In milliseconds.
const RESIZE_BOUNDS: &[f64] = &[
    10.0, 50.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0, 60_000.0, 120_000.0,
    300_000.0, 600_000.0,
];
/// In seconds.
const RESIZE_WAITS: &[f64] = &[
    5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 150.0, 180.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
];
/// In seconds.
const STORAGE: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0];
const ASKED: &[f64] = &[0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const FEW: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0];

use Kind::{Counter, Gauge, Histogram};

macro_rules! table {
    ($($id:ident: $kind:expr, $name:literal, [$($label:literal),*], $help:literal;)*) => {
        $(pub const $id: Row = Row { name: $name, kind: $kind, labels: &[$($label),*], help: $help };)*
        /// All of them, in the order in which they are told.
        pub const ALL: &[Row] = &[$($id),*];
    };
}

table! {
    NODE_NAME: Gauge, "kubelet_node_name", ["node"], "The node's name. The count is always 1.";
    CGROUP_VERSION: Gauge, "kubelet_cgroup_version", [], "The version of control groups: 1 or 2.";
    STARTUP_BEFORE: Gauge, "kubelet_node_startup_pre_kubelet_duration_seconds", [],
        "Seconds from the machine's start to the kubelet's.";
    STARTUP_TO_REGISTRATION: Gauge, "kubelet_node_startup_pre_registration_duration_seconds", [],
        "Seconds from the kubelet's start to the first attempt to register the node.";
    STARTUP_REGISTRATION: Gauge, "kubelet_node_startup_registration_duration_seconds", [],
        "Seconds from the first attempt to register the node to its success.";
    STARTUP_TO_READY: Gauge, "kubelet_node_startup_post_registration_duration_seconds", [],
        "Seconds from the registration to the node's first readiness.";
    STARTUP: Gauge, "kubelet_node_startup_duration_seconds", [],
        "Seconds from the machine's start to the node's first readiness.";

    RUNNING_PODS: Gauge, "kubelet_running_pods", [], "Number of pods that have a running pod sandbox";
    RUNNING_CONTAINERS: Gauge, "kubelet_running_containers", ["container_state"],
        "Number of containers, by state";
    DESIRED_PODS: Gauge, "kubelet_desired_pods", ["static"], "Number of pods that are to run here.";
    ACTIVE_PODS: Gauge, "kubelet_active_pods", ["static"],
        "Number of pods that count when a new one is to be taken.";
    MIRROR_PODS: Gauge, "kubelet_mirror_pods", [], "Number of static pods that the API server is to show.";
    WORKING_PODS: Gauge, "kubelet_working_pods", ["config", "lifecycle", "static"],
        "Number of pods of which there is something here, by what is done with them.";
    EPHEMERAL_CONTAINERS: Gauge, "kubelet_managed_ephemeral_containers", [],
        "Number of ephemeral containers of this node's pods.";
    ORPHANED_PODS: Counter, "kubelet_orphaned_runtime_pods_total", [],
        "How often the runtime had a pod that nobody knew.";
    RESTARTED_PODS: Counter, "kubelet_restarted_pods_total", ["static"],
        "How often a pod came back with the uid that it had before.";
    CONTAINERS_PER_POD: Histogram(FEW), "kubelet_containers_per_pod_count", [],
        "How many containers pods have.";

    POD_WORKER: Histogram(USUAL), "kubelet_pod_worker_duration_seconds", ["operation_type"],
        "Seconds that one look at a pod takes: create or sync";
    POD_WORKER_START: Histogram(USUAL), "kubelet_pod_worker_start_duration_seconds", [],
        "Seconds from seeing a pod to its worker's start.";
    POD_START: Histogram(POD_START_BOUNDS), "kubelet_pod_start_duration_seconds", [],
        "Seconds from seeing a pod for the first time to its running";
    POD_START_SLI: Histogram(POD_START_BOUNDS), "kubelet_pod_start_sli_duration_seconds", [],
        "Seconds from a pod's creation to its running, without pulls of images and init containers";
    POD_START_TOTAL: Histogram(POD_START_BOUNDS), "kubelet_pod_start_total_duration_seconds", [],
        "Seconds from a pod's creation to its running";
    FIRST_POD_START: Gauge, "kubelet_first_network_pod_start_sli_duration_seconds", [],
        "The same of the first pod with a network of its own";
    POD_STATUS_SYNC: Histogram(STATUS), "kubelet_pod_status_sync_duration_seconds", [],
        "Seconds from a change of a pod's status to the API server's knowing it.";
    STARTED_PODS: Counter, "kubelet_started_pods_total", [], "Cumulative number of pods started";
    STARTED_PODS_ERRORS: Counter, "kubelet_started_pods_errors_total", [],
        "Cumulative number of pods that could not be started";
    USER_PODS: Counter, "kubelet_started_user_namespaced_pods_total", [],
        "Cumulative number of pods started with users of their own";
    USER_PODS_ERRORS: Counter, "kubelet_started_user_namespaced_pods_errors_total", [],
        "Cumulative number of pods with users of their own that could not be started";
    STARTED_CONTAINERS: Counter, "kubelet_started_containers_total", ["container_type"],
        "Cumulative number of containers started";
    STARTED_CONTAINERS_ERRORS: Counter, "kubelet_started_containers_errors_total", ["code", "container_type"],
        "Cumulative number of containers that could not be started";
    TERMINATED_CONTAINERS: Counter, "kubelet_terminated_containers_total",
        ["container_type", "exit_code", "reason"], "Cumulative number of containers that ended.";
    SLEEPS_CUT: Counter, "kubelet_sleep_action_terminated_early_total", [],
        "How often a hook's sleep was cut short.";
    HOOK_FALLBACKS: Counter, "kubelet_lifecycle_handler_http_fallbacks_total", [],
        "How often a hook by HTTPS worked by HTTP.";

    ADMITTED: Counter, "kubelet_pod_level_resources_admission_total", ["config_mode", "qos_class"],
        "Number of pods that the node took, by where their resources are declared.";
    ADMISSION_REJECTIONS: Counter, "kubelet_admission_rejections_total", ["reason"],
        "Cumulative number of pods that were not taken.";
    EVICTIONS: Counter, "kubelet_evictions", ["eviction_signal"],
        "Cumulative number of pod evictions by eviction signal";
    EVICTION_AGE: Histogram(USUAL), "kubelet_eviction_stats_age_seconds", ["eviction_signal"],
        "How old what was measured was when it decided over an eviction";
    PREEMPTIONS: Counter, "kubelet_preemptions", ["preemption_signal"],
        "Cumulative number of pods that made room, by the resource that was missing";

    RELIST: Histogram(USUAL), "kubelet_pleg_relist_duration_seconds", [],
        "Seconds that it takes to ask the runtime for everything.";
    RELIST_INTERVAL: Histogram(USUAL), "kubelet_pleg_relist_interval_seconds", [],
        "Seconds between two times that the runtime was asked for everything.";
    RELIST_LAST: Gauge, "kubelet_pleg_last_seen_seconds", [],
        "When the runtime was asked for everything last, in seconds since 1970.";
    RELIST_POD: Histogram(USUAL), "kubelet_pleg_pod_relist_duration_seconds", [],
        "Seconds that it takes to ask the runtime for one pod.";
    EVENTS_CONNECTED: Counter, "kubelet_evented_pleg_connection_success_count", [],
        "How often the runtime began to tell of its containers.";
    EVENTS_REFUSED: Counter, "kubelet_evented_pleg_connection_error_count", [],
        "How often it could not be had to.";
    EVENTS_LATENCY: Histogram(USUAL), "kubelet_evented_pleg_connection_latency_seconds", [],
        "Seconds from what happened to a container to hearing of it.";

    RUNTIME_OPERATIONS: Counter, "kubelet_runtime_operations_total", ["operation_type"],
        "Cumulative number of runtime operations by operation type.";
    RUNTIME_OPERATIONS_ERRORS: Counter, "kubelet_runtime_operations_errors_total", ["operation_type"],
        "Cumulative number of runtime operation errors by operation type.";
    RUNTIME_OPERATIONS_DURATION: Histogram(OPERATION), "kubelet_runtime_operations_duration_seconds",
        ["operation_type"], "Duration in seconds of runtime operations. Broken down by operation type.";
    SANDBOX: Histogram(USUAL), "kubelet_run_podsandbox_duration_seconds", ["runtime_handler"],
        "Seconds that it takes to make a sandbox, by handler.";
    SANDBOX_ERRORS: Counter, "kubelet_run_podsandbox_errors_total", ["runtime_handler"],
        "Cumulative number of sandboxes that could not be made, by handler.";
    CGROUPS: Histogram(USUAL), "kubelet_cgroup_manager_duration_seconds", ["operation_type"],
        "Seconds that it takes to make, change and remove pods' control groups.";

    IMAGE_PULL: Histogram(IMAGE_PULL_BOUNDS), "kubelet_image_pull_duration_seconds", ["image_size_in_bytes"],
        "Duration in seconds to pull an image.";
    IMAGES_ENSURED: Counter, "kubelet_image_manager_ensure_image_requests_total",
        ["present_locally", "pull_policy", "pull_required"], "Number of ensure-image requests processed by the kubelet.";
    PULLS_BEGUN: Gauge, "kubelet_imagemanager_ondisk_pullintents", [],
        "Number of pulls of which it is written down that they began, and not that they ended.";
    PULLS_NOTED: Gauge, "kubelet_imagemanager_ondisk_pulledrecords", [],
        "Number of images of which it is written down who pulled them.";
    PROVIDER: Histogram(USUAL), "kubelet_credential_provider_plugin_duration", ["plugin_name"],
        "Seconds that a credential provider takes to answer.";
    PROVIDER_ERRORS: Counter, "kubelet_credential_provider_plugin_errors_total", ["plugin_name"],
        "How often a credential provider was of no help.";
    IMAGES_COLLECTED: Counter, "kubelet_image_garbage_collected_total", ["reason"],
        "Cumulative number of unused images removed: for age or for space.";
    IMAGE_VOLUMES: Counter, "kubelet_image_volume_requested_total", [], "Number of requested image volumes.";
    IMAGE_VOLUMES_MOUNTED: Counter, "kubelet_image_volume_mounted_succeed_total", [],
        "Number of successful image volume mounts.";
    IMAGE_VOLUMES_ERRORS: Counter, "kubelet_image_volume_mounted_errors_total", [],
        "Number of failed image volume mounts.";
    ORPHANS_CLEANED: Gauge, "kubelet_orphan_pod_cleaned_volumes", [],
        "Number of unknown pods whose volumes were removed at the last sweep.";
    ORPHANS_ERRORS: Gauge, "kubelet_orphan_pod_cleaned_volumes_errors", [],
        "Number of unknown pods whose volumes could not be removed then.";

    DEVICE_REGISTRATIONS: Counter, "kubelet_device_plugin_registration_total", ["resource_name"],
        "Cumulative number of registrations of device plugins.";
    DEVICE_ALLOCATIONS: Histogram(USUAL), "kubelet_device_plugin_alloc_duration_seconds", ["resource_name"],
        "Seconds that a device plugin takes to give devices.";
    CPU_PINNING: Counter, "kubelet_cpu_manager_pinning_requests_total", [],
        "Number of containers that were to have processors for themselves.";
    CPU_PINNING_ERRORS: Counter, "kubelet_cpu_manager_pinning_errors_total", [],
        "Number of those that did not get them.";
    MEMORY_MIN: Gauge, "kubelet_memory_qos_node_memory_min_bytes", [],
        "Bytes that are never taken from pods of the class Guaranteed.";
    MEMORY_LOW: Gauge, "kubelet_memory_qos_node_memory_low_bytes", [],
        "Bytes that are taken last from pods of the class Burstable.";
    CPU_SHARED: Gauge, "kubelet_cpu_manager_shared_pool_size_millicores", [],
        "What all others share, in thousandths of a processor.";
    CPU_EXCLUSIVE: Gauge, "kubelet_cpu_manager_exclusive_cpu_allocation_count", [],
        "Number of processors that containers have for themselves.";
    CPU_PER_NUMA: Gauge, "kubelet_cpu_manager_allocation_per_numa", ["numa_node"],
        "The same, by NUMA node.";
    MEMORY_PINNING: Counter, "kubelet_memory_manager_pinning_requests_total", [],
        "Number of containers that were to have memory for themselves.";
    MEMORY_PINNING_ERRORS: Counter, "kubelet_memory_manager_pinning_errors_total", [],
        "Number of those that did not get it.";
    ALLOCATIONS: Counter, "kubelet_resource_manager_allocations_total", ["resource_name", "source"],
        "Number of times that processors or memory were given, of the node's or of a pod's.";
    ALLOCATION_ERRORS: Counter, "kubelet_resource_manager_allocation_errors_total", ["resource_name", "source"],
        "Number of times that they were not.";
    ASSIGNMENTS: Counter, "kubelet_resource_manager_container_assignments_total",
        ["assignment_type", "resource_name"],
        "Number of containers that have some for themselves, or share their pod's.";
    PLACEMENTS: Counter, "kubelet_topology_manager_admission_requests_total", [],
        "Number of pods whose resources were placed.";
    PLACEMENT_ERRORS: Counter, "kubelet_topology_manager_admission_errors_total", [],
        "Number of those whose resources could not be near to each other.";
    PLACEMENT: Histogram(PLACING), "kubelet_topology_manager_admission_duration_ms", [],
        "Milliseconds that it takes to place a pod's resources.";
    ALIGNED: Counter, "kubelet_container_aligned_compute_resources_count", ["boundary", "scope"],
        "Number of placements within a boundary.";
    ALIGNED_ERRORS: Counter, "kubelet_container_aligned_compute_resources_failure_count",
        ["boundary", "scope"], "Number of placements that failed at a boundary.";

    CLAIMS_DURATION: Histogram(CLAIMS), "dra_operations_duration_seconds", ["is_error", "operation_name"],
        "Seconds that it takes to prepare and to give back all claims of a pod.";
    CLAIMS_CALLS: Histogram(CLAIMS), "dra_grpc_operations_duration_seconds",
        ["driver_name", "grpc_status_code", "method_name"], "Seconds that calls of drivers take.";
    CLAIMS_IN_USE: Gauge, "dra_resource_claims_in_use", ["driver_name"],
        "Number of claims that pods use, by driver, and of all of them.";
    RESOURCES_ASKED: Counter, "kubelet_pod_resources_endpoint_requests_total", ["server_api_version"],
        "Cumulative number of questions for pods' resources.";
    RESOURCES_LIST: Counter, "kubelet_pod_resources_endpoint_requests_list", ["server_api_version"],
        "The same, for those of all pods.";
    RESOURCES_GET: Counter, "kubelet_pod_resources_endpoint_requests_get", ["server_api_version"],
        "The same, for those of one.";
    RESOURCES_ALLOCATABLE: Counter, "kubelet_pod_resources_endpoint_requests_get_allocatable",
        ["server_api_version"], "The same, for those of the node.";
    RESOURCES_GET_ERRORS: Counter, "kubelet_pod_resources_endpoint_errors_get", ["server_api_version"],
        "Number of questions for a pod that is not here.";
    PODS_ASKED: Counter, "kubelet_pod_requests_total", ["server_api_version", "status_code"],
        "Cumulative number of questions for pods, over the socket for that.";
    PODS_LIST: Counter, "kubelet_pod_requests_list_total", ["server_api_version", "status_code"],
        "The same, for all pods.";
    PODS_GET: Counter, "kubelet_pod_requests_get_total", ["server_api_version", "status_code"],
        "The same, for one.";
    PODS_WATCH: Counter, "kubelet_pod_requests_watch_total", ["server_api_version", "status_code"],
        "The same, for what happens to them.";
    PODS_DROPPED: Counter, "kubelet_pod_watch_events_dropped_total", [],
        "Cumulative number of events of pods that nobody was told.";

    RESIZES: Counter, "kubelet_container_requested_resizes_total", ["operation", "requirement", "resource"],
        "Number of changes of containers' resources that were wanted.";
    RESIZE: Histogram(RESIZE_BOUNDS), "kubelet_pod_resize_duration_milliseconds", ["success"],
        "Milliseconds that it takes to give a pod other resources";
    RESIZES_PENDING: Gauge, "kubelet_pod_pending_resizes", ["reason", "priority_bucket"],
        "Number of pods that do not have the resources that they want.";
    RESIZES_INFEASIBLE: Counter, "kubelet_pod_infeasible_resizes_total", ["reason_detail"],
        "Number of changes that this node never can make.";
    RESIZES_IN_PROGRESS: Gauge, "kubelet_pod_in_progress_resizes", [],
        "Number of pods that are being given other resources.";
    RESIZES_DEFERRED: Counter, "kubelet_pod_deferred_accepted_resizes_total", ["retry_trigger"],
        "Number of changes that were made after all.";
    RESIZES_WAITED: Histogram(RESIZE_WAITS), "kubelet_pod_deferred_resize_duration_seconds",
        ["resolution", "priority_bucket"], "Seconds that pods waited for resources that they wanted.";

    STORAGE_OPERATION: Histogram(STORAGE), "storage_operation_duration_seconds",
        ["migrated", "operation_name", "status", "volume_plugin"],
        "Seconds that it takes to make and to remove volumes.";
    VOLUMES: Gauge, "volume_manager_total_volumes", ["plugin_name", "state"],
        "Number of volumes that pods want, and of those that are there.";
    VOLUME_CAPACITY: Gauge, "kubelet_volume_stats_capacity_bytes", ["namespace", "persistentvolumeclaim"],
        "Capacity in bytes of the volume";
    VOLUME_AVAILABLE: Gauge, "kubelet_volume_stats_available_bytes", ["namespace", "persistentvolumeclaim"],
        "Number of available bytes in the volume";
    VOLUME_USED: Gauge, "kubelet_volume_stats_used_bytes", ["namespace", "persistentvolumeclaim"],
        "Number of used bytes in the volume";
    VOLUME_INODES: Gauge, "kubelet_volume_stats_inodes", ["namespace", "persistentvolumeclaim"],
        "Maximum number of inodes in the volume";
    VOLUME_INODES_FREE: Gauge, "kubelet_volume_stats_inodes_free", ["namespace", "persistentvolumeclaim"],
        "Number of free inodes in the volume";
    VOLUME_INODES_USED: Gauge, "kubelet_volume_stats_inodes_used", ["namespace", "persistentvolumeclaim"],
        "Number of used inodes in the volume";
    POD_CERTIFICATES: Gauge, "kubelet_podcertificate_states", ["signer_name", "state"],
        "Number of pods' certificates, by signer and by how fresh they are.";
    LOG_BYTES: Gauge, "kubelet_container_log_filesystem_used_bytes", ["container", "namespace", "pod", "uid"],
        "Bytes that a container's logs take of the disk.";
    SHUTDOWN_START: Gauge, "kubelet_graceful_shutdown_start_time_seconds", [],
        "Last graceful shutdown start time since unix epoch in seconds";
    SHUTDOWN_END: Gauge, "kubelet_graceful_shutdown_end_time_seconds", [],
        "Last graceful shutdown end time since unix epoch in seconds; 0 while it lasts";

    ASKED_REQUESTS: Counter, "rest_client_requests_total", ["code", "host", "method"],
        "Number of HTTP requests, partitioned by status code, method, and host.";
    ASKED_DURATION: Histogram(ASKED), "rest_client_request_duration_seconds", ["host", "verb"],
        "Request latency in seconds. Broken down by verb, and host.";
    HTTP_REQUESTS: Counter, "kubelet_http_requests_total", ["long_running", "method", "path", "server_type"],
        "Number of requests to the kubelet's own API.";
    HTTP_DURATION: Histogram(USUAL), "kubelet_http_requests_duration_seconds",
        ["long_running", "method", "path", "server_type"], "Seconds that they take.";
    HTTP_INFLIGHT: Gauge, "kubelet_http_inflight_requests",
        ["long_running", "method", "path", "server_type"], "Number of those that are being answered.";
}
