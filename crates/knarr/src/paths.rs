//! Where a cluster keeps its files. Nothing is shared between clusters.

use std::path::{Path, PathBuf};

/// The directories of one cluster on this machine.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The cluster's name.
    pub name: String,
    /// What must outlive the machine's next start.
    pub data: PathBuf,
    /// Sockets, process ids, pins.
    pub run: PathBuf,
}

impl Paths {
    /// The directories of the cluster `name`; `data_dir` takes the place of the usual one.
    pub fn new(name: &str, data_dir: Option<&Path>, home: Option<&Path>) -> Self {
        let root = nix::unistd::geteuid().is_root();
        let data = match (data_dir, home) {
            (Some(dir), _) => dir.to_owned(),
            (None, Some(home)) if !root => home.join(".local/share/knarr").join(name),
            _ => PathBuf::from("/var/lib/knarr").join(name),
        };
        let run = if root { PathBuf::from("/run/knarr").join(name) } else { data.join("run") };
        Self { name: name.to_owned(), data, run }
    }

    /// The cluster's settings.
    pub fn settings(&self) -> PathBuf {
        self.data.join("cluster.json")
    }

    /// The store.
    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    /// Keys and certificates.
    pub fn pki(&self) -> PathBuf {
        self.data.join("pki")
    }

    /// The log of a process.
    pub fn log(&self, process: &str) -> PathBuf {
        self.data.join("logs").join(format!("{process}.log"))
    }

    /// The record of a process that runs.
    pub fn process(&self, process: &str) -> PathBuf {
        self.run.join(format!("{process}.json"))
    }

    /// What a node keeps.
    pub fn node(&self, node: &str) -> PathBuf {
        self.data.join("nodes").join(node)
    }

    /// What a node needs while it runs.
    pub fn node_run(&self, node: &str) -> PathBuf {
        self.run.join("nodes").join(node)
    }

    /// The node's network namespace.
    pub fn netns(&self, node: &str) -> PathBuf {
        self.node_run(node).join("netns")
    }

    /// The socket of the node's container runtime.
    pub fn cri_socket(&self, node: &str) -> PathBuf {
        self.node_run(node).join("runtime/cri.sock")
    }
}
