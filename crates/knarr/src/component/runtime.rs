//! `knarr runtime` by itself: a CRI runtime for any kubelet, whose pods are connected by CNI plugins or routed links.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use base::Shutdown;
use clap::Args;

use crate::network::Network;

/// `knarr runtime`, for any kubelet.
#[derive(Debug, Args)]
pub struct Runtime {
    #[command(flatten)]
    pub logging: super::Logging,
    /// Where images, layers and records are
    #[arg(long, default_value = "/var/lib/knarr-runtime")]
    root: PathBuf,
    /// Where sockets and mount points are
    #[arg(long, default_value = "/run/knarr-runtime")]
    state: PathBuf,
    /// Where the CRI is served [default: cri.sock in the state directory]
    #[arg(long)]
    socket: Option<PathBuf>,
    /// The cgroup under which all pods are
    #[arg(long, default_value = "")]
    cgroup_parent: String,
    #[command(flatten)]
    flags: crate::runtime_flags::RuntimeFlags,
    /// The range of pod addresses, where no kubelet tells it
    #[arg(long, value_name = "CIDR")]
    pod_cidr: Option<String>,
    #[command(flatten)]
    cni: crate::cni::Cni,
}

impl Runtime {
    /// Serves the CRI until the process is told to stop. Containers go on.
    ///
    /// # Errors
    /// What keeps it from running.
    pub async fn run(self) -> Result<()> {
        let mut config = runtime::Config::new(self.root, self.state.clone());
        if let Some(socket) = self.socket {
            config.socket = socket;
        }
        config.cgroup_parent = self.cgroup_parent;
        self.flags.settle(&mut config);
        config.cni = self.cni.settings(Some(Path::new(crate::cni::CONF_DIR)), config.root.join("cni"));
        config.network = Arc::new(Network::new(self.state.join("addresses"))?);
        if let Some(cidr) = &self.pod_cidr {
            config.network.set_pod_cidr(cidr);
        }
        let shutdown = Shutdown::new();
        let run = runtime::run(config, shutdown.clone());
        tokio::pin!(run);
        tokio::select! {
            ended = &mut run => Ok(ended?),
            ended = super::wait_for_end(&shutdown) => {
                ended?;
                shutdown.trigger();
                Ok(run.await?)
            }
        }
    }
}
