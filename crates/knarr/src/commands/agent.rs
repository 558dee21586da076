//! `knarr agent`: this machine as a node of a cluster elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Child;

use anyhow::{Context, Result, bail};
use auth::kubeconfig::Credential;
use base::SystemClock;
use clap::Args;

use super::Which;
use crate::cluster::{NodeSettings, ProcessRecord, write_whole};
use crate::join::{self, Joining, Token};
use crate::node::{self, Identity};
use crate::paths::Paths;
use crate::{api, check};

/// `knarr agent`
#[derive(Debug, Args)]
pub struct Agent {
    #[command(flatten)]
    which: Which,
    /// Where the cluster's API server is, such as https://10.0.0.1:6443
    #[arg(long, env = "KNARR_SERVER")]
    server: String,
    /// What `knarr token create` printed on the server; needed the first time
    #[arg(long, env = "KNARR_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The node's name [default: the host's]
    #[arg(long)]
    node_name: Option<String>,
    /// The node's address, or one of each family, parted by a comma [default: the one from which it reaches the server]
    #[arg(long, value_delimiter = ',')]
    node_ip: Vec<IpAddr>,
    /// A container runtime to use instead of our own
    #[arg(long)]
    container_runtime_endpoint: Option<String>,
    #[command(flatten)]
    cni: crate::cni::Cni,
    #[command(flatten)]
    runtime: crate::runtime_flags::RuntimeFlags,
    #[command(flatten)]
    kubelet: crate::kubelet_files::KubeletFiles,
    #[command(flatten)]
    features: crate::feature_gates::FeatureGates,
}

impl Agent {
    /// Joins if need be, and runs the node until the process is told to stop. Pods go on.
    pub fn run(self) -> Result<()> {
        let log = super::log::log(None, None);
        join::url(&self.server)?;
        base::memory::one_heap();
        check::nodes_can_run()?;
        let paths = self.which.paths();
        let name = match &self.node_name {
            Some(name) => name.clone(),
            None => nix::unistd::gethostname()?.to_string_lossy().to_lowercase(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let settings = runtime.block_on(self.prepare(&paths, &name))?;
        let runtime_process = self.start_runtime(&paths, &name)?;
        let ended = runtime.block_on(node::run_agent(&paths, &settings, &name, log));
        drop(runtime_process);
        ended
    }

    /// Who the node is, and what it must know; both are kept.
    async fn prepare(&self, paths: &Paths, name: &str) -> Result<NodeSettings> {
        let dir = paths.node(name);
        let now = SystemClock::shared().now();
        let known = Identity::find(&dir)?.map(|known| known.newest(&dir, &self.server, now)).transpose()?;
        let identity = match known.flatten() {
            Some(identity) => self.addressed(identity),
            None => self.join(name).await?,
        };
        identity.save(&dir)?;
        let client = client::connect::kubeconfig(&identity.kubelet).await?;
        let kept = dir.join("settings.json");
        let mut settings = match join::settings(&client).await {
            Ok(settings) => settings,
            // The cluster may be away while this machine starts: its pods need it less than their node.
            Err(error) => match std::fs::read(&kept) {
                Ok(bytes) => {
                    serde_json::from_slice(&bytes).with_context(|| format!("reading {}", kept.display()))?
                }
                Err(_) => return Err(error),
            },
        };
        write_whole(&kept, &serde_json::to_vec(&settings)?)?;
        write_whole(&dir.join("name"), name.as_bytes())?;
        settings.runtime_endpoint = self.container_runtime_endpoint.clone();
        settings.kubelet = self.kubelet.clone();
        settings.features = settings.features.under(&self.features);
        // Control groups and tables are this machine's, and named as `knarr down` looks for them.
        settings.name.clone_from(&self.which.name);
        Ok(settings)
    }

    async fn join(&self, name: &str) -> Result<Identity> {
        let Some(token) = &self.token else {
            bail!(
                "this machine is no node yet, or was one too long ago: give it a --token, made with `knarr token create` on the server"
            );
        };
        let token = Token::parse(token)?;
        let ca_pem = join::authority(&self.server, &token.hash).await?;
        let first = join::kubeconfig_of(&self.server, &ca_pem, Credential::Token(&token.bearer))?;
        let client = client::connect::kubeconfig(&first).await?;
        let ip = match self.address() {
            Some(ip) => ip,
            None => bail!(
                "this machine has no address from which it reaches {}: give it one with --node-ip",
                self.server
            ),
        };
        let joining = Joining { server: &self.server, node: name, ip, ip_v6: self.ip_v6() };
        join::join(&joining, &client, &ca_pem)
            .await
            .with_context(|| format!("joining {} as {name}", self.server))
    }

    /// A machine may have another address than when it joined. Its certificate is renewed for that.
    fn addressed(&self, known: Identity) -> Identity {
        let ip = self.address().unwrap_or(known.ip);
        if ip != known.ip {
            tracing::info!(before = %known.ip, now = %ip, "the node has another address");
        }
        Identity { ip, ip_v6: self.ip_v6().or(known.ip_v6), ..known }
    }

    /// The one that is given, or from which the server is reached.
    fn address(&self) -> Option<Ipv4Addr> {
        let target = self.server.trim_start_matches("https://").trim_end_matches('/');
        self.ip_v4().or_else(|| api::address_towards(target))
    }

    fn ip_v4(&self) -> Option<Ipv4Addr> {
        self.node_ip.iter().find_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None })
    }

    fn ip_v6(&self) -> Option<Ipv6Addr> {
        self.node_ip.iter().find_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None })
    }

    /// The container runtime is a process of its own, which outlives this one.
    fn start_runtime(&self, paths: &Paths, name: &str) -> Result<Option<Child>> {
        let process = format!("runtime-{name}");
        let record = paths.process(&process);
        if self.container_runtime_endpoint.is_some() || ProcessRecord::alive(&record).is_some() {
            return Ok(None);
        }
        let cni = self.cni.clone().or_conf_dir(std::path::Path::new(crate::cni::CONF_DIR)).arguments();
        let mut arguments =
            vec!["node-runtime", "--name", &self.which.name, "--node", name, "--host-network"];
        let flags = self.runtime.absolute()?.arguments();
        arguments.extend(cni.iter().chain(&flags).map(String::as_str));
        super::daemon::start(&paths.log(&process), &arguments, &paths.data).map(Some)
    }
}
