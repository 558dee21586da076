//! `knarr up`: returns when the cluster is ready; does nothing that is done already.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use auth::kubeconfig::{self, Credential, Entry};
use auth::pki::Pki;
use base::{SystemClock, SystemRandom};
use clap::Args;

use super::existing::{self, Asked};
use super::networks::{self, Turn};
use super::{Which, daemon, identity, node_processes, shrink};
use crate::check;
use crate::cluster::{MAX_PODS, ProcessRecord, Settings, node_network};
use crate::feature_gates::FeatureGates;
use crate::kubelet_files::KubeletFiles;
use crate::paths::Paths;

/// How long the control plane may take to come up.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long an answer of the API server is waited for, before it is asked again.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// How many addresses a cluster's node network has for nodes.
const MOST_NODES: i64 = 245;
/// How often processes that end while the cluster comes up are started again.
const RESTARTS: usize = 5;

/// `knarr up`
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    which: Which,
    /// Where to write the administrator's kubeconfig [default: ~/.kube/config, merged]
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// The API server's port; 0 picks a free one [default: 6443]
    #[arg(long)]
    port: Option<u16>,
    /// How many nodes to run on this machine; a cluster that has others is given more, or loses its last ones
    /// [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=MOST_NODES))]
    nodes: Option<u32>,
    /// Run no node: the control plane alone, which needs no root
    #[arg(long)]
    control_plane_only: bool,
    /// Where to keep objects: embedded, or etcd=URL [default: embedded]
    #[arg(long)]
    store: Option<String>,
    /// Give nodes and pods addresses of IPv6, too
    #[arg(long)]
    dual_stack: bool,
    /// A container runtime to use instead of our own; `{node}` stands for a node's name
    #[arg(long)]
    container_runtime_endpoint: Option<String>,
    /// How many pods a node may have [default: 110]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_pods: Option<u32>,
    #[command(flatten)]
    cni: crate::cni::Cni,
    #[command(flatten)]
    runtime: crate::runtime_flags::RuntimeFlags,
    #[command(flatten)]
    kubelet: KubeletFiles,
    #[command(flatten)]
    features: FeatureGates,
}

impl Up {
    /// Starts what does not run.
    pub fn run(self) -> Result<()> {
        let paths = self.which.paths();
        fs::create_dir_all(&paths.data).with_context(|| format!("making {}", paths.data.display()))?;
        fs::create_dir_all(&paths.run).with_context(|| format!("making {}", paths.run.display()))?;
        let mut settings = self.settings(&paths)?;
        self.start_server(&paths, &settings)?;
        let kubeconfig = self.write_kubeconfig(&paths, &settings)?;
        let nodes = existing::nodes(&settings, &self.asked()?)?;
        if nodes < settings.nodes {
            shrink::to(nodes, &paths, &settings, &kubeconfig)?;
            settings.nodes = nodes;
            settings.save(&paths.settings())?;
        }
        if settings.nodes > 0 {
            self.start_nodes(&paths, &settings, &kubeconfig)?;
        }
        say!("cluster {:?} is ready at https://127.0.0.1:{}", settings.name, settings.port);
        Ok(())
    }

    /// What the cluster is, and the network that its nodes have.
    fn settings(&self, paths: &Paths) -> Result<Settings> {
        let mut known = Settings::load(&paths.settings())?;
        if let Some(known) = &mut known {
            let nodes = existing::nodes(known, &self.asked()?)?;
            // Fewer it has only once they are gone.
            if nodes > known.nodes {
                known.nodes = nodes;
                known.save(&paths.settings())?;
            }
        }
        let asked = if self.control_plane_only { 0 } else { self.nodes.unwrap_or(1) };
        if known.as_ref().map_or(asked, |known| known.nodes) == 0 {
            return known.map_or_else(|| self.first_settings(paths, None), Ok);
        }
        let turn = Turn::wait(paths.run.parent().unwrap_or(&paths.run))?;
        let settings = match known {
            Some(settings) => {
                // What is wrong with it is said here, and not only in a node's log.
                settings.kubelet.load(settings.max_pods, &settings.features, serde_json::Map::new())?;
                settings
            }
            None => self.first_settings(paths, Some(&turn))?,
        };
        check::nodes_can_run()?;
        settings.kubelet.providers()?;
        networks::check(&turn, &settings)?;
        super::block_on(async { Ok(settings.host_network().ensure().await?) })?;
        Ok(settings)
    }

    /// What the flags say.
    fn asked(&self) -> Result<Asked> {
        Ok(Asked {
            port: self.port,
            store: self.store.clone(),
            dual_stack: self.dual_stack,
            runtime_endpoint: self.container_runtime_endpoint.clone(),
            max_pods: self.max_pods,
            nodes: self.nodes,
            cni: self.cni.clone(),
            runtime: self.runtime.absolute()?,
            kubelet: self.kubelet.absolute()?,
            features: self.features.clone(),
        })
    }

    /// Of a new cluster, which has nodes if it has a turn at choosing their network.
    fn first_settings(&self, paths: &Paths, turn: Option<&Turn>) -> Result<Settings> {
        let port = match self.port.unwrap_or(6443) {
            0 => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port(),
            port => {
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| {
                    format!("port {port} is taken: choose another with --port, or --port 0 for a free one")
                })?;
                port
            }
        };
        let (nodes, index) = match turn {
            Some(turn) => (self.nodes.unwrap_or(1), networks::free(turn)?),
            None => (0, 0),
        };
        let kubelet = self.kubelet.absolute()?;
        let mut max_pods = self.max_pods.unwrap_or(MAX_PODS);
        if nodes > 0 {
            // A node's part of the pod network is made for as many as its kubelet takes.
            let told = kubelet.load(max_pods, &self.features, serde_json::Map::new())?;
            max_pods = self.max_pods.map_or_else(|| u32::try_from(told.fields.max_pods), Ok)?;
        }
        let settings = Settings {
            name: self.which.name.clone(),
            index,
            port,
            store: self.store.clone().unwrap_or_else(|| "embedded".to_owned()),
            nodes,
            runtime_endpoint: self.container_runtime_endpoint.clone(),
            advertise: if nodes == 0 { Ipv4Addr::LOCALHOST } else { node_network(index, 1) },
            listen_all: false,
            dual_stack: self.dual_stack,
            cni: self.cni.clone(),
            runtime: self.runtime.absolute()?,
            max_pods,
            kubelet,
            features: self.features.clone(),
        };
        settings.save(&paths.settings())?;
        Ok(settings)
    }

    fn start_server(&self, paths: &Paths, settings: &Settings) -> Result<()> {
        let record = paths.process("server");
        let since = Instant::now();
        while ProcessRecord::alive(&record).is_some() {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, settings.port)).is_ok() {
                return Ok(());
            }
            // It may be about to end, or to listen.
            if since.elapsed() > PATIENCE {
                bail!(
                    "the control plane runs, and does not answer at port {}: see {}",
                    settings.port,
                    paths.log("server").display()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = fs::remove_file(&record);
        let log = paths.log("server");
        let mut child = daemon::start(&log, &["server", "--name", &self.which.name], &paths.data)?;
        let since = Instant::now();
        while ProcessRecord::alive(&record).is_none() {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the control plane ended ({status}):\n{}\nits log is {}",
                    daemon::last_lines(&log),
                    log.display()
                );
            }
            if since.elapsed() > PATIENCE {
                bail!("the control plane is not ready after {PATIENCE:?}; its log is {}", log.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn write_kubeconfig(&self, paths: &Paths, settings: &Settings) -> Result<String> {
        let pki = Pki::load_or_create(&paths.pki(), SystemClock::shared(), SystemRandom::shared())?;
        let year = Duration::from_secs(365 * 24 * 3600);
        let admin = pki.issue_client("kubernetes-admin", &["system:masters"], year)?;
        let server = format!("https://127.0.0.1:{}", settings.port);
        let entry = Entry {
            name: &settings.name,
            server: &server,
            ca_pem: pki.ca_pem(),
            credential: Credential::Certificate(&admin),
        };
        let path = match (&self.kubeconfig, super::home()) {
            (Some(path), _) => path.clone(),
            (None, Some(home)) => home.join(".kube/config"),
            (None, None) => bail!("HOME is not set: say where to write the kubeconfig with --kubeconfig"),
        };
        let old = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let merged = kubeconfig::merge(old.as_deref(), &entry).with_context(|| {
            format!("{} cannot be merged into: write to another file with --kubeconfig", path.display())
        })?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        }
        auth::pki::write_private(&path, &merged)?;
        Ok(kubeconfig::render(&entry)?)
    }

    fn start_nodes(&self, paths: &Paths, settings: &Settings, kubeconfig: &str) -> Result<()> {
        let network = settings.host_network();
        let numbered = || (1..).zip(settings.node_names());
        super::block_on(async {
            for (number, node) in numbered() {
                let (ip, ip_v6) = (settings.node_ip(number), settings.node_ip_v6(number));
                network.ensure_node(number, &paths.netns(&node), ip, ip_v6).await?;
            }
            // The API server passes requests on to pods and Services, and its webhooks are among them.
            for cidr in [settings.service_cidr(), settings.pod_cidr()] {
                network.route(&cidr, settings.node_ip(1)).await?;
            }
            Ok(())
        })?;
        let pki = Pki::load_or_create(&paths.pki(), SystemClock::shared(), SystemRandom::shared())?;
        for (number, node) in numbered() {
            identity::give(&pki, paths, settings, &node, number)?;
        }
        super::block_on(existing::restart_deleted(kubeconfig, paths, settings))?;
        let mut children = node_processes::Children::new();
        for _ in 0..RESTARTS {
            self.start_server(paths, settings)?;
            let found = node_processes::start(paths, settings, &mut children)?;
            let waited = node_processes::wait(kubeconfig, paths, settings, found, &mut children);
            if super::block_on(waited)? == node_processes::Waited::Ready {
                return Ok(());
            }
        }
        bail!(
            "processes of the cluster end again and again: see the logs in {}",
            paths.log("server").display()
        );
    }
}
