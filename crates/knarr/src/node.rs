//! A node: the container runtime in one process, kubelet, routes, Services and DNS in another. Both live in the
//! node's network namespace from before their first thread.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use auth::kubeconfig::Credential;
use auth::pki::{Authorities, CertKey, Serving};
use base::{SharedClock, SharedRandom, Shutdown, SystemClock, SystemRandom, TaskGroup};
use kubelet::certificates::Measure;
use net::cidr::Cidr;
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::{NodeSettings, ProcessRecord, Settings, alone, write_whole};
use crate::commands::log::Log;
use crate::component;
use crate::component::kubelet::identity::Keeper;
use crate::kubelet_files::{self, Fixed};
use crate::network::Network;
use crate::paths::Paths;

/// Where kubelets serve their own API.
const PORT: u16 = 10250;

/// What a node is given when it is made: who it is, and how it reaches the cluster.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its address of IPv6, if it has one.
    #[serde(default)]
    pub ip_v6: Option<Ipv6Addr>,
    /// The kubelet's kubeconfig.
    pub kubelet: String,
    /// The kubeconfig of routes, Services and DNS.
    pub proxy: String,
    /// The certificate of the kubelet's own API.
    pub serving_cert: String,
    /// Its key.
    pub serving_key: String,
    /// Whose client certificates that API trusts.
    pub client_ca: String,
}

impl Identity {
    /// Writes down who the node is, for the next start.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        auth::pki::write_private(&dir.join("identity.json"), &serde_json::to_string(self)?)?;
        Ok(())
    }

    /// Whether the certificates that it was given end soon.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn ends_soon(&self, now: jiff::Timestamp) -> Result<bool> {
        let month = jiff::SignedDuration::from_hours(30 * 24);
        let end = auth::pki::join::not_after(&self.serving_cert)?;
        Ok(end.duration_since(now) < month)
    }

    /// The same node with the certificate that it was issued last, while it ran; `None` when no certificate of it is
    /// valid any more.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn newest(mut self, dir: &Path, server: &str, now: jiff::Timestamp) -> Result<Option<Self>> {
        let given = auth::kubeconfig::certificate(&self.kubelet, Path::new("/"))?;
        let issued = kubelet::certificates::Files::new(&pki(dir), "kubelet-client").load()?;
        let mut newest = None;
        for cert in given.iter().chain(&issued) {
            let end = auth::pki::join::not_after(&cert.cert_pem)?;
            if now < end && newest.is_none_or(|(known, _)| known < end) {
                newest = Some((end, cert));
            }
        }
        let Some((_, cert)) = newest else { return Ok(None) };
        self.kubelet = crate::join::kubeconfig_of(server, &self.client_ca, Credential::Certificate(cert))?;
        self.proxy.clone_from(&self.kubelet);
        Ok(Some(self))
    }

    /// Reads what the node was given; `None` when it was not given anything yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        if dir.join("identity.json").exists() { Self::load(dir).map(Some) } else { Ok(None) }
    }

    /// Reads what the node was given.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("identity.json");
        let bytes = fs::read(&path)
            .with_context(|| format!("reading {}: start the node with `knarr up`", path.display()))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged: remove it and run `knarr up`", path.display()))
    }
}

/// Where certificates are that the node was issued after it was made.
fn pki(dir: &Path) -> PathBuf {
    dir.join("pki")
}

/// Where it is remembered which addresses and ports pods have.
fn addresses(paths: &Paths, node: &str) -> PathBuf {
    paths.node_run(node).join("addresses")
}

/// The longest name that the kernel lets a machine have, in bytes.
const LONGEST_NAME: usize = 64;

/// Moves the calling process into the node's network namespace, and gives it the node's name, which pods in the node's
/// network have, too. Only while it has one thread.
///
/// # Errors
/// When the namespace is not there, or the kernel refuses.
pub fn enter(paths: &Paths, node: &str) -> Result<()> {
    let path = paths.netns(node);
    let file = File::open(&path)
        .with_context(|| format!("opening {}: start the node with `knarr up`", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {}", path.display()))?;
    unshare(CloneFlags::CLONE_NEWUTS).context("making a namespace for the node's name")?;
    let name = node.get(..LONGEST_NAME).unwrap_or(node);
    nix::unistd::sethostname(name).with_context(|| format!("naming the node {name}"))
}

fn record(paths: &Paths, components: &[&str], node: &str, name: &str) -> Result<()> {
    let record = ProcessRecord::of_self(components, Some(node))?;
    write_whole(&paths.process(name), &serde_json::to_vec(&record)?)
}

/// Runs the node's container runtime until the process is told to stop. Containers go on.
///
/// # Errors
/// What keeps it from running.
pub async fn run_runtime(
    paths: &Paths,
    cluster: &str,
    node: &str,
    (cni, flags): (&crate::cni::Cni, &crate::runtime_flags::RuntimeFlags),
) -> Result<()> {
    let _alone = alone(&paths.process(&format!("runtime-{node}"))).await?;
    let root = paths.node(node).join("runtime");
    let mut config = runtime::Config::new(root, paths.node_run(node).join("runtime"));
    config.in_memory = true;
    config.cgroup_parent = crate::cluster::cgroup(cluster, node);
    cni.remember(&paths.node(node))?;
    config.cni = cni.settings(None, config.root.join("cni"));
    flags.remember(&paths.node(node))?;
    flags.settle(&mut config);
    config.network = Arc::new(Network::new(addresses(paths, node))?);
    let shutdown = Shutdown::new();
    record(paths, &["runtime"], node, &format!("runtime-{node}"))?;
    let run = runtime::run(config, shutdown.clone());
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => Ok(ended?),
        ended = end() => {
            ended?;
            shutdown.trigger();
            Ok(run.await?)
        }
    }
}

/// Whether every built-in runtime of the cluster's nodes is served.
pub fn runtimes_answer(paths: &Paths, settings: &Settings) -> bool {
    let answers = |node: &String| UnixStream::connect(paths.cri_socket(node)).is_ok();
    settings.runtime_endpoint.is_some() || settings.node_names().iter().all(answers)
}

async fn end() -> Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
    }
}

/// Runs kubelet, routes, Services and DNS of a node until the process is told to stop. Pods go on.
///
/// # Errors
/// What keeps the kubelet from running.
pub async fn run_agent(paths: &Paths, settings: &NodeSettings, node: &str, log: Log) -> Result<()> {
    let _alone = alone(&paths.process(&format!("agent-{node}"))).await?;
    let identity = Identity::load(&paths.node(node))?;
    let shutdown = Shutdown::new();
    let tasks = TaskGroup::new(&shutdown);
    let (clock, random) = (SystemClock::shared(), SystemRandom::shared());
    let dir = pki(&paths.node(node));
    let keeper = Keeper { node, dir: &dir, clock: &clock, random: &random, tasks: &tasks };
    let (kubelet_client, shown) = keeper.embedded(&identity.kubelet).await?;
    let given = CertKey { cert_pem: identity.serving_cert.clone(), key_pem: identity.serving_key.clone() };
    let mut names = vec![node.to_owned(), identity.ip.to_string()];
    names.extend(identity.ip_v6.map(|ip| ip.to_string()));
    let (serving, served) = keeper.issued(names, Some(&given), &kubelet_client)?;
    // A machine that joined has one identity, which is renewed; the proxy of a local node has another.
    let proxy = match identity.proxy == identity.kubelet {
        true => kubelet_client.clone(),
        false => client::connect::kubeconfig(&identity.proxy).await?,
    };
    let (cluster, cluster_v6) = cluster_networks(settings)?;
    if let Some((base, bits)) = cluster_v6 {
        net::masquerade::ensure(&settings.table(), base, bits)?;
    }
    tasks.spawn({
        let (name, client, tasks) = (node.to_owned(), proxy.clone(), tasks.clone());
        let cidrs = paths.node_run(node).join("pod-cidrs");
        async move { net::routes::run(name, cidrs, client, &tasks).await }
    });
    let local = net::services::plan::Local { node: node.to_owned(), addresses: vec![identity.ip] };
    net::services::health::start(clock.clone(), &tasks);
    tasks.spawn({
        let (table, client, tasks) = (settings.table(), proxy.clone(), tasks.clone());
        async move { net::services::run::run(table, cluster, local, client, &tasks).await }
    });
    start_dns(settings, addresses(paths, node), proxy, &tasks).await?;
    record(paths, &["kubelet", "proxy", "dns"], node, &format!("agent-{node}"))?;
    let certificates = (serving, (shown, Some(served)));
    let mut config = kubelet_config(paths, settings, &identity, certificates, (clock, random))?;
    component::kubelet::follow(&log, &config.configuration, None)?;
    config.verbosity = Some(log.verbosity);
    let run = kubelet::run(config, kubelet_client, &tasks);
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => ended?,
        ended = end() => ended?,
    }
    shutdown.trigger();
    tasks.stop().await;
    Ok(())
}

/// The pod network of IPv4, to which Services lead, and that of IPv6, if there is one.
fn cluster_networks(settings: &NodeSettings) -> Result<((u32, u8), Option<(Ipv6Addr, u8)>)> {
    let (mut v4, mut v6) = (None, None);
    for cidr in Cidr::parse_all(&settings.cluster_cidr)? {
        match cidr.base {
            IpAddr::V4(base) => v4 = Some((base.to_bits(), cidr.bits)),
            IpAddr::V6(base) => v6 = Some((base, cidr.bits)),
        }
    }
    Ok((v4.context("the cluster has no pod network of IPv4")?, v6))
}

async fn start_dns(
    settings: &NodeSettings,
    addresses: PathBuf,
    client: kube::Client,
    tasks: &TaskGroup,
) -> Result<()> {
    let ip = settings.cluster_dns;
    net::link::Links::open()?.address("lo", ip, 32).await?;
    // A pod that has port 53 of the node has it of the node, and not of the cluster's DNS.
    net::pod::PodLinks::new(addresses)?.reserve(&[IpAddr::V4(ip)])?;
    let config = net::dns::run::Config {
        listen: SocketAddr::from((ip, 53)),
        domain: settings.cluster_domain.clone(),
        upstream: name_servers(),
    };
    let group = tasks.clone();
    tasks.spawn(async move {
        if let Err(error) = net::dns::run::run(config, client, &group).await {
            tracing::error!(%error, "DNS does not run on this node");
        }
    });
    Ok(())
}

/// The machine's own name servers; those on its loopback cannot be reached from a node's namespace.
fn name_servers() -> Vec<IpAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_else(|error| {
        tracing::warn!(%error, "/etc/resolv.conf cannot be read: names outside the cluster are not resolved");
        String::new()
    });
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok())
        .filter(|ip| !ip.is_loopback())
        .collect()
}

fn kubelet_config(
    paths: &Paths,
    settings: &NodeSettings,
    identity: &Identity,
    (serving, renewals): (Arc<Serving>, (Option<Arc<Measure>>, Option<Arc<Measure>>)),
    (clock, random): (SharedClock, SharedRandom),
) -> Result<kubelet::Config> {
    let node = &identity.name;
    let dir = paths.node(node);
    let (log_dir, manifests) = (dir.join("log/pods"), dir.join("manifests"));
    let own_runtime = || format!("unix://{}", paths.cri_socket(node).display());
    let cri_endpoint = settings.runtime_endpoint_of(node).unwrap_or_else(own_runtime);
    let cgroup_root = settings.cgroup(node);
    let configuration = settings.kubelet.load(
        settings.max_pods,
        &settings.features,
        kubelet_files::fixed(&Fixed {
            address: IpAddr::V4(identity.ip),
            port: PORT,
            dns: IpAddr::V4(settings.cluster_dns),
            domain: &settings.cluster_domain,
            runtime: &cri_endpoint,
            cgroup: &cgroup_root,
            manifests: &manifests,
            logs: &log_dir,
        }),
    )?;
    let fields = &configuration.fields;
    Ok(kubelet::Config {
        node_name: node.clone(),
        root_dir: dir.join("kubelet"),
        log_dir,
        container_links: dir.join("log/containers"),
        owns_logs: true,
        cri_endpoint,
        node_ip: IpAddr::V4(identity.ip),
        second_node_ip: identity.ip_v6.map(IpAddr::V6),
        hostname: node.clone(),
        listen: SocketAddr::from((identity.ip, PORT)),
        serving,
        renewals,
        alone: false,
        home: None,
        cloud: kubelet::Cloud::None,
        clients: Some(Arc::new(Authorities::of(&identity.client_ca)?)),
        cluster_dns: vec![IpAddr::V4(settings.cluster_dns)],
        cluster_domain: settings.cluster_domain.clone(),
        cgroup_root,
        owns_machine: false,
        capacity: None,
        max_pods: u32::try_from(fields.max_pods)?,
        labels: BTreeMap::new(),
        eviction: component::kubelet::eviction(fields)?,
        logs: component::kubelet::rotation(fields)?,
        shutdown: kubelet::ShutdownPaths::system(),
        credential_providers: settings.kubelet.providers()?,
        flags: BTreeMap::new(),
        verbosity: None,
        static_pod_dir: Some(manifests),
        clock,
        random,
        configuration,
    })
}
