//! A cluster of our own, gone with everything it made when dropped.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::image;
use super::peers::{self, Account, Containerd, Peer, Place, Upstream};
use super::process;

/// A throw-away cluster.
#[derive(Debug)]
pub(super) struct Cluster {
    /// What stands in the place of our own parts. The first fields: they go before the cluster's files.
    upstream: RefCell<Option<Upstream>>,
    containerd: RefCell<Option<Containerd>>,
    knarr: PathBuf,
    name: String,
    account: Account,
    dir: tempfile::TempDir,
    /// Whether it has a node.
    node: Option<Peer>,
}

/// How many pods a node may have.
const MAX_PODS: u32 = 600;

impl Cluster {
    /// A cluster that does not run yet.
    ///
    /// # Errors
    /// When there is no room for its files.
    pub fn new(knarr: &Path, node: Option<Peer>) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        if node.is_some() && !nix::unistd::geteuid().is_root() {
            bail!("a node needs root");
        }
        let name = format!("bench-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let (account, dir) = (Account::new(&name)?, tempfile::tempdir()?);
        let (upstream, containerd) = (RefCell::default(), RefCell::default());
        Ok(Self { upstream, containerd, knarr: knarr.to_owned(), name, account, dir, node })
    }

    /// Another one, with a node.
    ///
    /// # Errors
    /// When there is no room for its files.
    pub fn another(&self) -> Result<Self> {
        Self::new(&self.knarr, Some(Peer::default()))
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
        let max_pods = MAX_PODS.to_string();
        let endpoint = format!("unix://{}", self.place().socket().display());
        let mut arguments = vec!["up", "--port", "0", "--kubeconfig", &kubeconfig, "--max-pods", &max_pods];
        let peer = match &self.node {
            Some(peer) => peer,
            None => {
                arguments.push("--control-plane-only");
                &Peer::default()
            }
        };
        let since = Instant::now();
        match &peer.containerd {
            None => drop(self.run(&arguments)?),
            Some(program) => {
                arguments.extend(["--container-runtime-endpoint", &endpoint]);
                self.up_on_containerd(program, peer.pause.as_deref(), &arguments)?;
            }
        }
        if let Some(kubelet) = &peer.kubelet {
            let upstream = Upstream::replace(self.agent()?, kubelet, &self.place(), &self.account, MAX_PODS)?;
            self.upstream.replace(Some(upstream));
        }
        Ok(since.elapsed())
    }

    /// The node's network namespace is made by `knarr up`, which then waits for the runtime.
    fn up_on_containerd(&self, program: &Path, pause: Option<&Path>, arguments: &[&str]) -> Result<()> {
        let (place, log) = (self.place(), self.dir().join("up.log"));
        let file = std::fs::File::create(&log)?;
        let mut up = self.command(arguments).stdout(file.try_clone()?).stderr(file).spawn()?;
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        peers::until("the node's namespace", Some(&mut up), || process::is_mount(&place.netns()))
            .with_context(said)?;
        let containerd = Containerd::start((program, &self.knarr, pause), &place, &self.account)?;
        self.containerd.replace(Some(containerd));
        let status = up.wait()?;
        if !status.success() {
            bail!("knarr up: {status}: {}", said());
        }
        Ok(())
    }

    fn place(&self) -> Place {
        Place {
            cluster: self.name.clone(),
            node: format!("{}-1", self.name),
            data: self.dir().join("data"),
            own: self.dir().join("peer"),
        }
    }

    /// Processor time of everything that was started in this cluster, pods and what has ended included: microseconds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn cpu_us(&self) -> Result<u64> {
        self.account.cpu_us()
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
        self.import(&image::archive(self.dir())?)
    }

    /// Imports an archive into its node.
    ///
    /// # Errors
    /// When it fails.
    pub fn import(&self, archive: &Path) -> Result<()> {
        match &*self.containerd.borrow() {
            Some(containerd) => containerd.import(archive),
            None => self.run(&["image", "import", &archive.display().to_string()]).map(|_| ()),
        }
    }

    /// Removes an image from its node, and what only it needed.
    ///
    /// # Errors
    /// When it fails.
    pub fn remove_image(&self, name: &str) -> Result<()> {
        match &*self.containerd.borrow() {
            Some(containerd) => containerd.remove_image(name),
            None => self.run(&["image", "rm", name]).map(|_| ()),
        }
    }

    /// Its processes, without the shims.
    ///
    /// # Errors
    /// When `knarr status` fails.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let own = self.processes()?.into_iter().map(|(_, pid)| pid);
        let upstream = self.upstream.borrow().as_ref().map(Upstream::pid);
        let containerd = self.containerd.borrow().as_ref().map(Containerd::pid);
        Ok(own.chain(upstream).chain(containerd).collect())
    }

    /// The process that is the node's kubelet.
    fn agent(&self) -> Result<u32> {
        let found = self.processes()?.into_iter().find(|(component, _)| component == "kubelet");
        Ok(found.context("knarr status has no kubelet")?.1)
    }

    /// What runs, by the first of its components.
    fn processes(&self) -> Result<Vec<(String, u32)>> {
        let status: serde_json::Value = serde_json::from_str(&self.run(&["status", "-o", "json"])?)?;
        let list = status.get("processes").and_then(serde_json::Value::as_array);
        let process = |process: &serde_json::Value| {
            let component = process.pointer("/components/0")?.as_str()?.to_owned();
            Some((component, u32::try_from(process.get("pid")?.as_u64()?).ok()?))
        };
        let all: Option<Vec<_>> =
            list.context("knarr status has no processes")?.iter().map(process).collect();
        let mut all = all.context("knarr status has a process without a pid")?;
        all.retain(|(component, _)| component != "shim");
        Ok(all)
    }

    /// The shims of its pods, and beside them what a runtime keeps in each pod for itself.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn shims(&self) -> Result<(Vec<u32>, Vec<u32>)> {
        if let Some(containerd) = &*self.containerd.borrow() {
            return containerd.shims();
        }
        let mut shims = process::by_name(&["knarr-shim".to_owned()])?;
        shims.retain(|&pid| process::cgroups(pid).contains(&format!("/{}/", self.name)));
        Ok((shims, Vec::new()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // What only looks on is not counted.
        let mut command = match arguments.first() {
            Some(&"up") => self.account.command(&self.knarr),
            _ => Command::new(&self.knarr),
        };
        let data = self.dir().join("data");
        command.args(arguments.first()).arg("--name").arg(&self.name).arg("--data-dir").arg(data);
        command.args(arguments.get(1..).unwrap_or_default());
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        image::run(&mut self.command(arguments))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.upstream.take());
        drop(self.containerd.take());
        if let Err(error) = self.run(&["down", "--purge"]) {
            eprintln!("cluster {} could not be taken down: {error:#}", self.name);
        }
    }
}
