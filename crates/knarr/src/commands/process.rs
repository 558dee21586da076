//! Processes that run in the foreground.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use auth::kubeconfig::Credential;
use auth::pki::Pki;
use base::{SystemClock, SystemRandom};
use clap::Args;

use super::Which;
use super::log::log;
use crate::cluster::Settings;
use crate::feature_gates::FeatureGates;
use crate::paths::Paths;
use crate::{api, control_plane, join, node};

/// `knarr server`
#[derive(Debug, Args)]
pub struct Server {
    #[command(flatten)]
    which: Which,
    /// The API server's port
    #[arg(long, default_value_t = 6443)]
    port: u16,
    /// Where to keep objects: embedded, or etcd=URL
    #[arg(long, default_value = "embedded")]
    store: String,
    /// Where other machines reach this one [default: the machine's address]
    #[arg(long)]
    advertise_address: Option<Ipv4Addr>,
    /// Give pods addresses of IPv6, too; nodes that join need one of each family
    #[arg(long)]
    dual_stack: bool,
    /// How many pods a node may have
    #[arg(long, default_value_t = 110, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_pods: u32,
    #[command(flatten)]
    features: FeatureGates,
}

/// `knarr runtime`, and the rest of a node, of a cluster on this machine.
#[derive(Debug, Args)]
pub struct Node {
    #[command(flatten)]
    which: Which,
    /// The node's name
    #[arg(long)]
    node: String,
    /// The node is this machine itself, and has no network namespace of its own
    #[arg(long, hide = true)]
    host_network: bool,
    #[command(flatten)]
    cni: crate::cni::Cni,
    #[command(flatten)]
    runtime: crate::runtime_flags::RuntimeFlags,
}

fn settings(which: &Which) -> Result<(Paths, Settings)> {
    let paths = which.paths();
    let settings = Settings::load(&paths.settings())?
        .with_context(|| format!("there is no cluster {:?}: make one with `knarr up`", which.name))?;
    Ok((paths, settings))
}

impl Server {
    /// Runs the control plane: of a cluster that `knarr up` has made, or a new one for other machines to join.
    pub fn run(self) -> Result<()> {
        log(None, None);
        let paths = self.which.paths();
        let settings = match Settings::load(&paths.settings())? {
            Some(mut settings) => {
                if !self.features.is_empty() {
                    settings.features = self.features.clone();
                }
                self.addressed(settings, &paths)?
            }
            None => self.first_settings(&paths)?,
        };
        if settings.listen_all {
            write_admin(&paths, &settings)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(control_plane::run(&paths, &settings))
    }

    /// A machine may have another address than when its cluster was made: the one that is given now, or its first where
    /// it no longer has the one that was kept. Its certificate and the administrator's kubeconfig follow.
    fn addressed(&self, kept: Settings, paths: &Paths) -> Result<Settings> {
        let advertise = match self.advertise_address {
            Some(given) => given,
            None if !kept.listen_all || api::is_own(kept.advertise) => kept.advertise,
            None => api::primary_address(),
        };
        if advertise == kept.advertise {
            return Ok(kept);
        }
        tracing::info!(before = %kept.advertise, now = %advertise, "the server has another address");
        let settings = Settings { advertise, ..kept };
        settings.save(&paths.settings())?;
        Ok(settings)
    }

    fn first_settings(&self, paths: &Paths) -> Result<Settings> {
        let settings = Settings {
            name: self.which.name.clone(),
            index: 0,
            port: self.port,
            store: self.store.clone(),
            nodes: 0,
            runtime_endpoint: None,
            advertise: self.advertise_address.unwrap_or_else(api::primary_address),
            listen_all: true,
            dual_stack: self.dual_stack,
            cni: crate::cni::Cni::default(),
            runtime: crate::runtime_flags::RuntimeFlags::default(),
            max_pods: self.max_pods,
            kubelet: crate::kubelet_files::KubeletFiles::default(),
            features: self.features.clone(),
        };
        settings.save(&paths.settings())?;
        Ok(settings)
    }
}

/// Leaves the administrator's kubeconfig beside the cluster's files.
fn write_admin(paths: &Paths, settings: &Settings) -> Result<()> {
    let pki = Pki::load_or_create(&paths.pki(), SystemClock::shared(), SystemRandom::shared())?;
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let admin = pki.issue_client("kubernetes-admin", &["system:masters"], year)?;
    let server = format!("https://{}:{}", settings.advertise, settings.port);
    let text = join::kubeconfig_of(&server, pki.ca_pem(), Credential::Certificate(&admin))?;
    let path = paths.data.join("admin.kubeconfig");
    auth::pki::write_private(&path, &text).with_context(|| format!("writing {}", path.display()))?;
    eprintln!("administrator's kubeconfig: {}", path.display());
    eprintln!("other machines join with what `knarr token create --name {}` prints", settings.name);
    Ok(())
}

impl Node {
    /// Runs the container runtime of a node.
    pub fn run_runtime(self) -> Result<()> {
        log(None, None);
        base::memory::one_heap();
        let paths = self.which.paths();
        if !self.host_network {
            node::enter(&paths, &self.node)?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let flags = (&self.cni, &self.runtime);
        runtime.block_on(node::run_runtime(&paths, &self.which.name, &self.node, flags))
    }

    /// Runs kubelet, routes, Services and DNS of a node.
    pub fn run_agent(self) -> Result<()> {
        let log = log(None, None);
        base::memory::one_heap();
        let (paths, settings) = settings(&self.which)?;
        node::enter(&paths, &self.node)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(node::run_agent(&paths, &settings.for_nodes(), &self.node, log))
    }
}
