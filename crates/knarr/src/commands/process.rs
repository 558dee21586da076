//! Processes that run in the foreground.

use anyhow::{Context, Result};
use clap::Args;

use super::Which;
use crate::cluster::Settings;
use crate::paths::Paths;
use crate::{control_plane, node};

/// `knarr server`
#[derive(Debug, Args)]
pub struct Server {
    #[command(flatten)]
    which: Which,
}

/// `knarr runtime`, and the rest of a node.
#[derive(Debug, Args)]
pub struct Node {
    #[command(flatten)]
    which: Which,
    /// The node's name
    #[arg(long)]
    node: String,
}

fn settings(which: &Which) -> Result<(Paths, Settings)> {
    let paths = which.paths();
    let settings = Settings::load(&paths.settings())?
        .with_context(|| format!("there is no cluster {:?}: make one with `knarr up`", which.name))?;
    Ok((paths, settings))
}

impl Server {
    /// Runs the control plane of a cluster that `knarr up` has made.
    pub fn run(self) -> Result<()> {
        log();
        let (paths, settings) = settings(&self.which)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(control_plane::run(&paths, &settings))
    }
}

impl Node {
    /// Runs the container runtime of a node.
    pub fn run_runtime(self) -> Result<()> {
        log();
        let (paths, settings) = settings(&self.which)?;
        node::enter(&paths, &self.node)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(node::run_runtime(&paths, &settings, &self.node))
    }

    /// Runs kubelet, routes, Services and DNS of a node.
    pub fn run_agent(self) -> Result<()> {
        log();
        let (paths, settings) = settings(&self.which)?;
        node::enter(&paths, &self.node)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(node::run_agent(&paths, &settings, &self.node))
    }
}

/// Logs to standard error; `KNARR_LOG` chooses what.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KNARR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,lsm_tree=warn,fjall=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
