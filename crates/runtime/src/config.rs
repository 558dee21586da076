use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{SharedClock, SharedRandom, SystemClock, SystemRandom};

use crate::network::{Loopback, PodNetwork};

/// Everything that one runtime needs to know. Two runtimes on one machine share no path in it.
#[derive(Clone)]
pub struct Config {
    /// What outlives a restart of the machine: images, writable layers, records.
    pub root: PathBuf,
    /// What need not: sockets, pinned namespaces, mount points.
    pub run_dir: PathBuf,
    /// Whether that folder is put in memory, where it lies on a disk. Whoever removes it has to unmount it first.
    pub in_memory: bool,
    /// Where the CRI is served.
    pub socket: PathBuf,
    /// The cgroup under which all pods are, as `/knarr/node-1`; empty for the root.
    pub cgroup_parent: String,
    /// Who connects pods, while no CNI plugin does.
    pub network: Arc<dyn PodNetwork>,
    /// Where CNI's configurations and plugins are; `None` for a runtime that does not look for them.
    pub cni: Option<crate::CniSettings>,
    /// Where images come from.
    pub registries: Registries,
    /// OCI programs by the names that a RuntimeClass gives them, as `runc` → `/usr/sbin/runc`.
    pub handlers: BTreeMap<String, PathBuf>,
    /// Where vendors' files of devices are, those that count most last.
    pub cdi_dirs: Vec<PathBuf>,
    /// The time.
    pub clock: SharedClock,
    /// Where ids come from.
    pub random: SharedRandom,
}

/// Where images come from.
#[derive(Debug, Clone)]
pub struct Registries {
    /// Where `<host>/hosts.toml` files are, which say who is asked for a registry's images; read at each pull.
    pub config_dir: Option<PathBuf>,
    /// Hosts, with port, that speak plain HTTP. Loopback always may.
    pub plain_http: Vec<String>,
    /// How long a registry may say nothing.
    pub stall: Duration,
}

impl Default for Registries {
    fn default() -> Self {
        Self { config_dir: None, plain_http: Vec::new(), stall: Duration::from_secs(60) }
    }
}

impl Config {
    /// A configuration with loopback networking, and everything below one folder each.
    pub fn new(root: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Self {
        let run_dir = run_dir.into();
        Self {
            root: root.into(),
            socket: run_dir.join("cri.sock"),
            run_dir,
            in_memory: false,
            cgroup_parent: String::new(),
            network: Arc::new(Loopback),
            cni: None,
            registries: Registries::default(),
            handlers: BTreeMap::new(),
            cdi_dirs: vec!["/etc/cdi".into(), "/var/run/cdi".into()],
            clock: SystemClock::shared(),
            random: SystemRandom::shared(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("root", &self.root)
            .field("run_dir", &self.run_dir)
            .field("socket", &self.socket)
            .field("cgroup_parent", &self.cgroup_parent)
            .field("cni", &self.cni)
            .field("registries", &self.registries)
            .finish_non_exhaustive()
    }
}
