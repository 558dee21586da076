//! `knarr kubelet`, also as `kubelet`: pods of one node over any CRI runtime.

mod flags;
pub mod identity;
mod lock;
mod more_flags;
mod rest_flags;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use auth::pki::Serving;
use base::{SharedClock, SharedRandom, Shutdown, SystemClock, SystemRandom, TaskGroup};
use clap::Args;
use kubelet::certificates::Measure;
use kubelet::{Configuration, ConfigurationFields, EvictionSettings, LogRotation};
use serde::Serialize;

use self::flags::{Settings, label};
use self::identity::Keeper;
use self::lock::{Lock, contended};
use super::read;
use crate::api;
use crate::commands::log::Log;
use crate::feature_gates::FeatureGates;

/// `knarr kubelet`
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kubelet {
    #[command(flatten)]
    #[serde(flatten)]
    pub logging: super::Logging,
    /// How the API server is reached, and as whom; without it, the kubelet runs static pods alone
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// By which a first client certificate is asked for; --kubeconfig is then written
    #[arg(long, requires = "kubeconfig")]
    bootstrap_kubeconfig: Option<PathBuf>,
    /// Where the node's own certificates are kept [default: pki in --root-dir]
    #[arg(long)]
    cert_dir: Option<PathBuf>,
    /// A KubeletConfiguration; flags win over it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Further ones: its *.conf files, in the order of their names, win over --config
    #[arg(long)]
    config_dir: Option<PathBuf>,
    /// The node's name [default: the host's]
    #[arg(long)]
    hostname_override: Option<String>,
    /// The node's address, or one of each family, parted by a comma [default: the machine's]
    #[arg(long, value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    /// Where pods' volumes are
    #[arg(long, default_value = "/var/lib/kubelet")]
    root_dir: PathBuf,
    /// Which programs know the node's credentials at registries: a CredentialProviderConfig, or a folder of them
    #[arg(long)]
    image_credential_provider_config: Option<PathBuf>,
    /// Where these programs are
    #[arg(long)]
    image_credential_provider_bin_dir: Option<PathBuf>,
    /// Who says where the node is and when pods may run on it: external, or the kubelet itself
    #[arg(long)]
    cloud_provider: Option<String>,
    /// A file that only one kubelet holds; others wait for it
    #[arg(long)]
    lock_file: Option<PathBuf>,
    /// Whether this kubelet ends when another one opens that file
    #[arg(long, num_args = 0..=1, default_missing_value = "true", requires = "lock_file")]
    exit_on_lock_contention: Option<bool>,
    /// Labels of the node: key=value,…
    #[arg(long, value_delimiter = ',', value_parser = label)]
    node_labels: Vec<(String, String)>,
    #[command(flatten)]
    #[serde(flatten)]
    features: FeatureGates,
    #[command(flatten)]
    #[serde(flatten)]
    settings: Settings,
}

impl Kubelet {
    /// Runs pods until the process is told to stop. They go on.
    ///
    /// # Errors
    /// What keeps it from running, by name.
    pub async fn run(self, log: Log) -> Result<()> {
        let shutdown = Shutdown::new();
        let tasks = TaskGroup::new(&shutdown);
        let (clock, random) = (SystemClock::shared(), SystemRandom::shared());
        let configuration = self.configuration()?;
        follow(&log, &configuration, Some(&self.logging))?;
        let lock = match &self.lock_file {
            Some(path) => Some(Lock::acquire(path, self.exit_on_lock_contention == Some(true)).await?),
            None => None,
        };
        let flags = self.flags()?;
        let (mut config, client) = self.config(configuration, (clock, random), &tasks).await?;
        (config.flags, config.verbosity) = (flags, Some(log.verbosity));
        let run = kubelet::run(config, client, &tasks);
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => ended?,
            ended = super::wait_for_end(&shutdown) => ended?,
            () = contended(lock.as_ref()) => tracing::info!("another kubelet wants the lock: this one ends"),
        }
        shutdown.trigger();
        tasks.stop().await;
        Ok(())
    }

    /// What was given, by the flag's name, as `/flagz` tells it.
    fn flags(&self) -> Result<BTreeMap<String, String>> {
        let serde_json::Value::Object(flags) = serde_json::to_value(self)? else {
            return Ok(BTreeMap::new());
        };
        let text = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let given = flags
            .into_iter()
            .filter(|(_, value)| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
        Ok(given.map(|(name, value)| (name, text(&value))).collect())
    }

    fn configuration(&self) -> Result<Configuration> {
        let files = (self.config.as_deref(), self.config_dir.as_deref());
        let mut overlay = self.settings.overlay();
        if !self.features.is_empty() {
            overlay.insert("featureGates".to_owned(), serde_json::to_value(self.features.said()?)?);
        }
        let (configuration, warnings) = Configuration::load(files.0, files.1, overlay)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let idle = self.settings.idle();
        if !idle.is_empty() {
            tracing::warn!("these flags have no effect here: {}", idle.join(", "));
        }
        if configuration.fields.fail_swap_on && has_swap(&read(Path::new("/proc/swaps"))?) {
            bail!(
                "running with swap on is not supported, please disable swap or set --fail-swap-on flag to false"
            );
        }
        Ok(configuration)
    }

    async fn config(
        self,
        configuration: Configuration,
        (clock, random): (SharedClock, SharedRandom),
        tasks: &TaskGroup,
    ) -> Result<(kubelet::Config, kube::Client)> {
        let fields = &configuration.fields;
        let node_name = match &self.hostname_override {
            Some(name) => name.clone(),
            None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
        };
        let (node_ip, second_node_ip) = match *self.node_ip.as_slice() {
            [] => (IpAddr::V4(api::primary_address()), None),
            [one] => (one, None),
            [one, two] if one.is_ipv4() != two.is_ipv4() => (one, Some(two)),
            _ => bail!("--node-ip takes one address, or one of each family"),
        };
        let dir = self.cert_dir.clone().unwrap_or_else(|| self.root_dir.join("pki"));
        let keeper = Keeper { node: &node_name, dir: &dir, clock: &clock, random: &random, tasks };
        let bootstrap = self.bootstrap_kubeconfig.as_deref();
        let (client, shown) = match &self.kubeconfig {
            Some(path) => keeper.client(path, bootstrap, fields.rotate_certificates).await?,
            None => (alone(fields)?, None),
        };
        let mut names = vec![node_name.clone(), node_ip.to_string()];
        names.extend(second_node_ip.map(|ip| ip.to_string()));
        let (serving, served) = serving(&keeper, fields, names, &client)?;
        let clients = keeper.authorities(&fields.authentication.x509.client_ca_file)?;
        let address: IpAddr =
            fields.address.parse().with_context(|| format!("address {:?}", fields.address))?;
        let dns = fields.cluster_dns.iter().map(|text| {
            text.parse::<IpAddr>()
                .with_context(|| format!("invalid configuration: clusterDNS {text:?} is no IP address"))
        });
        let static_pods =
            Some(PathBuf::from(&fields.static_pod_path)).filter(|path| !path.as_os_str().is_empty());
        let providers = crate::kubelet_files::providers(
            self.image_credential_provider_config.as_deref(),
            self.image_credential_provider_bin_dir.as_deref(),
        )?;
        let config = kubelet::Config {
            hostname: node_name.clone(),
            serving,
            renewals: (shown, served),
            node_name,
            root_dir: self.root_dir,
            log_dir: fields.pod_logs_dir.clone(),
            container_links: "/var/log/containers".into(),
            owns_logs: false,
            cri_endpoint: fields.container_runtime_endpoint.clone(),
            node_ip,
            second_node_ip,
            listen: SocketAddr::from((address, u16::try_from(fields.port)?)),
            clients,
            alone: self.kubeconfig.is_none(),
            home: crate::commands::home(),
            cloud: match self.cloud_provider.as_deref() {
                Some("external") => kubelet::Cloud::External { addressed: !self.node_ip.is_empty() },
                _ => kubelet::Cloud::None,
            },
            cluster_dns: dns.collect::<Result<_>>()?,
            cluster_domain: Some(&fields.cluster_domain)
                .filter(|domain| !domain.is_empty())
                .map_or_else(|| "cluster.local".to_owned(), Clone::clone),
            cgroup_root: Some(&fields.cgroup_root)
                .filter(|root| !root.is_empty())
                .map_or_else(|| "/".to_owned(), Clone::clone),
            owns_machine: true,
            capacity: None,
            max_pods: u32::try_from(fields.max_pods)?,
            labels: self.node_labels.into_iter().collect::<BTreeMap<_, _>>(),
            eviction: eviction(fields)?,
            logs: rotation(fields)?,
            shutdown: kubelet::ShutdownPaths::system(),
            credential_providers: providers,
            flags: BTreeMap::new(),
            verbosity: None,
            static_pod_dir: static_pods,
            clock,
            random,
            configuration,
        };
        Ok((config, client))
    }
}

/// The client of a kubelet without an API server, which nobody could ask who somebody is and what they may.
fn alone(fields: &ConfigurationFields) -> Result<kube::Client> {
    if fields.authentication.webhook.enabled {
        bail!("no client provided, cannot use webhook authentication: name a --kubeconfig, or turn it off");
    }
    if fields.authorization.mode != "AlwaysAllow" {
        bail!("no client provided, cannot use webhook authorization: name a --kubeconfig, or allow always");
    }
    if fields.server_tls_bootstrap {
        bail!(
            "no client provided, cannot ask for a serving certificate: name a --kubeconfig, or leave it out"
        );
    }
    tracing::info!("no --kubeconfig is named: this kubelet runs static pods alone");
    Ok(kubelet::alone::client())
}

/// What the kubelet's own API serves with: what is given, what the cluster signs, or what the kubelet signs itself.
fn serving(
    keeper: &Keeper<'_>,
    fields: &ConfigurationFields,
    names: Vec<String>,
    client: &kube::Client,
) -> Result<(Arc<Serving>, Option<Arc<Measure>>)> {
    let (cert, key) = (fields.tls_cert_file.as_str(), fields.tls_private_key_file.as_str());
    match (cert, key) {
        ("", _) | (_, "") if cert != key => {
            bail!("tlsCertFile and tlsPrivateKeyFile belong together: set both or none")
        }
        _ if fields.server_tls_bootstrap => {
            let given = (!cert.is_empty()).then(|| Keeper::read(cert, key)).transpose()?;
            let (serving, measure) = keeper.issued(names, given.as_ref(), client)?;
            Ok((serving, Some(measure)))
        }
        ("", "") => Ok((keeper.self_signed(&names)?, None)),
        (cert, key) => Ok((keeper.given(cert, key)?, None)),
    }
}

/// Whether `/proc/swaps` names any beside its heading; memory-backed ones do not count, as upstream.
fn has_swap(swaps: &str) -> bool {
    swaps.lines().skip(1).any(|line| !line.trim().is_empty() && !line.starts_with("/dev/zram"))
}

/// Logs as `logging` of the configuration says, where flags do not say otherwise.
///
/// # Errors
/// When it cannot be changed how much is logged.
pub fn follow(log: &Log, configuration: &Configuration, flags: Option<&super::Logging>) -> Result<()> {
    let logging = &configuration.fields.logging;
    log.format(flags.and_then(super::Logging::format).unwrap_or(logging.form()));
    if logging.verbosity > 0 && flags.is_none_or(|flags| flags.v.is_none()) {
        log.level(logging.level()).map_err(|why| anyhow::anyhow!("logging.verbosity: {why}"))?;
    }
    Ok(())
}

/// When a node is short of something, as its configuration says.
///
/// # Errors
/// What makes no sense.
pub fn eviction(fields: &ConfigurationFields) -> Result<EvictionSettings> {
    let mut grace = BTreeMap::new();
    for (signal, period) in &fields.eviction_soft_grace_period {
        let period = super::go_duration(period)
            .map_err(|why| anyhow::anyhow!("evictionSoftGracePeriod {signal}: {why}"))?;
        grace.insert(signal.clone(), period);
    }
    let (hard, soft, more) = (&fields.eviction_hard, &fields.eviction_soft, &fields.eviction_minimum_reclaim);
    let enforced = fields.enforce_node_allocatable.iter().any(|part| part == "pods");
    let percent = |value: i32| u8::try_from(value);
    Ok(EvictionSettings {
        thresholds: EvictionSettings::thresholds(hard, soft, &grace, more, enforced)?,
        transition: fields.eviction_pressure_transition_period,
        max_grace: i64::from(fields.eviction_max_pod_grace_period),
        image_high: percent(fields.image_gc_high_threshold_percent)?,
        image_low: percent(fields.image_gc_low_threshold_percent)?,
    })
}

/// When containers' logs are rotated, likewise.
///
/// # Errors
/// What makes no sense.
pub fn rotation(fields: &ConfigurationFields) -> Result<LogRotation> {
    let text = &fields.container_log_max_size;
    let size: schema::quantity::Quantity = text
        .parse()
        .map_err(|_| anyhow::anyhow!("containerLogMaxSize {text:?} is no quantity such as 10Mi"))?;
    Ok(LogRotation {
        max_size: u64::try_from(size.value()).context("containerLogMaxSize is negative")?,
        max_files: usize::try_from(fields.container_log_max_files)?,
        period: fields.container_log_monitor_interval,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::flags::{below, taint};
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
        let page =
            fields("--manifest-url http://m/p --manifest-url-header a:b,c:d --manifest-url-header a:e");
        assert_eq!(page.static_pod_url, "http://m/p");
        assert_eq!(page.static_pod_url_header["a"], ["b", "e"]);
        assert!(taint("a=b").is_err() && taint("a=b:Never").is_err() && below("memory.available").is_err());
    }

    #[test]
    fn thresholds_and_rotation_come_from_the_configuration() {
        let some = fields(
            "--eviction-hard memory.available<1Gi --container-log-max-size 1Mi --container-log-max-files 3",
        );
        let period = std::time::Duration::from_secs(10);
        assert_eq!(rotation(&some).unwrap(), LogRotation { max_size: 1 << 20, max_files: 3, period });
        assert!(!eviction(&some).unwrap().thresholds.is_empty());
        assert!(eviction(&fields("--eviction-hard nonsense<1Gi")).is_err());
    }

    #[test]
    fn swap_that_is_no_memory_counts() {
        assert!(!has_swap("Filename Type Size Used Priority\n/dev/zram0 partition 1 0 -1\n"));
        assert!(has_swap("Filename Type Size Used Priority\n/swap file 1 0 -1\n"));
    }
}
