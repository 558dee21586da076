//! Which port of the node leads where. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::nft::{Element, Family, Verdict};

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp = 6,
    /// UDP.
    Udp = 17,
    /// SCTP.
    Sctp = 132,
}

/// A port of the node, and the pod's to which it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// Of what.
    pub protocol: Protocol,
    /// On this address of the node only; `None` for all of them.
    pub address: Option<IpAddr>,
    /// The node's port.
    pub port: u16,
    /// The pod's port.
    pub target: u16,
}

impl HostPort {
    /// Whether it is on this family's addresses.
    fn is_on(&self, family: Family) -> bool {
        self.address.is_none_or(|address| family_of(address) == family)
    }

    fn any_address(&self) -> bool {
        self.address.is_none_or(|address| address.is_unspecified())
    }

    fn meets(&self, other: &Self) -> bool {
        let shared = [Family::V4, Family::V6].into_iter().any(|f| self.is_on(f) && other.is_on(f));
        let same = self.any_address() || other.any_address() || self.address == other.address;
        self.protocol == other.protocol && self.port == other.port && shared && same
    }
}

/// What one pod has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The pod's sandbox.
    pub owner: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<HostPort>,
}

/// Why a pod cannot have its ports.
pub fn conflict(all: &[Record], new: &Record) -> Option<String> {
    let taken = all.iter().flat_map(|record| record.ports.iter().map(move |port| (record, port)));
    let found = taken.flat_map(|(record, port)| new.ports.iter().map(move |own| (record, port, own)));
    found
        .filter(|(_, port, own)| port.meets(own))
        .map(|(record, _, own)| {
            format!("host port {}/{:?} is taken by sandbox {}", own.port, own.protocol, record.owner)
        })
        .next()
}

/// The contents of one family's maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Protocol and port, on every address of the node.
    pub any: BTreeSet<Element>,
    /// Address, protocol and port.
    pub one: BTreeSet<Element>,
    /// Addresses on which ports of every address are not.
    pub reserved: BTreeSet<Element>,
    /// Where they lead: the pod's address, protocol and port.
    pub targets: BTreeSet<Element>,
    /// Pods that may meet themselves: source and destination.
    pub hairpins: BTreeSet<Element>,
}

impl Tables {
    /// Whether no port leads anywhere.
    pub fn is_empty(&self) -> bool {
        self.any.is_empty() && self.one.is_empty()
    }
}

/// What the maps of a family are to hold.
pub fn plan(records: &[Record], reserved: &[IpAddr], family: Family) -> Tables {
    let own = reserved.iter().filter(|address| family_of(**address) == family);
    let element = |address: &IpAddr| Element { key: octets(*address), value: Verdict::None };
    let mut tables = Tables { reserved: own.map(element).collect(), ..Tables::default() };
    for record in records {
        let Some(&pod) = record.ips.iter().find(|ip| family_of(**ip) == family) else { continue };
        for port in record.ports.iter().filter(|port| port.is_on(family)) {
            let mut value = octets(pod);
            value.extend_from_slice(&number(port.target));
            let value = Verdict::Data(value);
            let key = [protocol(port.protocol).to_vec(), number(port.port).to_vec()].concat();
            match port.address.filter(|_| !port.any_address()) {
                Some(address) => tables.one.insert(Element { key: [octets(address), key].concat(), value }),
                None => tables.any.insert(Element { key, value }),
            };
            let target = [protocol(port.protocol).to_vec(), number(port.target).to_vec()].concat();
            let key = [octets(pod), target].concat();
            tables.targets.insert(Element { key, value: Verdict::None });
            let key = [octets(pod), octets(pod)].concat();
            tables.hairpins.insert(Element { key, value: Verdict::None });
        }
    }
    tables
}

fn family_of(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Fields of keys are padded to four bytes.
fn protocol(protocol: Protocol) -> [u8; 4] {
    [protocol as u8, 0, 0, 0]
}

fn number(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(owner: &str, ports: &[(Option<&str>, u16)]) -> Record {
        let port = |(address, port): &(Option<&str>, u16)| HostPort {
            protocol: Protocol::Tcp,
            address: address.map(|text| text.parse().unwrap()),
            port: *port,
            target: 80,
        };
        Record {
            owner: owner.into(),
            ips: vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            ports: ports.iter().map(port).collect(),
        }
    }

    #[test]
    fn a_port_without_address_is_on_both_families() {
        let records = [record("a", &[(None, 8080)])];
        let reserved = ["10.96.0.10".parse().unwrap()];
        let four = plan(&records, &reserved, Family::V4);
        let element = Element {
            key: vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0],
            value: Verdict::Data(vec![10, 1, 0, 2, 0, 80, 0, 0]),
        };
        assert_eq!(four.any, BTreeSet::from([element]));
        assert_eq!((four.targets.len(), four.hairpins.len(), four.one.len()), (1, 1, 0));
        assert_eq!((four.reserved.len(), four.is_empty()), (1, false));
        let six = plan(&records, &reserved, Family::V6);
        assert_eq!((six.any.len(), six.reserved.len()), (1, 0));
        let records = [record("a", &[(Some("172.30.0.2"), 8080), (Some("0.0.0.0"), 8081)])];
        let four = plan(&records, &[], Family::V4);
        assert_eq!((four.any.len(), four.one.len()), (1, 1));
        assert_eq!(plan(&records, &[], Family::V6), Tables::default());
    }

    #[test]
    fn two_pods_cannot_have_one_port() {
        let all = [record("a", &[(Some("172.30.0.2"), 80), (Some("::"), 81)])];
        let meets = |address: Option<&str>, port| conflict(&all, &record("b", &[(address, port)])).is_some();
        assert!(meets(None, 80) && meets(Some("172.30.0.2"), 80) && meets(Some("0.0.0.0"), 80));
        assert!(!meets(Some("172.30.0.3"), 80) && !meets(None, 82));
        assert!(meets(None, 81) && !meets(Some("0.0.0.0"), 81));
        let why = conflict(&all, &record("b", &[(None, 80)])).unwrap();
        assert_eq!(why, "host port 80/Tcp is taken by sandbox a");
    }
}
