//! Nodes that stand beside ours: containerd with runc in the place of our runtime, upstream's kubelet in the place of
//! ours. The programs are given on the command line; the control plane is ours everywhere.

mod accounts;
mod config;
mod containerd;
mod kubelet;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

pub(super) use accounts::Account;
pub(super) use containerd::Containerd;
pub(super) use kubelet::Upstream;

/// The programs of nodes that stand beside ours.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Programs {
    /// Measure our kubelet on this containerd too, in the rows about nodes; runc is taken from the search path
    #[arg(long, value_name = "PROGRAM")]
    peer_containerd: Option<PathBuf>,
    /// Measure upstream's kubelet too, on that containerd; without one, on our runtime
    #[arg(long, value_name = "PROGRAM")]
    peer_kubelet: Option<PathBuf>,
    /// A static program for containerd's pause containers [default: busybox, which sleeps]
    #[arg(long, value_name = "PROGRAM", requires = "peer_containerd")]
    peer_pause: Option<PathBuf>,
}

/// What a node is made of where it is not ours.
#[derive(Debug, Clone, Default)]
pub(super) struct Peer {
    /// The containerd in the place of our runtime.
    pub containerd: Option<PathBuf>,
    /// The kubelet in the place of ours.
    pub kubelet: Option<PathBuf>,
    /// The program of containerd's pause containers.
    pub pause: Option<PathBuf>,
}

impl Programs {
    /// The nodes to measure beside ours, by the names that their columns have.
    pub fn peers(&self) -> Vec<(&'static str, Peer)> {
        let peer = |kubelet: Option<&PathBuf>| Peer {
            containerd: self.peer_containerd.clone(),
            kubelet: kubelet.cloned(),
            pause: self.peer_pause.clone(),
        };
        let on_containerd = self.peer_containerd.as_ref().map(|_| ("on containerd", peer(None)));
        let name = if self.peer_containerd.is_some() { "upstream" } else { "upstream kubelet" };
        let upstream = self.peer_kubelet.as_ref().map(|kubelet| (name, peer(Some(kubelet))));
        on_containerd.into_iter().chain(upstream).collect()
    }
}

/// Where a node of our own has what a peer needs.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The cluster's name.
    pub cluster: String,
    /// The node's name.
    pub node: String,
    /// The cluster's files.
    pub data: PathBuf,
    /// Where the peer's files go.
    pub own: PathBuf,
}

impl Place {
    /// Where the node has its sockets.
    pub fn run(&self) -> PathBuf {
        Path::new("/run/knarr").join(&self.cluster).join("nodes").join(&self.node)
    }

    /// The node's network namespace.
    pub fn netns(&self) -> PathBuf {
        self.run().join("netns")
    }

    /// Where the node's runtime is served.
    pub fn socket(&self) -> PathBuf {
        self.run().join("runtime/cri.sock")
    }

    /// The node's cgroup.
    pub fn cgroup(&self) -> String {
        format!("/knarr/{}/{}", self.cluster, self.node)
    }
}

/// Waits for something that comes true by itself.
pub(super) fn until(what: &str, child: Option<&mut Child>, mut done: impl FnMut() -> bool) -> Result<()> {
    let (since, mut child) = (Instant::now(), child);
    while !done() {
        if let Some(status) = child.as_mut().and_then(|child| child.try_wait().transpose()) {
            bail!("{what} does not come: the process has ended ({})", status?);
        }
        if since.elapsed() > Duration::from_secs(60) {
            bail!("{what} does not come within a minute");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_adds_a_column() {
        let names = |containerd: bool, kubelet: bool| {
            let programs = Programs {
                peer_containerd: containerd.then(|| "/c".into()),
                peer_kubelet: kubelet.then(|| "/k".into()),
                peer_pause: None,
            };
            programs.peers().into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert!(names(false, false).is_empty());
        assert_eq!(names(true, false), ["on containerd"]);
        assert_eq!(names(true, true), ["on containerd", "upstream"]);
        assert_eq!(names(false, true), ["upstream kubelet"]);
    }
}
