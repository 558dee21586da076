//! KubeletConfiguration (`kubelet.config.k8s.io/v1beta1`): a file, drop-ins that are merged over it in the order of
//! their names, and flags over both. Every field of upstream's is known (`fields`); what the code reads stands in
//! [`Fields`]; `validate` has upstream's rules.
//!
//! Knows nothing of what is done with a setting.

mod crash;
pub mod duration;
mod fields;
mod idle;
mod logging;
mod validate;
mod verify;

pub use crash::CrashLoopBackOff;
pub use duration::parse as duration;
pub use logging::{Format, Logging};
pub use verify::{Verify, repository};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use kinds::gates::{Gate, Gates};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cpus::CpuSet;

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";
const GATES: &str = "featureGates";
/// Upstream's thresholds for a configuration that names none.
const EVICTION_HARD: [(&str, &str); 5] = [
    ("memory.available", "100Mi"),
    ("nodefs.available", "10%"),
    ("nodefs.inodesFree", "5%"),
    ("imagefs.available", "15%"),
    ("imagefs.inodesFree", "5%"),
];
/// Paths, which are meant from where the file is.
const PATHS: &[&[&str]] = &[
    &["staticPodPath"],
    &["authentication", "x509", "clientCAFile"],
    &["tlsCertFile"],
    &["tlsPrivateKeyFile"],
    &["resolvConf"],
    &["podLogsDir"],
];

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// A file or folder cannot be read.
    #[error("failed to read kubelet config file {:?}, error: {source}", path.display().to_string())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file says nothing.
    #[error("kubelet config file {:?} was empty", .0.display().to_string())]
    Empty(PathBuf),
    /// A file is no KubeletConfiguration.
    #[error("failed to load kubelet config file, path: {}, error: failed to decode: {why}", path.display())]
    Decode {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Values that cannot be.
    #[error("failed to validate kubelet configuration, error: {}", aggregate(.0))]
    Invalid(Vec<String>),
}

/// As Go's aggregate of errors is written.
fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// What the kubelet and its validation read. Fields that have a default are never missing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fields {
    #[serde(default)]
    pub static_pod_path: String,
    /// How often what pods' volumes show is compared with the API.
    #[serde(deserialize_with = "duration::deserialize")]
    pub sync_frequency: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    pub file_check_frequency: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    pub http_check_frequency: Duration,
    #[serde(default, rename = "staticPodURL")]
    pub static_pod_url: String,
    #[serde(default, rename = "staticPodURLHeader")]
    pub static_pod_url_header: BTreeMap<String, Vec<String>>,
    pub pod_logs_dir: PathBuf,
    pub address: String,
    pub port: i32,
    #[serde(default)]
    pub read_only_port: i32,
    #[serde(default)]
    pub tls_cipher_suites: Vec<String>,
    #[serde(default)]
    pub tls_min_version: String,
    #[serde(default)]
    pub tls_curve_preferences: Vec<i32>,
    #[serde(default)]
    pub tls_cert_file: String,
    #[serde(default)]
    pub tls_private_key_file: String,
    #[serde(default)]
    pub rotate_certificates: bool,
    #[serde(default, rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    pub authentication: Authentication,
    pub authorization: Authorization,
    /// Whether the kubelet's own API is served; the one that anybody may read goes by its port.
    pub enable_server: bool,
    /// Of a kubelet without an API server.
    #[serde(default, rename = "podCIDR")]
    pub pod_cidr: String,
    #[serde(rename = "registryPullQPS")]
    pub registry_pull_qps: i32,
    pub registry_burst: i32,
    pub image_pull_credentials_verification_policy: String,
    #[serde(default)]
    pub preloaded_images_verification_allowlist: Vec<String>,
    #[serde(rename = "eventRecordQPS")]
    pub event_record_qps: i32,
    pub event_burst: i32,
    pub enable_debugging_handlers: bool,
    pub healthz_port: i32,
    pub healthz_bind_address: String,
    pub oom_score_adj: i32,
    #[serde(default)]
    pub cluster_domain: String,
    #[serde(default, rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    #[serde(deserialize_with = "duration::deserialize")]
    pub node_status_update_frequency: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    pub node_status_report_frequency: Duration,
    pub node_lease_duration_seconds: i32,
    #[serde(rename = "imageMinimumGCAge", deserialize_with = "duration::deserialize")]
    pub image_minimum_gc_age: Duration,
    #[serde(rename = "imageMaximumGCAge", deserialize_with = "duration::deserialize")]
    pub image_maximum_gc_age: Duration,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: i32,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: i32,
    /// The group of the kubelet itself, by its path.
    #[serde(default)]
    pub kubelet_cgroups: String,
    /// The group of the machine's other processes that have none, by its path.
    #[serde(default)]
    pub system_cgroups: String,
    /// Settings of the kernel that every pod has.
    #[serde(default)]
    pub default_pod_sysctls: BTreeMap<String, String>,
    #[serde(default)]
    pub cgroup_root: String,
    /// Who makes cgroups, unless the runtime says who: `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: bool,
    /// Of what pods of a class ask for, how much those of lesser classes leave to them: percentages by resource.
    #[serde(default, rename = "qosReserved")]
    pub qos_reserved: BTreeMap<String, String>,
    /// Whether the kernel kills one process of a container whose memory is short; not known: by the version of cgroups.
    #[serde(default, rename = "singleProcessOOMKill")]
    pub single_process_oom_kill: Option<bool>,
    #[serde(rename = "failCgroupV1")]
    pub fail_cgroup_v1: bool,
    #[serde(default)]
    pub protect_kernel_defaults: bool,
    #[serde(default)]
    pub user_namespaces: UserNamespaces,
    #[serde(default)]
    pub logging: Logging,
    pub cpu_manager_policy: String,
    #[serde(default)]
    pub cpu_manager_policy_options: BTreeMap<String, String>,
    pub memory_manager_policy: String,
    pub topology_manager_policy: String,
    pub topology_manager_scope: String,
    #[serde(default)]
    pub topology_manager_policy_options: BTreeMap<String, String>,
    #[serde(deserialize_with = "duration::deserialize")]
    pub runtime_request_timeout: Duration,
    #[serde(default, rename = "reservedSystemCPUs")]
    pub reserved_system_cpus: String,
    #[serde(default)]
    pub reserved_memory: Vec<ReservedMemory>,
    #[serde(default)]
    pub feature_gates: BTreeMap<String, bool>,
    /// What these come to.
    #[serde(skip)]
    pub gates: Gates,
    pub hairpin_mode: String,
    pub max_pods: i32,
    pub pod_pids_limit: i64,
    /// Empty: pods inherit nothing.
    #[serde(default)]
    pub resolv_conf: String,
    #[serde(default)]
    pub run_once: bool,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: bool,
    #[serde(rename = "cpuCFSQuotaPeriod", deserialize_with = "duration::deserialize")]
    pub cpu_cfs_quota_period: Duration,
    pub node_status_max_images: i32,
    pub max_open_files: i64,
    #[serde(rename = "kubeAPIQPS")]
    pub kube_api_qps: i32,
    #[serde(rename = "kubeAPIBurst")]
    pub kube_api_burst: i32,
    pub serialize_image_pulls: bool,
    #[serde(default)]
    pub max_parallel_image_pulls: Option<i32>,
    #[serde(default)]
    pub eviction_hard: BTreeMap<String, String>,
    #[serde(default)]
    pub eviction_soft: BTreeMap<String, String>,
    #[serde(default)]
    pub eviction_soft_grace_period: BTreeMap<String, String>,
    #[serde(deserialize_with = "duration::deserialize")]
    pub eviction_pressure_transition_period: Duration,
    #[serde(default)]
    pub eviction_max_pod_grace_period: i32,
    #[serde(default)]
    pub eviction_minimum_reclaim: BTreeMap<String, String>,
    #[serde(default)]
    pub pods_per_core: i32,
    pub iptables_masquerade_bit: i32,
    pub iptables_drop_bit: i32,
    pub fail_swap_on: bool,
    pub memory_swap: MemorySwap,
    #[serde(default)]
    pub crash_loop_back_off: CrashLoopBackOff,
    pub container_log_max_size: String,
    pub container_log_max_files: i32,
    pub container_log_max_workers: i32,
    #[serde(deserialize_with = "duration::deserialize")]
    pub container_log_monitor_interval: Duration,
    #[serde(default)]
    pub system_reserved: BTreeMap<String, String>,
    #[serde(default)]
    pub kube_reserved: BTreeMap<String, String>,
    #[serde(default)]
    pub system_reserved_cgroup: String,
    #[serde(default)]
    pub kube_reserved_cgroup: String,
    pub enforce_node_allocatable: Vec<String>,
    #[serde(default, rename = "providerID")]
    pub provider_id: String,
    pub enable_system_log_handler: bool,
    #[serde(default)]
    pub enable_system_log_query: bool,
    #[serde(deserialize_with = "duration::deserialize")]
    pub shutdown_grace_period: Duration,
    #[serde(deserialize_with = "duration::deserialize")]
    pub shutdown_grace_period_critical_pods: Duration,
    #[serde(default)]
    pub shutdown_grace_period_by_pod_priority: Vec<ShutdownPeriod>,
    pub enable_debug_flags_handler: bool,
    pub enable_profiling_handler: bool,
    pub local_storage_capacity_isolation: bool,
    pub seccomp_default: bool,
    #[serde(default)]
    pub memory_throttling_factor: Option<f64>,
    pub memory_reservation_policy: String,
    #[serde(default)]
    pub allowed_unsafe_sysctls: Vec<String>,
    #[serde(default)]
    pub register_with_taints: Vec<Taint>,
    pub register_node: bool,
    pub container_runtime_endpoint: String,
    /// Empty: the runtime's.
    #[serde(default)]
    pub image_service_endpoint: String,
}

/// Users of pods that have them for themselves.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct UserNamespaces {
    /// How many each pod has.
    #[serde(default, rename = "idsPerPod")]
    pub ids_per_pod: Option<i64>,
}

/// How long pods of a priority have when the node shuts down.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShutdownPeriod {
    #[serde(default)]
    pub priority: i32,
    #[serde(default)]
    pub shutdown_grace_period_seconds: i64,
}

/// Who may be who.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: WebhookAuthentication,
    pub anonymous: Anonymous,
}

/// Client certificates.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct X509 {
    #[serde(default, rename = "clientCAFile")]
    pub client_ca_file: String,
}

/// Tokens, by TokenReview.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct WebhookAuthentication {
    pub enabled: bool,
    #[serde(rename = "cacheTTL", deserialize_with = "duration::deserialize")]
    pub cache_ttl: Duration,
}

/// Whoever shows nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Anonymous {
    pub enabled: bool,
}

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Authorization {
    pub mode: String,
    pub webhook: WebhookAuthorization,
}

/// By SubjectAccessReview.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct WebhookAuthorization {
    #[serde(rename = "cacheAuthorizedTTL", deserialize_with = "duration::deserialize")]
    pub cache_authorized_ttl: Duration,
    #[serde(rename = "cacheUnauthorizedTTL", deserialize_with = "duration::deserialize")]
    pub cache_unauthorized_ttl: Duration,
}

/// Swap.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct MemorySwap {
    #[serde(default, rename = "swapBehavior")]
    pub swap_behavior: String,
}

/// Memory of a NUMA node that is not given to pods.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservedMemory {
    #[serde(default)]
    pub numa_node: i32,
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    value: Map<String, Value>,
    /// What is read of it.
    pub fields: Fields,
    /// The fields that files named.
    pub named: BTreeSet<String>,
}

/// A file's text and where it stands.
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

impl Configuration {
    /// Reads the file and the drop-ins (`*.conf`, below the folder, too), with flags over both. The warnings name
    /// what is unknown, and what has no effect here.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn load(
        file: Option<&Path>,
        folder: Option<&Path>,
        flags: Map<String, Value>,
    ) -> Result<(Self, Vec<String>), ConfigurationError> {
        Self::load_over(Map::new(), file, folder, flags)
    }

    /// The same over fields that have other defaults than upstream's: a file that names one has it as a whole.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn load_over(
        own: Map<String, Value>,
        file: Option<&Path>,
        folder: Option<&Path>,
        flags: Map<String, Value>,
    ) -> Result<(Self, Vec<String>), ConfigurationError> {
        let mut paths: Vec<PathBuf> = file.map(Path::to_owned).into_iter().collect();
        if let Some(folder) = folder {
            let mut found = Vec::new();
            drop_ins(folder, &mut found)?;
            found.sort();
            paths.extend(found);
        }
        let mut sources = Vec::new();
        for path in paths {
            let text = std::fs::read_to_string(&path)
                .map_err(|source| ConfigurationError::Read { path: path.clone(), source })?;
            let path = std::path::absolute(&path)
                .map_err(|source| ConfigurationError::Read { path: path.clone(), source })?;
            sources.push(Source { path, text });
        }
        Self::merge_over(own, &sources, flags)
    }

    /// Merges what was read. Pure.
    ///
    /// # Errors
    /// [`ConfigurationError`].
    pub fn merge(
        sources: &[Source],
        flags: Map<String, Value>,
    ) -> Result<(Self, Vec<String>), ConfigurationError> {
        Self::merge_over(Map::new(), sources, flags)
    }

    fn merge_over(
        own: Map<String, Value>,
        sources: &[Source],
        flags: Map<String, Value>,
    ) -> Result<(Self, Vec<String>), ConfigurationError> {
        let (mut value, mut warnings, mut named) = (own, Vec::new(), BTreeSet::new());
        for source in sources {
            let more = decode(source, &mut warnings)?;
            for name in more.keys().filter(|name| !named.contains(*name) && *name != GATES) {
                // The first file that names a field names it instead of a default.
                value.remove(name);
            }
            named.extend(more.keys().cloned());
            overlay(&mut value, more);
            complete(&mut value);
        }
        for (name, given) in flags {
            // A flag's map replaces the file's; a group of settings is filled in.
            // Gates of a flag are said over those of a file.
            let is_map = |field: &fields::Field| {
                field.name == name && name != GATES && matches!(field.form, fields::Form::Map(_))
            };
            match fields::FIELDS.iter().any(is_map) {
                true => drop(value.insert(name, given)),
                false => overlay(&mut value, Map::from_iter([(name, given)])),
            }
        }
        complete(&mut value);
        thresholds(&mut value);
        let read = Self::of(value, named)?;
        warnings.extend(Gates::kept(&read.fields.feature_gates));
        if read.fields.memory_throttling_factor.is_some() && !read.fields.gates.has(Gate::MemoryQos) {
            warnings
                .push("memoryThrottlingFactor has no effect without the feature gate MemoryQoS".to_owned());
        }
        if !read.fields.qos_reserved.is_empty() && !read.fields.gates.has(Gate::QosReserved) {
            warnings.push("qosReserved has no effect without the feature gate QOSReserved".to_owned());
        }
        Ok((read, warnings))
    }

    fn of(mut value: Map<String, Value>, named: BTreeSet<String>) -> Result<Self, ConfigurationError> {
        let read = serde_json::from_value(Value::Object(value.clone()));
        let mut fields: Fields =
            read.map_err(|error| ConfigurationError::Invalid(vec![error.to_string()]))?;
        fields.gates = Gates::new(&fields.feature_gates).map_err(ConfigurationError::Invalid)?;
        crash::settle(&mut value, &mut fields);
        let wrong = validate::validate(&fields);
        if !wrong.is_empty() {
            return Err(ConfigurationError::Invalid(wrong));
        }
        // Whoever names processors says how many are kept.
        if let Some(count) = fields.reserved_system_cpus.parse::<CpuSet>().ok().map(|set| set.len())
            && count > 0
        {
            fields.kube_reserved.remove("cpu");
            fields.system_reserved.insert("cpu".to_owned(), count.to_string());
        }
        Ok(Self { value, fields, named })
    }

    /// The defaults.
    ///
    /// # Errors
    /// Never: a test says so.
    pub fn defaults() -> Result<Self, ConfigurationError> {
        Self::merge(&[], Map::new()).map(|(configuration, _)| configuration)
    }

    /// As `/configz` shows it.
    pub fn shown(&self) -> Value {
        json!({"kubeletconfig": self.value})
    }
}

fn drop_ins(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), ConfigurationError> {
    let failed = |source| ConfigurationError::Read { path: folder.to_owned(), source };
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            drop_ins(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "conf") {
            found.push(path);
        }
    }
    Ok(())
}

fn decode(source: &Source, warnings: &mut Vec<String>) -> Result<Map<String, Value>, ConfigurationError> {
    let failed = |why: String| ConfigurationError::Decode { path: source.path.clone(), why };
    if source.text.trim().is_empty() {
        return Err(ConfigurationError::Empty(source.path.clone()));
    }
    let value: Value = serde_yaml_ng::from_str(&source.text).map_err(|error| failed(error.to_string()))?;
    let Value::Object(mut object) = value else {
        return Err(failed("couldn't get version/kind; the file holds no object".to_owned()));
    };
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("kind").is_empty() {
        return Err(failed(format!("Object 'Kind' is missing in {:?}", source.path.display().to_string())));
    }
    if (text("apiVersion"), text("kind")) != (API_VERSION, KIND) {
        return Err(failed(format!(
            "no kind {:?} is registered for version {:?}: a kubelet reads {KIND} of {API_VERSION}",
            text("kind"),
            text("apiVersion")
        )));
    }
    let mut unknown = Vec::new();
    fields::check(&object, fields::FIELDS, "", &mut unknown).map_err(failed)?;
    if !unknown.is_empty() {
        // Upstream decodes v1beta1 leniently when it is not strictly right, and says so.
        let named: Vec<String> = unknown.iter().map(|name| format!("unknown field {name:?}")).collect();
        let path = source.path.display();
        warnings.push(format!("{path}: strict decoding error: {}: ignored", named.join(", ")));
    }
    idle::tell(&object, &source.path, warnings);
    let root = source.path.parent().unwrap_or(Path::new("/"));
    for path in PATHS {
        absolute(&mut object, path, root);
    }
    object.retain(|name, _| !unknown.contains(name));
    Ok(object)
}

fn absolute(object: &mut Map<String, Value>, path: &[&str], root: &Path) {
    match path {
        [name] => {
            if let Some(Value::String(text)) = object.get_mut(*name)
                && !text.is_empty()
                && !Path::new(text).is_absolute()
            {
                *text = root.join(&*text).display().to_string();
            }
        }
        [name, rest @ ..] => {
            if let Some(Value::Object(inner)) = object.get_mut(*name) {
                absolute(inner, rest, root);
            }
        }
        [] => {}
    }
}

/// A JSON merge patch (RFC 7386).
fn overlay(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (_, Value::Null) => drop(below.remove(&name)),
            (Some(Value::Object(below)), Value::Object(above)) => overlay(below, above),
            (_, value) => drop(below.insert(name, value)),
        }
    }
}

/// Sets defaults, those that depend on other fields first.
fn complete(value: &mut Map<String, Value>) {
    let is_set = |value: &Map<String, Value>, name: &str| value.get(name).is_some_and(|v| !v.is_null());
    if !is_set(value, "nodeStatusReportFrequency")
        && let Some(frequency) = value.get("nodeStatusUpdateFrequency").cloned()
    {
        value.insert("nodeStatusReportFrequency".to_owned(), frequency);
    }
    if !is_set(value, "serializeImagePulls") {
        let parallel = value.get("maxParallelImagePulls").and_then(Value::as_i64).unwrap_or(1);
        value.insert("serializeImagePulls".to_owned(), json!(parallel < 2));
    }
    for name in [
        "maxPods",
        "port",
        "nodeLeaseDurationSeconds",
        "registryBurst",
        "eventBurst",
        "kubeAPIBurst",
        "maxOpenFiles",
    ] {
        // Go does not tell 0 from unset here.
        if value.get(name).and_then(Value::as_i64) == Some(0) {
            value.remove(name);
        }
    }
    fields::default(value, fields::FIELDS);
    for (name, text) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        value.entry(name).or_insert_with(|| json!(text));
    }
}

/// Upstream's hard thresholds, if none are named or where they are wanted beside others. Last, so that drop-ins that
/// name some are not merged with them.
fn thresholds(value: &mut Map<String, Value>) {
    let merged = value.get("mergeDefaultEvictionSettings") == Some(&Value::Bool(true));
    let hard = value.entry("evictionHard").or_insert(Value::Null);
    if hard.is_null() {
        *hard = Value::Object(
            EVICTION_HARD.map(|(name, least)| (name.to_owned(), json!(least))).into_iter().collect(),
        );
    } else if let (true, Value::Object(hard)) = (merged, hard) {
        for (name, least) in EVICTION_HARD {
            hard.entry(name).or_insert_with(|| json!(least));
        }
    }
}

#[cfg(test)]
mod tests;
