//! Processes that run in the foreground.

use anyhow::{Context, Result};
use clap::Args;

use super::Which;
use crate::cluster::Settings;
use crate::control_plane;

/// `knarr server`
#[derive(Debug, Args)]
pub struct Server {
    #[command(flatten)]
    which: Which,
}

impl Server {
    /// Runs the control plane of a cluster that `knarr up` has made.
    pub fn run(self) -> Result<()> {
        log();
        let paths = self.which.paths();
        let settings = Settings::load(&paths.settings())?
            .with_context(|| format!("there is no cluster {:?}: make one with `knarr up`", self.which.name))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(control_plane::run(&paths, &settings))
    }
}

/// Logs to standard error; `KNARR_LOG` chooses what.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KNARR_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
