//! The form in which `Endpoints` tell addresses and ports. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset};

/// One address with one port, or with none where a headless Service has none.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The address.
    pub address: EndpointAddress,
    /// Whether it takes traffic.
    pub is_ready: bool,
    /// The port.
    pub port: Option<EndpointPort>,
}

/// Ports that the same addresses have stand together, everything in order.
pub fn pack(pairs: Vec<Pair>) -> Vec<EndpointSubset> {
    let mut by_port: BTreeMap<String, (Option<EndpointPort>, BTreeMap<String, Pair>)> = BTreeMap::new();
    for pair in pairs {
        let (_, addresses) =
            by_port.entry(text(&pair.port)).or_insert_with(|| (pair.port.clone(), BTreeMap::new()));
        addresses.insert(text(&(&pair.address.ip, &pair.address.target_ref, pair.is_ready)), pair);
    }
    let mut by_addresses: BTreeMap<Vec<String>, EndpointSubset> = BTreeMap::new();
    for (port, addresses) in by_port.into_values() {
        let subset = by_addresses.entry(addresses.keys().cloned().collect()).or_insert_with(|| {
            let side = |wanted: bool| {
                let found = addresses.values().filter(|pair| pair.is_ready == wanted);
                let all: Vec<_> = found.map(|pair| pair.address.clone()).collect();
                Some(all).filter(|all| !all.is_empty())
            };
            EndpointSubset { addresses: side(true), not_ready_addresses: side(false), ports: None }
        });
        if let Some(port) = port {
            subset.ports.get_or_insert_default().push(port);
        }
    }
    by_addresses.into_values().collect()
}

/// The pairs that subsets are made of.
pub fn unpack(subsets: &[EndpointSubset]) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for subset in subsets {
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let others = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let ports: Vec<Option<EndpointPort>> = match subset.ports.as_deref().unwrap_or_default() {
            [] => vec![None],
            ports => ports.iter().cloned().map(Some).collect(),
        };
        for (address, is_ready) in ready.chain(others) {
            pairs.extend(ports.iter().cloned().map(|port| Pair { address: address.clone(), is_ready, port }));
        }
    }
    pairs
}

/// Something by which values are told apart and put in order.
fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_the_same_addresses_have_stand_together() {
        let subsets: Vec<EndpointSubset> = serde_json::from_value(serde_json::json!([
            {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "a", "port": 1}]},
            {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"name": "b", "port": 2}, {"name": "a", "port": 1}]},
            {"addresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "b", "port": 2}]},
            {"notReadyAddresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "c", "port": 3}]},
        ]))
        .unwrap();
        let packed = pack(unpack(&subsets));
        assert_eq!(
            serde_json::to_value(&packed).unwrap(),
            serde_json::json!([
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
                 "ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]},
                {"notReadyAddresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "c", "port": 3}]},
            ])
        );
        assert_eq!(pack(unpack(&packed)), packed);
    }

    #[test]
    fn addresses_may_have_no_ports() {
        let subset = serde_json::json!([{"addresses": [{"ip": "10.0.0.2"}]}]);
        let subsets: Vec<EndpointSubset> = serde_json::from_value(subset).unwrap();
        assert_eq!(pack(unpack(&subsets)), subsets);
    }
}
