//! Where a cluster keeps its files. Nothing is shared between clusters.

use std::path::{Path, PathBuf};

/// A path without links, as the kernel tells it of mounts; of what is not there yet, the part that is.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(path), ..) => path,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path,
    }
}

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
        Self { name: name.to_owned(), data: real(&data), run }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_stand_where_mounts_are_told_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("disk")).unwrap();
        std::os::unix::fs::symlink("disk", root.join("link")).unwrap();
        let data = |path: &Path| Paths::new("a", Some(path), None).data;
        assert_eq!(data(&root.join("link")), root.join("disk"));
        assert_eq!(data(&root.join("link/not/yet")), root.join("disk/not/yet"));
        assert_eq!(data(Path::new("not/yet")), std::env::current_dir().unwrap().join("not/yet"));
    }
}
