//! Further flags of `knarr kubelet` that stand for fields of its configuration: those that are rarely given.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// See the module; what is not given leaves the field as it is.
#[derive(Debug, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct More {
    /// Whether containers that name no seccomp profile have the runtime's
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    seccomp_default: Option<bool>,
    /// Whether limits of processors hold
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    cpu_cfs_quota: Option<bool>,
    /// Where anybody may read how the node and its pods are; 0 is nowhere
    #[arg(long)]
    read_only_port: Option<u16>,
    /// The oldest version of TLS, such as VersionTLS12
    #[arg(long)]
    tls_min_version: Option<String>,
    /// The cipher suites of TLS 1.2, by Go's names
    #[arg(long, value_delimiter = ',')]
    tls_cipher_suites: Vec<String>,
    /// How many pulls may begin in a second; 0 is no limit
    #[arg(long)]
    registry_qps: Option<i32>,
    /// How many may begin at once
    #[arg(long)]
    registry_burst: Option<i32>,
    /// Whose images they are [default: the container runtime's]
    #[arg(long)]
    image_service_endpoint: Option<String>,
    /// Whether images are pulled one by one
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    serialize_image_pulls: Option<bool>,
    /// How readily the kernel kills the kubelet
    #[arg(long, allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// How many files the kubelet may have open
    #[arg(long)]
    max_open_files: Option<i64>,
    /// The most processes of a pod
    #[arg(long, allow_negative_numbers = true)]
    pod_max_pids: Option<i64>,
    /// The most pods for each processor; 0 is no limit
    #[arg(long)]
    pods_per_core: Option<i32>,
    /// The resolver's configuration that pods may inherit; empty is none
    #[arg(long)]
    resolv_conf: Option<String>,
    /// Whether commands run in containers, and logs are read, by the kubelet's own API
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    enable_debugging_handlers: Option<bool>,
    /// Whose limits are enforced: pods,system-reserved,…
    #[arg(long, value_delimiter = ',')]
    enforce_node_allocatable: Vec<String>,
    /// The cgroup of the system
    #[arg(long)]
    system_reserved_cgroup: Option<String>,
    /// The cgroup of Kubernetes
    #[arg(long)]
    kube_reserved_cgroup: Option<String>,
    /// Whether limits of local storage hold
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    local_storage_capacity_isolation: Option<bool>,
    /// The most images that the node tells of; -1 is all
    #[arg(long, allow_negative_numbers = true)]
    node_status_max_images: Option<i32>,
    /// How old an unused image is at least when it goes
    #[arg(long)]
    minimum_image_ttl_duration: Option<String>,
    /// How often what pods' volumes show is compared with the API
    #[arg(long)]
    sync_frequency: Option<String>,
    /// How many events are written in a second
    #[arg(long)]
    event_qps: Option<i32>,
    /// How many at once
    #[arg(long)]
    event_burst: Option<i32>,
    /// How many requests the API server is sent in a second
    #[arg(long)]
    kube_api_qps: Option<i32>,
    /// How many at once
    #[arg(long)]
    kube_api_burst: Option<i32>,
    /// How long the container runtime has to answer
    #[arg(long)]
    runtime_request_timeout: Option<String>,
    /// The period in which limits of processors hold
    #[arg(long)]
    cpu_cfs_quota_period: Option<String>,
    /// Whether the kernel's settings have to be as the kubelet would make them
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    protect_kernel_defaults: Option<bool>,
}

impl More {
    /// What was given, under the names of KubeletConfiguration; null where nothing was.
    pub fn overlay(&self) -> Map<String, Value> {
        let list = |list: &[String]| Some(list.to_vec()).filter(|list| !list.is_empty());
        let value = json!({
            "seccompDefault": self.seccomp_default,
            "cpuCFSQuota": self.cpu_cfs_quota,
            "readOnlyPort": self.read_only_port,
            "tlsMinVersion": self.tls_min_version,
            "tlsCipherSuites": list(&self.tls_cipher_suites),
            "registryPullQPS": self.registry_qps,
            "registryBurst": self.registry_burst,
            "imageServiceEndpoint": self.image_service_endpoint,
            "serializeImagePulls": self.serialize_image_pulls,
            "oomScoreAdj": self.oom_score_adj,
            "maxOpenFiles": self.max_open_files,
            "podPidsLimit": self.pod_max_pids,
            "podsPerCore": self.pods_per_core,
            "resolvConf": self.resolv_conf,
            "enableDebuggingHandlers": self.enable_debugging_handlers,
            "enforceNodeAllocatable": list(&self.enforce_node_allocatable),
            "systemReservedCgroup": self.system_reserved_cgroup,
            "kubeReservedCgroup": self.kube_reserved_cgroup,
            "localStorageCapacityIsolation": self.local_storage_capacity_isolation,
            "nodeStatusMaxImages": self.node_status_max_images,
            "imageMinimumGCAge": self.minimum_image_ttl_duration,
            "syncFrequency": self.sync_frequency,
            "eventRecordQPS": self.event_qps,
            "eventBurst": self.event_burst,
            "kubeAPIQPS": self.kube_api_qps,
            "kubeAPIBurst": self.kube_api_burst,
            "runtimeRequestTimeout": self.runtime_request_timeout,
            "cpuCFSQuotaPeriod": self.cpu_cfs_quota_period,
            "protectKernelDefaults": self.protect_kernel_defaults,
        });
        match value {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        more: More,
    }

    #[test]
    fn flags_are_fields_of_the_configuration() {
        let words = "kubelet --seccomp-default --pod-max-pids=-1 --oom-score-adj -500 --cpu-cfs-quota=false \
                     --tls-cipher-suites X,Y";
        let fields = Only::parse_from(words.split_whitespace()).more.overlay();
        let given: Map<String, Value> = fields.into_iter().filter(|(_, value)| !value.is_null()).collect();
        assert_eq!(
            Value::Object(given),
            json!({"seccompDefault": true, "podPidsLimit": -1, "oomScoreAdj": -500, "cpuCFSQuota": false,
                "tlsCipherSuites": ["X", "Y"]})
        );
    }
}
