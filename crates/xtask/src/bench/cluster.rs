//! A cluster of our own, gone with everything it made when dropped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::image;
use super::process;

/// A throw-away cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    knarr: PathBuf,
    name: String,
    dir: tempfile::TempDir,
    /// Whether it has a node.
    node: bool,
}

impl Cluster {
    /// A cluster that does not run yet.
    ///
    /// # Errors
    /// When there is no room for its files.
    pub fn new(knarr: &Path, node: bool) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if node && !nix::unistd::geteuid().is_root() {
            bail!("a node needs root");
        }
        let name = format!("bench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        Ok(Self { knarr: knarr.to_owned(), name, dir: tempfile::tempdir()?, node })
    }

    /// Another one, likewise, with a node or not.
    ///
    /// # Errors
    /// When there is no room for its files.
    pub fn another(&self, node: bool) -> Result<Self> {
        Self::new(&self.knarr, node)
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir().join("kubeconfig")
    }

    /// `knarr up`, for the first time or again: how long it took.
    ///
    /// # Errors
    /// When it fails: with what the logs say.
    pub fn up(&self) -> Result<Duration> {
        let kubeconfig = self.kubeconfig().display().to_string();
        let mut arguments = vec!["up", "--port", "0", "--kubeconfig", &kubeconfig];
        if !self.node {
            arguments.push("--control-plane-only");
        }
        let since = Instant::now();
        self.run(&arguments)?;
        Ok(since.elapsed())
    }

    /// `knarr down`; what it keeps is kept.
    ///
    /// # Errors
    /// When it fails.
    pub fn down(&self) -> Result<()> {
        self.run(&["down"]).map(|_| ())
    }

    /// Imports the image of [`image`] into its node.
    ///
    /// # Errors
    /// When it fails.
    pub fn import_image(&self) -> Result<()> {
        let archive = image::archive(self.dir())?;
        self.run(&["image", "import", &archive.display().to_string()]).map(|_| ())
    }

    /// Its processes, without the shims.
    ///
    /// # Errors
    /// When `knarr status` fails.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let status: serde_json::Value = serde_json::from_str(&self.run(&["status", "-o", "json"])?)?;
        let list = status.get("processes").and_then(serde_json::Value::as_array);
        let pid = |process: &serde_json::Value| {
            process.get("pid").and_then(serde_json::Value::as_u64).and_then(|pid| u32::try_from(pid).ok())
        };
        let pids: Option<Vec<u32>> = list.context("knarr status has no processes")?.iter().map(pid).collect();
        pids.context("knarr status has a process without a pid")
    }

    /// The shims of its pods.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn shims(&self) -> Result<Vec<u32>> {
        let mut shims = process::by_name(&["knarr-shim".to_owned()])?;
        shims.retain(|&pid| process::cgroups(pid).contains(&format!("/{}/", self.name)));
        Ok(shims)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.knarr);
        let data = self.dir().join("data");
        command.args(arguments.first()).arg("--name").arg(&self.name).arg("--data-dir").arg(data);
        image::run(command.args(arguments.get(1..).unwrap_or_default()))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.run(&["down", "--purge"]) {
            eprintln!("cluster {} could not be taken down: {error:#}", self.name);
        }
    }
}
