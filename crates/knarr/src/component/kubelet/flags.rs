//! The flags of `knarr kubelet` that stand for fields of its configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::more_flags::More;
use super::rest_flags::Rest;

/// Flags that stand for a field of KubeletConfiguration; what is not given leaves the field as it is.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// The container runtime
    #[arg(long)]
    container_runtime_endpoint: Option<String>,
    /// Where containers' logs are
    #[arg(long)]
    pod_logs_dir: Option<String>,
    /// Manifests of static pods: a folder, or one file
    #[arg(long)]
    pod_manifest_path: Option<String>,
    /// How often they are looked for at least
    #[arg(long)]
    file_check_frequency: Option<String>,
    /// A page of static pods
    #[arg(long)]
    manifest_url: Option<String>,
    /// What it is asked for with: NAME:VALUE,…
    #[arg(long, value_delimiter = ',', value_parser = header)]
    manifest_url_header: Vec<(String, String)>,
    /// How often it is read
    #[arg(long)]
    http_check_frequency: Option<String>,
    /// The cgroup under which those of pods are
    #[arg(long)]
    cgroup_root: Option<String>,
    /// Where the kubelet's own API listens
    #[arg(long)]
    address: Option<IpAddr>,
    /// Its port
    #[arg(long)]
    port: Option<u16>,
    /// Where health is told without TLS
    #[arg(long)]
    healthz_bind_address: Option<IpAddr>,
    /// Its port; 0 is none
    #[arg(long)]
    healthz_port: Option<u16>,
    /// What the kubelet's own API serves with
    #[arg(long, requires = "tls_private_key_file")]
    tls_cert_file: Option<String>,
    /// Its key
    #[arg(long, requires = "tls_cert_file")]
    tls_private_key_file: Option<String>,
    /// Whether the client certificate is renewed before it ends
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    rotate_certificates: Option<bool>,
    /// Whether the serving certificate is one that the cluster signs, and is renewed
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    rotate_server_certificates: Option<bool>,
    /// Whose client certificates that API trusts [default: nobody's]
    #[arg(long)]
    client_ca_file: Option<String>,
    /// Whether whoever shows nothing is let in as system:anonymous
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    anonymous_auth: Option<bool>,
    /// Whether tokens are reviewed by the API server
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    authentication_token_webhook: Option<bool>,
    /// Webhook or AlwaysAllow
    #[arg(long)]
    authorization_mode: Option<String>,
    /// The cluster's DNS servers
    #[arg(long, value_delimiter = ',')]
    cluster_dns: Vec<IpAddr>,
    /// The cluster's domain
    #[arg(long)]
    cluster_domain: Option<String>,
    /// The most pods
    #[arg(long)]
    max_pods: Option<i32>,
    /// Taints of a node that is not known yet: key=value:effect,…
    #[arg(long, value_delimiter = ',', value_parser = taint)]
    register_with_taints: Vec<Value>,
    /// Whether the node's object is made
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    register_node: Option<bool>,
    /// The node's name at its cloud
    #[arg(long)]
    provider_id: Option<String>,
    /// When pods are evicted at once: memory.available<100Mi,…
    #[arg(long, value_delimiter = ',', value_parser = below)]
    eviction_hard: Vec<(String, String)>,
    /// When they are evicted after a grace period
    #[arg(long, value_delimiter = ',', value_parser = below)]
    eviction_soft: Vec<(String, String)>,
    /// Which: memory.available=1m30s,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    eviction_soft_grace_period: Vec<(String, String)>,
    /// What is reclaimed at least: nodefs.available=1Gi,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    eviction_minimum_reclaim: Vec<(String, String)>,
    /// What the system needs: cpu=200m,memory=1Gi,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    system_reserved: Vec<(String, String)>,
    /// What Kubernetes needs, likewise
    #[arg(long, value_delimiter = ',', value_parser = label)]
    kube_reserved: Vec<(String, String)>,
    /// The disk's percentage at which unused images go
    #[arg(long)]
    image_gc_high_threshold: Option<i32>,
    /// The percentage down to which they go
    #[arg(long)]
    image_gc_low_threshold: Option<i32>,
    /// When a container's log is rotated
    #[arg(long)]
    container_log_max_size: Option<String>,
    /// How many files there are of it
    #[arg(long)]
    container_log_max_files: Option<i32>,
    /// How often the node is looked at
    #[arg(long)]
    node_status_update_frequency: Option<String>,
    /// Whether containers may have processors for themselves: none or static
    #[arg(long)]
    cpu_manager_policy: Option<String>,
    /// How: full-pcpus-only=true,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    cpu_manager_policy_options: Vec<(String, String)>,
    /// Processors that are kept for the system, such as 0-1
    #[arg(long)]
    reserved_cpus: Option<String>,
    /// Whether containers have memory of NUMA nodes for themselves: None or Static
    #[arg(long)]
    memory_manager_policy: Option<String>,
    /// Memory of NUMA nodes that is kept for the system: 0:memory=1Gi,hugepages-2Mi=2Mi;1:memory=1Gi
    #[arg(long, value_delimiter = ';', value_parser = reserved_memory)]
    reserved_memory: Vec<Value>,
    /// Whether what a container has is near together: none, best-effort, restricted or single-numa-node
    #[arg(long)]
    topology_manager_policy: Option<String>,
    /// Whose: container or pod
    #[arg(long)]
    topology_manager_scope: Option<String>,
    /// How: prefer-closest-numa-nodes=true,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    topology_manager_policy_options: Vec<(String, String)>,
    /// Settings of the kernel that pods may make although they may harm others: kernel.msg*,…
    #[arg(long, value_delimiter = ',')]
    allowed_unsafe_sysctls: Vec<String>,
    /// The most seconds that pods have when they are evicted at a soft threshold
    #[arg(long)]
    eviction_max_pod_grace_period: Option<i32>,
    /// How long a lack of something is told at least
    #[arg(long)]
    eviction_pressure_transition_period: Option<String>,
    /// Whether swap keeps the kubelet from running
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    fail_swap_on: Option<bool>,
    #[command(flatten)]
    #[serde(flatten)]
    more: More,
    #[command(flatten)]
    #[serde(flatten)]
    rest: Rest,
}

/// `memory.available<100Mi`
pub fn below(text: &str) -> Result<(String, String), String> {
    let (signal, least) =
        text.split_once('<').ok_or_else(|| format!("{text:?} is not of the form signal<quantity"))?;
    Ok((signal.to_owned(), least.to_owned()))
}

/// `NODE:KIND=QUANTITY,…`
fn reserved_memory(text: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is not of the form numa-node:type=quantity[,type=quantity]");
    let (node, list) = text.split_once(':').ok_or_else(wrong)?;
    let node: i32 = node.parse().map_err(|_| wrong())?;
    let mut limits = BTreeMap::new();
    for part in list.split(',') {
        let (kind, amount) = part.split_once('=').ok_or_else(wrong)?;
        limits.insert(kind.to_owned(), amount.to_owned());
    }
    Ok(json!({"numaNode": node, "limits": limits}))
}

/// `key=value:effect` or `key:effect`
pub fn taint(text: &str) -> Result<Value, String> {
    let (name, effect) =
        text.rsplit_once(':').ok_or_else(|| format!("{text:?} is not of the form key=value:effect"))?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(format!("invalid taint effect: {effect}, unsupported taint effect"));
    }
    let (key, value) = name.split_once('=').unwrap_or((name, ""));
    Ok(json!({"key": key, "value": value, "effect": effect}))
}

impl Settings {
    /// What was given, under the names of KubeletConfiguration.
    pub fn overlay(&self) -> Map<String, Value> {
        let map = |list: &[(String, String)]| {
            (!list.is_empty()).then(|| list.iter().cloned().collect::<BTreeMap<_, _>>())
        };
        let dns = Some(&self.cluster_dns).filter(|list| !list.is_empty());
        let taints = Some(&self.register_with_taints).filter(|list| !list.is_empty());
        let mut value = json!({
            "containerRuntimeEndpoint": self.container_runtime_endpoint,
            "podLogsDir": self.pod_logs_dir,
            "staticPodPath": self.pod_manifest_path,
            "cgroupRoot": self.cgroup_root,
            "address": self.address,
            "port": self.port,
            "healthzBindAddress": self.healthz_bind_address,
            "healthzPort": self.healthz_port,
            "tlsCertFile": self.tls_cert_file,
            "tlsPrivateKeyFile": self.tls_private_key_file,
            "rotateCertificates": self.rotate_certificates,
            "serverTLSBootstrap": self.rotate_server_certificates,
            "authentication": {
                "x509": {"clientCAFile": self.client_ca_file},
                "anonymous": {"enabled": self.anonymous_auth},
                "webhook": {"enabled": self.authentication_token_webhook},
            },
            "authorization": {"mode": self.authorization_mode},
            "clusterDNS": dns,
            "clusterDomain": self.cluster_domain,
            "maxPods": self.max_pods,
            "registerWithTaints": taints,
            "registerNode": self.register_node,
            "providerID": self.provider_id,
            "evictionHard": map(&self.eviction_hard),
            "evictionSoft": map(&self.eviction_soft),
            "evictionSoftGracePeriod": map(&self.eviction_soft_grace_period),
            "evictionMinimumReclaim": map(&self.eviction_minimum_reclaim),
            "systemReserved": map(&self.system_reserved),
            "kubeReserved": map(&self.kube_reserved),
            "imageGCHighThresholdPercent": self.image_gc_high_threshold,
            "imageGCLowThresholdPercent": self.image_gc_low_threshold,
            "containerLogMaxSize": self.container_log_max_size,
            "containerLogMaxFiles": self.container_log_max_files,
            "nodeStatusUpdateFrequency": self.node_status_update_frequency,
            "failSwapOn": self.fail_swap_on,
            "cpuManagerPolicy": self.cpu_manager_policy,
            "cpuManagerPolicyOptions": map(&self.cpu_manager_policy_options),
            "reservedSystemCPUs": self.reserved_cpus,
            "memoryManagerPolicy": self.memory_manager_policy,
            "reservedMemory": Some(&self.reserved_memory).filter(|list| !list.is_empty()),
            "topologyManagerPolicy": self.topology_manager_policy,
            "topologyManagerScope": self.topology_manager_scope,
            "topologyManagerPolicyOptions": map(&self.topology_manager_policy_options),
        });
        let more = json!({
            "allowedUnsafeSysctls": Some(&self.allowed_unsafe_sysctls).filter(|list| !list.is_empty()),
            "evictionMaxPodGracePeriod": self.eviction_max_pod_grace_period,
            "evictionPressureTransitionPeriod": self.eviction_pressure_transition_period,
            "fileCheckFrequency": self.file_check_frequency,
            "httpCheckFrequency": self.http_check_frequency,
            "staticPodURL": self.manifest_url,
            "staticPodURLHeader": self.headers(),
        });
        let (Some(object), Value::Object(more)) = (value.as_object_mut(), more) else { return Map::new() };
        object.extend(more);
        object.extend(self.more.overlay());
        merge(object, self.rest.overlay());
        given(object);
        std::mem::take(object)
    }

    /// The given flags that have no effect.
    pub fn idle(&self) -> Vec<String> {
        self.rest.idle()
    }

    /// The values of each header, in the order in which they were given.
    fn headers(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut headers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in &self.manifest_url_header {
            headers.entry(name).or_default().push(value);
        }
        headers
    }
}

/// Sets what `more` has, also deep inside.
pub fn merge(object: &mut Map<String, Value>, more: Map<String, Value>) {
    for (name, value) in more {
        match (object.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(more)) => merge(inner, more),
            (_, value) => drop(object.insert(name, value)),
        }
    }
}

/// Leaves what was given: null would take a field away.
fn given(object: &mut Map<String, Value>) {
    for value in object.values_mut() {
        if let Value::Object(inner) = value {
            given(inner);
        }
    }
    object.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|inner| !inner.is_empty()));
}

/// `NAME:VALUE`
fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("malformed pair, expect string:string")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// `key=value`
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not of the form key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}
