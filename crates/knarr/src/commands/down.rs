//! `knarr down`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Which;
use crate::cluster::ProcessRecord;

/// How long a process gets to end by itself.
const GRACE: Duration = Duration::from_secs(20);

/// `knarr down`
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    which: Which,
    /// Remove the cluster's files as well: everything in it is lost
    #[arg(long)]
    purge: bool,
}

impl Down {
    /// Ends the cluster's processes.
    pub fn run(self) -> Result<()> {
        let paths = self.which.paths();
        if let Some(record) = ProcessRecord::alive(&paths.process("server")) {
            end(&paths.process("server"), &record)?;
        }
        remove(&paths.run)?;
        if self.purge {
            remove(&paths.data)?;
        }
        Ok(())
    }
}

fn end(path: &std::path::Path, record: &ProcessRecord) -> Result<()> {
    let pid = Pid::from_raw(record.pid);
    kill(pid, Signal::SIGTERM).with_context(|| format!("ending process {pid}"))?;
    let since = Instant::now();
    while ProcessRecord::alive(path).is_some() {
        if since.elapsed() > GRACE {
            kill(pid, Signal::SIGKILL).with_context(|| format!("killing process {pid}"))?;
        }
        if since.elapsed() > GRACE * 2 {
            bail!("process {pid} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn remove(dir: &std::path::Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}
