//! What a runtime says on the standard input. Pure.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::{PluginError, Result};
use crate::ports::plan::{HostPort, Protocol};
use crate::shape::{Limit, Limits};

/// The versions of the specification that are spoken.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", NEWEST];
/// The newest of them.
pub const NEWEST: &str = "1.1.0";
/// Where what pods have is remembered, unless the configuration says otherwise.
const DATA_DIR: &str = "/var/lib/cni/knarr";

/// A configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Config {
    #[serde(rename = "cniVersion")]
    pub version: String,
    /// The name by which the plugin is called.
    #[serde(rename = "type")]
    pub kind: String,
    name: String,
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
    /// Where the node's agent writes its networks, one a line, as soon as it has some.
    #[serde(rename = "podCIDRFile")]
    pub pod_cidr_file: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    runtime_config: RuntimeConfig,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Attachment>>,
    #[serde(rename = "cni.dev/attachments")]
    attachments: Option<Vec<Attachment>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    port_mappings: Vec<Mapping>,
    bandwidth: Bandwidth,
    ip_ranges: Vec<Vec<Range>>,
}

/// Containerd writes these names with a capital.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mapping {
    #[serde(rename = "hostPort", alias = "HostPort")]
    host_port: u16,
    #[serde(rename = "containerPort", alias = "ContainerPort")]
    container_port: u16,
    #[serde(alias = "Protocol")]
    protocol: String,
    #[serde(rename = "hostIP", alias = "HostIP")]
    host_ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Bandwidth {
    #[serde(rename = "ingressRate", alias = "IngressRate")]
    ingress_rate: u64,
    #[serde(rename = "ingressBurst", alias = "IngressBurst")]
    ingress_burst: u64,
    #[serde(rename = "egressRate", alias = "EgressRate")]
    egress_rate: u64,
    #[serde(rename = "egressBurst", alias = "EgressBurst")]
    egress_burst: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Range {
    #[serde(alias = "Subnet")]
    subnet: String,
}

#[derive(Debug, Default, Deserialize)]
struct Attachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

impl Config {
    /// Reads a configuration.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(bytes)?;
        if !VERSIONS.contains(&config.version.as_str()) {
            return Err(PluginError::Version(config.version));
        }
        if config.name.is_empty() || config.name.contains('/') {
            return Err(PluginError::Config("the network has no name, or a strange one".into()));
        }
        Ok(config)
    }

    /// Where what pods have is remembered.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR)).join(&self.name)
    }

    /// The node's networks: what the runtime says counts most, and what stands in the file least.
    pub fn networks(&self, in_file: &str) -> Result<String> {
        let ranges = self.runtime_config.ip_ranges.iter().flatten().map(|range| range.subnet.clone());
        let ranges: Vec<String> = ranges.collect();
        let all = match (ranges.as_slice(), self.pod_cidrs.as_slice()) {
            ([], []) if self.pod_cidr.is_empty() => in_file.split_whitespace().collect::<Vec<_>>().join(","),
            ([], []) => self.pod_cidr.clone(),
            ([], cidrs) => cidrs.join(","),
            (ranges, _) => ranges.join(","),
        };
        match (all.is_empty(), &self.pod_cidr_file) {
            (false, _) => Ok(all),
            (true, Some(path)) => Err(PluginError::NotReady(format!(
                "the node has no part of the pod network yet: nothing stands in {}",
                path.display()
            ))),
            (true, None) => Err(PluginError::Config(
                "the network has no podCIDR or podCIDRFile, and the runtime passes no ipRanges".into(),
            )),
        }
    }

    /// Ports of the node that are to lead to the pod's.
    pub fn ports(&self) -> Result<Vec<HostPort>> {
        let wanted = self.runtime_config.port_mappings.iter().filter(|mapping| mapping.host_port > 0);
        wanted.map(Mapping::host_port).collect()
    }

    /// How fast the pod may be.
    pub fn limits(&self) -> Limits {
        let Bandwidth { ingress_rate, ingress_burst, egress_rate, egress_burst } =
            self.runtime_config.bandwidth;
        // Runtimes that know no burst pass the largest number there is, by which nothing would be held back.
        let burst = |bits: u64| Some(bits).filter(|bits| (1..u64::from(u32::MAX / 2)).contains(bits));
        let limit = |rate, bits| (rate > 0).then_some(Limit { rate, burst: burst(bits) });
        Limits { ingress: limit(ingress_rate, ingress_burst), egress: limit(egress_rate, egress_burst) }
    }

    /// Containers and interfaces that are not to be cleared away.
    pub fn valid_attachments(&self) -> Result<Vec<(String, String)>> {
        // One that says nothing must not be taken for one that says that there are none.
        let none = || PluginError::Config("cni.dev/valid-attachments is missing".into());
        let given = self.valid.as_ref().or(self.attachments.as_ref()).ok_or_else(none)?;
        Ok(given.iter().map(|one| (one.container.clone(), one.ifname.clone())).collect())
    }
}

impl Mapping {
    fn host_port(&self) -> Result<HostPort> {
        let bad = |what: &str| PluginError::Config(format!("host port {}: {what}", self.host_port));
        let protocol = match self.protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            other => return Err(bad(&format!("protocol {other:?} is not known"))),
        };
        let address: Option<IpAddr> = match self.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| bad("its hostIP is no address"))?),
        };
        Ok(HostPort { protocol, address, port: self.host_port, target: self.container_port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(extra: Value) -> Config {
        let mut config = json!({"cniVersion": "1.0.0", "name": "n", "podCIDR": "10.1.0.0/24"});
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        Config::parse(config.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_the_runtime_says_counts_most() {
        assert_eq!(parse(json!({})).networks("").unwrap(), "10.1.0.0/24");
        assert_eq!(
            parse(json!({"podCIDRs": ["10.2.0.0/24", "fd00::/64"]})).networks("").unwrap(),
            "10.2.0.0/24,fd00::/64"
        );
        let ranges =
            json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.3.0.0/24"}], [{"subnet": "fd01::/64"}]]}});
        assert_eq!(parse(ranges).networks("").unwrap(), "10.3.0.0/24,fd01::/64");
        assert!(parse(json!({"podCIDR": ""})).networks("").is_err());
        let file = json!({"podCIDR": "", "podCIDRFile": "/run/cidrs"});
        assert_eq!(
            parse(file.clone()).networks("10.4.0.0/24\nfd02::/64\n").unwrap(),
            "10.4.0.0/24,fd02::/64"
        );
        assert_eq!(parse(file).networks("\n").unwrap_err().code(), 50);
    }

    #[test]
    fn ports_and_limits_as_containerd_and_others_write_them() {
        let config = parse(json!({"runtimeConfig": {
            "portMappings": [{"HostPort": 80, "ContainerPort": 8080, "Protocol": "udp", "HostIP": ""},
                             {"hostPort": 0, "containerPort": 1}],
            "bandwidth": {"ingressRate": 1000, "ingressBurst": u32::MAX, "egressRate": 2000, "egressBurst": 9000},
        }}));
        let port = HostPort { protocol: Protocol::Udp, address: None, port: 80, target: 8080 };
        assert_eq!(config.ports().unwrap(), [port]);
        let egress = Limit { rate: 2000, burst: Some(9000) };
        assert_eq!(config.limits(), Limits { ingress: Some(Limit::of(1000)), egress: Some(egress) });
        assert!(
            parse(json!({"runtimeConfig": {"portMappings": [{"hostPort": 1, "protocol": "x"}]}}))
                .ports()
                .is_err()
        );
    }

    #[test]
    fn saying_nothing_is_not_saying_that_there_are_none() {
        assert!(parse(json!({})).valid_attachments().is_err());
        let none = json!({"cni.dev/valid-attachments": []});
        assert_eq!(parse(none).valid_attachments().unwrap(), []);
        let one = json!({"cni.dev/attachments": [{"containerID": "c", "ifname": "eth0"}]});
        assert_eq!(parse(one).valid_attachments().unwrap(), [("c".to_owned(), "eth0".to_owned())]);
    }
}
