//! The settings of a cluster, and the records of its processes.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::feature_gates::FeatureGates;
use crate::kubelet_files::KubeletFiles;

/// What is fixed when a cluster is made, and read by each of its processes.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The cluster's name.
    pub name: String,
    /// Which of the machine's clusters it is: its networks follow from this.
    pub index: u8,
    /// Where the API server listens.
    pub port: u16,
    /// `embedded`, or `etcd=URL[,URL…]`.
    pub store: String,
    /// How many nodes this machine holds.
    pub nodes: u32,
    /// The runtime to use instead of our own.
    pub runtime_endpoint: Option<String>,
    /// Where pods and other machines reach the API server.
    pub advertise: std::net::Ipv4Addr,
    /// Whether the API server listens on every address of the machine, for nodes on others.
    #[serde(default)]
    pub listen_all: bool,
    /// Nodes and pods have addresses of both families.
    #[serde(default)]
    pub dual_stack: bool,
    /// Who connects pods of nodes on this machine.
    #[serde(default)]
    pub cni: crate::cni::Cni,
    /// What runtimes of nodes on this machine are told beside that.
    #[serde(default)]
    pub runtime: crate::runtime_flags::RuntimeFlags,
    /// How many pods a node may have.
    #[serde(default = "max_pods")]
    pub max_pods: u32,
    /// What kubelets of nodes on this machine are told.
    #[serde(default)]
    pub kubelet: KubeletFiles,
    /// Which features are turned on or off.
    #[serde(default)]
    pub features: FeatureGates,
}

/// How many pods a node may have by upstream's default.
pub const MAX_PODS: u32 = 110;

fn max_pods() -> u32 {
    MAX_PODS
}

fn is_usual(pods: &u32) -> bool {
    *pods == max_pods()
}

/// What a node must know of its cluster.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSettings {
    /// The cluster's name.
    pub name: String,
    /// The range of pod IPs.
    pub cluster_cidr: String,
    /// The address of DNS in pods.
    pub cluster_dns: std::net::Ipv4Addr,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// The runtime to use instead of our own.
    #[serde(default)]
    pub runtime_endpoint: Option<String>,
    /// How many pods it may have.
    #[serde(default = "max_pods", skip_serializing_if = "is_usual")]
    pub max_pods: u32,
    /// What its kubelet is told; of this machine, and nobody else's to know.
    #[serde(skip)]
    pub kubelet: KubeletFiles,
    /// Which features are turned on or off.
    #[serde(default, skip_serializing_if = "FeatureGates::is_empty")]
    pub features: FeatureGates,
}

impl NodeSettings {
    /// The cgroup of a node.
    pub fn cgroup(&self, node: &str) -> String {
        cgroup(&self.name, node)
    }

    /// The runtime of a node, if it is not our own.
    pub fn runtime_endpoint_of(&self, node: &str) -> Option<String> {
        self.runtime_endpoint.as_ref().map(|endpoint| endpoint.replace("{node}", node))
    }

    /// The name of the table of Services.
    pub fn table(&self) -> String {
        format!("knarr-{}", self.name)
    }
}

impl Settings {
    /// The range of cluster IPs.
    pub fn service_cidr(&self) -> String {
        format!("10.{}.0.0/16", 96 + u16::from(self.index % 16))
    }

    /// The range of pod IPs of IPv4.
    pub fn pod_cidr(&self) -> String {
        format!("10.{}.0.0/16", 244 - u16::from(self.index % 16))
    }

    /// The range of pod IPs, or one of each family.
    pub fn cluster_cidr(&self) -> String {
        let v4 = self.pod_cidr();
        if self.dual_stack { format!("{v4},fd6b:6e61:{:x}::/48", self.index) } else { v4 }
    }

    /// The address of DNS in pods.
    pub fn dns_ip(&self) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(10, 96 + self.index % 16, 0, 10)
    }

    /// The network of the cluster's nodes on this machine.
    pub fn host_network(&self) -> net::host::HostNetwork {
        net::host::HostNetwork {
            bridge: format!("kn{:02x}{:04x}", self.index, short_hash(&self.name)),
            gateway: node_network(self.index, 1),
            bits: 24,
            gateway_v6: self.node_network_v6(1),
        }
    }

    /// An address of IPv6 of the cluster's node network, where there is one.
    fn node_network_v6(&self, host: u16) -> Option<std::net::Ipv6Addr> {
        let address =
            std::net::Ipv6Addr::new(0xfd6b, 0x6e61, 0xff00 + u16::from(self.index), 0, 0, 0, 0, host);
        self.dual_stack.then_some(address)
    }

    /// The names of the cluster's nodes on this machine.
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|number| self.node_name(number)).collect()
    }

    /// The name of one, which are numbered from 1.
    pub fn node_name(&self, number: u32) -> String {
        format!("{}-{number}", self.name)
    }

    /// The address of a node, which are numbered from 1.
    pub fn node_ip(&self, number: u32) -> std::net::Ipv4Addr {
        node_network(self.index, u8::try_from(number + 9).unwrap_or(u8::MAX))
    }

    /// The address of IPv6 of a node, where nodes have one.
    pub fn node_ip_v6(&self, number: u32) -> Option<std::net::Ipv6Addr> {
        self.node_network_v6(u16::try_from(number + 9).unwrap_or(u16::MAX))
    }

    /// What the cluster's nodes must know.
    pub fn for_nodes(&self) -> NodeSettings {
        NodeSettings {
            name: self.name.clone(),
            cluster_cidr: self.cluster_cidr(),
            cluster_dns: self.dns_ip(),
            cluster_domain: "cluster.local".to_owned(),
            runtime_endpoint: self.runtime_endpoint.clone(),
            max_pods: self.max_pods,
            kubelet: self.kubelet.clone(),
            features: self.features.clone(),
        }
    }

    /// The prefix length of a node's part of the pod network of IPv4: pods that end may keep their addresses while
    /// others begin, so there are two for each, and at least upstream's /24.
    pub fn node_cidr_bits(&self) -> u8 {
        let addresses = self.max_pods.saturating_mul(2).clamp(256, 1 << 16).next_power_of_two();
        u8::try_from(addresses.leading_zeros() + 1).unwrap_or(24)
    }

    /// Reads the settings; `None` when there is no cluster yet.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| {
                format!("{} is damaged: remove it to begin anew, or restore it", path.display())
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Writes the settings so that they are there whole or not at all.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_whole(path, &serde_json::to_vec_pretty(self)?)
    }
}

/// The cgroup of a cluster's node.
pub fn cgroup(cluster: &str, node: &str) -> String {
    format!("/knarr/{cluster}/{node}")
}

/// Where cgroup hierarchies are mounted.
///
/// # Errors
/// When the mounts cannot be read.
pub fn cgroup_mounts() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("reading /proc/self/mounts")?;
    let roots = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let root = fields.next()?;
        fields.next()?.starts_with("cgroup").then(|| root.to_owned())
    });
    Ok(roots.collect())
}

/// An address of a cluster's node network.
pub fn node_network(index: u8, host: u8) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::new(172, 30, index, host)
}

fn short_hash(name: &str) -> u16 {
    name.bytes().fold(0xd6d, |hash, byte| (hash ^ u16::from(byte)).wrapping_mul(31))
}

/// Writes a file by way of a temporary one.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let new = path.with_extension("new");
    fs::write(&new, bytes).with_context(|| format!("writing {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("writing {}", path.display()))
}

/// A process of the cluster: a pid alone may be another's by now.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct ProcessRecord {
    /// The process.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub start_time: u64,
    /// What runs in it.
    pub components: Vec<String>,
    /// The node it belongs to, if it does.
    pub node: Option<String>,
}

impl ProcessRecord {
    /// The record of the calling process.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn of_self(components: &[&str], node: Option<&str>) -> Result<Self> {
        let pid = nix::unistd::getpid().as_raw();
        let start_time = start_time(pid).context("reading /proc/self/stat")?;
        let components = components.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { pid, start_time, components, node: node.map(str::to_owned) })
    }

    /// The records of all processes that still run. A directory that is not there holds none.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn all(dir: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.with_context(|| format!("reading {}", dir.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                records.extend(Self::alive(&path));
            }
        }
        Ok(records)
    }

    /// The record in a file, if its process still runs.
    pub fn alive(path: &Path) -> Option<Self> {
        let record: Self = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (start_time(record.pid) == Some(record.start_time)).then_some(record)
    }
}

/// How often a process looks whether it is the only one of its name by now.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Keeps a second process of the same name from running beside this one, until it is dropped. One that was killed is gone
/// in a moment. A process is known by its record only once it is up: whoever starts another before that, because it
/// could not see the first one, would else have two kubelets for one node.
///
/// # Errors
/// When another one runs, or the lock cannot be had.
pub async fn alone(record: &Path) -> Result<Flock<File>> {
    if let Some(dir) = record.parent() {
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let path = record.with_extension("lock");
    let mut file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((again, nix::Error::EAGAIN)) => file = again,
            Err((_, errno)) => return Err(errno).with_context(|| format!("locking {}", path.display())),
        }
        if let Some(other) = ProcessRecord::alive(record) {
            let name = record.file_stem().unwrap_or_default().display();
            bail!("{name} runs already, as process {}", other.pid);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// When a process started; `None` when there is none.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, spaces and parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_two_addresses_for_each_pod_and_no_fewer_than_upstream() {
        let text = r#"{"name": "a", "index": 0, "port": 6443, "store": "embedded", "nodes": 1,
            "runtime_endpoint": null, "advertise": "127.0.0.1"}"#;
        let mut settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!((settings.max_pods, settings.node_cidr_bits()), (110, 24));
        for (pods, bits) in [(1, 24), (128, 24), (129, 23), (500, 22), (4096, 19)] {
            settings.max_pods = pods;
            assert_eq!(settings.node_cidr_bits(), bits, "{pods} pods");
        }
        // A machine that joins with an older program is told nothing that it does not know.
        settings.max_pods = 110;
        assert!(!serde_json::to_string(&settings.for_nodes()).unwrap().contains("maxPods"));
    }

    #[test]
    fn a_record_is_of_a_process_that_still_runs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        let record = ProcessRecord::of_self(&["apiserver"], None).unwrap();
        write_whole(&path, &serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(ProcessRecord::alive(&path), Some(record.clone()));
        let other = ProcessRecord { start_time: record.start_time + 1, ..record };
        write_whole(&path, &serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(ProcessRecord::alive(&path), None);
    }

    #[tokio::test]
    async fn a_second_process_of_a_name_waits_for_the_first_to_be_gone_or_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        let first = alone(&path).await.unwrap();
        let second = alone(&path);
        tokio::pin!(second);
        assert!(tokio::time::timeout(LOOK_AGAIN * 3, &mut second).await.is_err(), "it is not known yet");
        let record = ProcessRecord::of_self(&["apiserver"], None).unwrap();
        write_whole(&path, &serde_json::to_vec(&record).unwrap()).unwrap();
        assert!(second.await.unwrap_err().to_string().starts_with("p runs already"));
        drop(first);
        alone(&path).await.unwrap();
    }
}
