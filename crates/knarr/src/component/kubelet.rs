//! `knarr kubelet`, also as `kubelet`: pods of one node over any CRI runtime.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use auth::pki::{CertKey, join};
use base::{Shutdown, SystemClock, SystemRandom, TaskGroup};
use clap::Args;
use kubelet::{Configuration, ConfigurationFields, EvictionSettings, LogRotation};
use serde_json::{Map, Value, json};

use super::read;
use crate::api;

/// `knarr kubelet`
#[derive(Debug, Args)]
pub struct Kubelet {
    /// How the API server is reached, and as whom
    #[arg(long)]
    kubeconfig: PathBuf,
    /// A KubeletConfiguration; flags win over it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Further ones: its *.conf files, in the order of their names, win over --config
    #[arg(long)]
    config_dir: Option<PathBuf>,
    /// The node's name [default: the host's]
    #[arg(long)]
    hostname_override: Option<String>,
    /// The node's address [default: the machine's]
    #[arg(long)]
    node_ip: Option<IpAddr>,
    /// Where pods' volumes are
    #[arg(long, default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    /// Labels of the node: key=value,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    node_labels: Vec<(String, String)>,
    #[command(flatten)]
    settings: Settings,
}

/// Flags that stand for a field of KubeletConfiguration; what is not given leaves the field as it is.
#[derive(Debug, Args)]
struct Settings {
    /// The container runtime
    #[arg(long)]
    container_runtime_endpoint: Option<String>,
    /// Where containers' logs are
    #[arg(long)]
    pod_logs_dir: Option<String>,
    /// Manifests of static pods: a folder, or one file
    #[arg(long)]
    pod_manifest_path: Option<String>,
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
    /// Whose client certificates that API trusts [default: the kubeconfig's authority]
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
    /// Whether swap keeps the kubelet from running
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    fail_swap_on: Option<bool>,
}

/// `memory.available<100Mi`
fn below(text: &str) -> Result<(String, String), String> {
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
fn taint(text: &str) -> Result<Value, String> {
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
    fn overlay(&self) -> Map<String, Value> {
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
        let Some(object) = value.as_object_mut() else { return Map::new() };
        given(object);
        std::mem::take(object)
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

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) =
        text.split_once('=').ok_or_else(|| format!("{text:?} is not of the form key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Kubelet {
    /// Runs pods until the process is told to stop. They go on.
    ///
    /// # Errors
    /// What keeps it from running, by name.
    pub async fn run(self) -> Result<()> {
        let shutdown = Shutdown::new();
        let tasks = TaskGroup::new(&shutdown);
        let kubeconfig = read(&self.kubeconfig)?;
        let client = super::connect(&self.kubeconfig).await?;
        let configuration = self.configuration()?;
        let config = self.config(&kubeconfig, configuration)?;
        let run = kubelet::run(config, client, &tasks);
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => ended?,
            ended = super::wait_for_end(&shutdown) => ended?,
        }
        shutdown.trigger();
        tasks.stop().await;
        Ok(())
    }

    fn configuration(&self) -> Result<Configuration> {
        let files = (self.config.as_deref(), self.config_dir.as_deref());
        let (configuration, warnings) = Configuration::load(files.0, files.1, self.settings.overlay())?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        if configuration.fields.fail_swap_on && has_swap(&read(Path::new("/proc/swaps"))?) {
            bail!(
                "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
            );
        }
        Ok(configuration)
    }

    fn config(self, kubeconfig: &str, configuration: Configuration) -> Result<kubelet::Config> {
        let fields = &configuration.fields;
        let node_name = match &self.hostname_override {
            Some(name) => name.clone(),
            None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
        };
        let node_ip = self.node_ip.unwrap_or_else(|| IpAddr::V4(api::primary_address()));
        let client_ca_pem = match fields.authentication.x509.client_ca_file.as_str() {
            "" => auth::kubeconfig::authority(kubeconfig).context(
                "the kubeconfig embeds no certificate-authority-data: name it with --client-ca-file",
            )?,
            path => read(Path::new(path))?,
        };
        let address: IpAddr =
            fields.address.parse().with_context(|| format!("address {:?}", fields.address))?;
        let dns = fields.cluster_dns.iter().map(|text| {
            text.parse::<IpAddr>()
                .with_context(|| format!("invalid configuration: clusterDNS {text:?} is no IP address"))
        });
        let static_pods =
            Some(PathBuf::from(&fields.static_pod_path)).filter(|path| !path.as_os_str().is_empty());
        Ok(kubelet::Config {
            hostname: node_name.clone(),
            server_cert: serving(fields, &node_name, node_ip)?,
            node_name,
            root_dir: self.root_dir,
            log_dir: fields.pod_logs_dir.clone(),
            cri_endpoint: fields.container_runtime_endpoint.clone(),
            node_ip,
            listen: SocketAddr::from((address, u16::try_from(fields.port)?)),
            client_ca_pem,
            cluster_dns: dns.collect::<Result<_>>()?,
            cluster_domain: Some(&fields.cluster_domain)
                .filter(|domain| !domain.is_empty())
                .map_or_else(|| "cluster.local".to_owned(), Clone::clone),
            cgroup_root: Some(&fields.cgroup_root)
                .filter(|root| !root.is_empty())
                .map_or_else(|| "/".to_owned(), Clone::clone),
            capacity: None,
            max_pods: u32::try_from(fields.max_pods)?,
            labels: self.node_labels.into_iter().collect::<BTreeMap<_, _>>(),
            eviction: eviction(fields)?,
            logs: rotation(fields)?,
            static_pod_dir: static_pods,
            clock: SystemClock::shared(),
            random: SystemRandom::shared(),
            configuration,
        })
    }
}

/// What is given, or else a certificate that the kubelet signs itself, as upstream's does.
fn serving(fields: &ConfigurationFields, node: &str, ip: IpAddr) -> Result<CertKey> {
    match (fields.tls_cert_file.as_str(), fields.tls_private_key_file.as_str()) {
        ("", "") => {
            let year = Duration::from_secs(365 * 24 * 3600);
            let names = [node.to_owned(), ip.to_string()];
            Ok(join::self_signed(node, &names, SystemClock::shared().now(), year)?)
        }
        ("", _) | (_, "") => bail!("tlsCertFile and tlsPrivateKeyFile belong together: set both or none"),
        (cert, key) => Ok(CertKey { cert_pem: read(Path::new(cert))?, key_pem: read(Path::new(key))? }),
    }
}

/// Whether `/proc/swaps` names any beside its heading; memory-backed ones do not count, as upstream.
fn has_swap(swaps: &str) -> bool {
    swaps.lines().skip(1).any(|line| !line.trim().is_empty() && !line.starts_with("/dev/zram"))
}

fn eviction(fields: &ConfigurationFields) -> Result<EvictionSettings> {
    let mut grace = BTreeMap::new();
    for (signal, period) in &fields.eviction_soft_grace_period {
        let period = super::go_duration(period)
            .map_err(|why| anyhow::anyhow!("evictionSoftGracePeriod {signal}: {why}"))?;
        grace.insert(signal.clone(), period);
    }
    let (hard, soft) = (&fields.eviction_hard, &fields.eviction_soft);
    let percent = |value: i32| u8::try_from(value);
    Ok(EvictionSettings {
        thresholds: EvictionSettings::thresholds(hard, soft, &grace, &fields.eviction_minimum_reclaim)?,
        transition: fields.eviction_pressure_transition_period,
        max_grace: i64::from(fields.eviction_max_pod_grace_period),
        image_high: percent(fields.image_gc_high_threshold_percent)?,
        image_low: percent(fields.image_gc_low_threshold_percent)?,
    })
}

fn rotation(fields: &ConfigurationFields) -> Result<LogRotation> {
    let text = &fields.container_log_max_size;
    let size: schema::quantity::Quantity = text
        .parse()
        .map_err(|_| anyhow::anyhow!("containerLogMaxSize {text:?} is no quantity such as 10Mi"))?;
    Ok(LogRotation {
        max_size: u64::try_from(size.value()).context("containerLogMaxSize is negative")?,
        max_files: usize::try_from(fields.container_log_max_files)?,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        kubelet: Kubelet,
    }

    fn fields(flags: &str) -> ConfigurationFields {
        let words = format!("kubelet --kubeconfig k --fail-swap-on=false {flags}");
        let line = Line::try_parse_from(words.split_whitespace()).unwrap();
        line.kubelet.configuration().unwrap().fields
    }

    #[test]
    fn flags_stand_for_fields_and_leave_others_alone() {
        let none = fields("");
        assert_eq!((none.max_pods, none.authentication.webhook.enabled), (110, true));
        let some = fields(
            "--max-pods 5 --anonymous-auth --eviction-hard memory.available<1Gi,pid.available<5% \
             --kube-reserved cpu=100m,memory=1Gi --register-with-taints a=b:NoSchedule,c:NoExecute",
        );
        assert_eq!((some.max_pods, some.authentication.anonymous.enabled), (5, true));
        assert!(some.authentication.webhook.enabled, "a neighbour of a field that was given");
        assert_eq!(some.eviction_hard.len(), 2, "a flag replaces the defaults");
        assert_eq!(some.kube_reserved["memory"], "1Gi");
        let taints: Vec<_> =
            some.register_with_taints.iter().map(|t| (t.key.as_str(), t.effect.as_str())).collect();
        assert_eq!(taints, [("a", "NoSchedule"), ("c", "NoExecute")]);
        let own = fields(
            "--cpu-manager-policy static --cpu-manager-policy-options full-pcpus-only=true --reserved-cpus 0-1 \
             --reserved-memory 0:memory=1Gi,hugepages-2Mi=2Mi;1:memory=512Mi --topology-manager-scope pod",
        );
        assert_eq!((own.cpu_manager_policy.as_str(), own.topology_manager_scope.as_str()), ("static", "pod"));
        assert_eq!(own.system_reserved["cpu"], "2", "whoever names processors says how many are kept");
        assert_eq!(own.reserved_memory[1].limits["memory"], "512Mi");
        assert!(taint("a=b").is_err() && taint("a=b:Never").is_err() && below("memory.available").is_err());
    }

    #[test]
    fn thresholds_and_rotation_come_from_the_configuration() {
        let some = fields(
            "--eviction-hard memory.available<1Gi --container-log-max-size 1Mi --container-log-max-files 3",
        );
        assert_eq!(rotation(&some).unwrap(), LogRotation { max_size: 1 << 20, max_files: 3 });
        assert!(!eviction(&some).unwrap().thresholds.is_empty());
        assert!(eviction(&fields("--eviction-hard nonsense<1Gi")).is_err());
    }

    #[test]
    fn swap_that_is_no_memory_counts() {
        assert!(!has_swap("Filename Type Size Used Priority\n/dev/zram0 partition 1 0 -1\n"));
        assert!(has_swap("Filename Type Size Used Priority\n/swap file 1 0 -1\n"));
    }
}
