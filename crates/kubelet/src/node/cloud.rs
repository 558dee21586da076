//! `--cloud-provider`: with `external`, a controller elsewhere says what the node is called there and where it is, and
//! nothing runs on it before. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeStatus, Taint};

const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
const PROVIDED: &str = "alpha.kubernetes.io/provided-node-ip";

/// Who says where a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cloud {
    /// The kubelet.
    #[default]
    None,
    /// A controller elsewhere.
    External {
        /// Whether the kubelet was told the node's address, and tells it until the controller does.
        addressed: bool,
    },
}

/// The taint that a new node has until the controller has looked at it.
pub fn taint(cloud: Cloud) -> Option<Taint> {
    (cloud != Cloud::None).then(|| Taint {
        key: UNINITIALIZED.to_owned(),
        value: Some("true".to_owned()),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    })
}

/// What the controller is told of the node's addresses; null takes away what an earlier kubelet said.
pub fn annotations(cloud: Cloud, ips: &[String], known: Option<&Node>) -> BTreeMap<String, Option<String>> {
    let told = (cloud == Cloud::External { addressed: true }).then(|| ips.join(","));
    let there = known.and_then(|node| node.metadata.annotations.as_ref()?.get(PROVIDED));
    match told.as_ref() == there {
        true => BTreeMap::new(),
        false => BTreeMap::from([(PROVIDED.to_owned(), told)]),
    }
}

/// The node's addresses: what the controller has said stays.
pub fn addresses(
    cloud: Cloud,
    ips: Vec<String>,
    hostname: &str,
    before: Option<&NodeStatus>,
) -> Vec<NodeAddress> {
    let known = before.and_then(|status| status.addresses.as_ref()).filter(|known| !known.is_empty());
    if let (Cloud::External { .. }, Some(known)) = (cloud, known) {
        return known.clone();
    }
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let own = match cloud {
        Cloud::External { addressed: false } => Vec::new(),
        _ => ips,
    };
    let own = own.into_iter().map(|ip| address("InternalIP", ip));
    own.chain([address("Hostname", hostname.to_owned())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips() -> Vec<String> {
        vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()]
    }

    fn told(cloud: Cloud, before: Option<&NodeStatus>) -> Vec<String> {
        addresses(cloud, ips(), "one", before).into_iter().map(|address| address.address).collect()
    }

    #[test]
    fn what_a_controller_elsewhere_says_of_addresses_stays() {
        let external = |addressed| Cloud::External { addressed };
        let address = NodeAddress { type_: "ExternalIP".to_owned(), address: "192.0.2.1".to_owned() };
        let before = NodeStatus { addresses: Some(vec![address]), ..NodeStatus::default() };
        assert_eq!(told(Cloud::None, Some(&before)), ["10.0.0.1", "fd00::1", "one"]);
        assert_eq!(told(external(true), None), ["10.0.0.1", "fd00::1", "one"]);
        assert_eq!(told(external(false), None), ["one"]);
        assert_eq!(told(external(true), Some(&before)), ["192.0.2.1"]);
        assert_eq!(told(external(true), Some(&NodeStatus::default())).len(), 3);
        assert!(taint(Cloud::None).is_none() && taint(external(false)).is_some());
    }

    #[test]
    fn the_address_is_told_and_taken_back() {
        let with = |text: &str| {
            let mut node = Node::default();
            node.metadata.annotations = Some(BTreeMap::from([(PROVIDED.to_owned(), text.to_owned())]));
            node
        };
        let said = Some("10.0.0.1,fd00::1".to_owned());
        let addressed = Cloud::External { addressed: true };
        assert_eq!(annotations(addressed, &ips(), None)[PROVIDED], said);
        assert!(annotations(addressed, &ips(), Some(&with("10.0.0.1,fd00::1"))).is_empty());
        assert_eq!(annotations(Cloud::None, &ips(), Some(&with("10.0.0.1")))[PROVIDED], None);
        assert!(annotations(Cloud::None, &ips(), Some(&Node::default())).is_empty());
    }
}
