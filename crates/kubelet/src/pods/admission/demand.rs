//! What a pod takes of its node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use schema::quantity::Quantity;

use crate::pods::resources;
use crate::pods::spec::{PodExt, is_sidecar};

/// Amounts by resource (the processor in thousandths), and ports of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    pub amounts: BTreeMap<String, i64>,
    pub ports: Vec<HostPort>,
    /// Its class of quality of service.
    pub class: &'static str,
}

/// A port of the host: address, protocol, number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    address: String,
    protocol: String,
    port: i32,
}

impl HostPort {
    /// Whether two cannot be had side by side.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |address: &str| matches!(address, "" | "0.0.0.0" | "::");
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.address) || any(&other.address) || self.address == other.address)
    }
}

impl Demand {
    /// How much of a resource.
    pub fn of(&self, resource: &str) -> i64 {
        self.amounts.get(resource).copied().unwrap_or(0)
    }
}

/// What a pod takes.
pub fn demand(pod: &Pod) -> Demand {
    let mut amounts: BTreeMap<String, i64> = BTreeMap::from([("pods".to_owned(), 1)]);
    for (name, text) in resources::pod_requests(pod) {
        let Ok(quantity) = text.0.parse::<Quantity>() else { continue };
        amounts.insert(name.clone(), if name == "cpu" { quantity.milli() } else { quantity.value() });
    }
    let lasting = pod.init_containers().iter().filter(|c| is_sidecar(c)).chain(pod.containers());
    let ports = lasting.flat_map(|container| container.ports.iter().flatten()).filter_map(|port| {
        Some(HostPort {
            address: port.host_ip.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            port: port.host_port.filter(|port| *port > 0)?,
        })
    });
    Demand { amounts, ports: ports.collect(), class: resources::qos(pod) }
}
