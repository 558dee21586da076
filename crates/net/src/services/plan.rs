//! What the maps must hold. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::policy::{Behind, End, Leads};
use crate::nft::{Element, Verdict};

/// The contents of the maps, and which chains they need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Address, protocol and port of a Service: on to the chain for its number of endpoints.
    pub services: BTreeSet<Element>,
    /// The same and a slot: the endpoint.
    pub endpoints: BTreeSet<Element>,
    /// For clients of the cluster, where they are led elsewhere than those from outside.
    pub near: BTreeSet<Element>,
    /// Services without endpoints: refused.
    pub refused: BTreeSet<Element>,
    /// Those that have some, but none for whom comes here.
    pub dropped: BTreeSet<Element>,
    /// The Services' own addresses: whatever port of them nothing else knows is refused, too.
    pub addresses: BTreeSet<Element>,
    /// Services that keep a client with its endpoint: on to the chain for their time.
    pub sticky: BTreeSet<Element>,
    /// Ports that lead to this node's endpoints alone: these see who the client is.
    pub kept: BTreeSet<Element>,
    /// Pairs of an endpoint with itself: such packets must be masqueraded to come back.
    pub hairpins: BTreeSet<Element>,
    /// Numbers of endpoints that occur, without and with affinity.
    pub sizes: BTreeSet<(u32, bool)>,
    /// The same for clients of the cluster, where they are led elsewhere.
    pub near_sizes: BTreeSet<(u32, bool)>,
    /// Seconds of affinity that occur.
    pub times: BTreeSet<u32>,
    /// Ports for datagrams, and all who answer whoever is led to them already.
    pub datagrams: BTreeMap<End, BTreeSet<End>>,
}

/// What is particular to this node.
#[derive(Debug, Clone, Default)]
pub struct Local {
    /// Its name.
    pub node: String,
    /// Its addresses, at which node ports are reached.
    pub addresses: Vec<Ipv4Addr>,
}

const UDP: u8 = 17;
/// Where the slots begin of those to whom only clients of the cluster are led: no Service has so many endpoints.
pub(super) const NEAR: u32 = 1 << 20;

fn protocol(name: Option<&str>) -> u8 {
    match name {
        Some("UDP") => UDP,
        Some("SCTP") => 132,
        _ => 6,
    }
}

/// Address, protocol and port, each padded to four bytes.
fn key(ip: Ipv4Addr, protocol: u8, port: u16) -> Vec<u8> {
    let mut key = ip.octets().to_vec();
    key.extend_from_slice(&[protocol, 0, 0, 0]);
    key.extend_from_slice(&port.to_be_bytes());
    key.extend_from_slice(&[0, 0]);
    key
}

/// One port of one Service, with those who stand behind it.
struct Target {
    protocol: u8,
    behind: Behind,
    affinity: Option<u32>,
}

/// Looks at all Services and slices.
pub fn plan<'o>(
    services: impl Iterator<Item = &'o Service>,
    slices: impl Iterator<Item = &'o EndpointSlice>,
    local: &Local,
) -> Tables {
    let by_service = by_service(slices);
    let mut tables = Tables::default();
    for service in services.filter(|service| is_ours(service.metadata.labels.as_ref())) {
        let key = (
            service.metadata.namespace.clone().unwrap_or_default(),
            service.metadata.name.clone().unwrap_or_default(),
        );
        let slices = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
        one(service, slices, local, &mut tables);
    }
    tables
}

/// Slices by the namespace and name of their Service.
pub(super) fn by_service<'o>(
    slices: impl Iterator<Item = &'o EndpointSlice>,
) -> BTreeMap<(String, String), Vec<&'o EndpointSlice>> {
    let mut by_service: BTreeMap<(String, String), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices.filter(|slice| is_ours(slice.metadata.labels.as_ref())) {
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) {
            let namespace = slice.metadata.namespace.clone().unwrap_or_default();
            by_service.entry((namespace, service.clone())).or_default().push(slice);
        }
    }
    by_service
}

/// Whether the labels of a Service or a slice leave it to us: no other proxy is to look after it (KEP-2447), nor nobody.
pub(super) fn is_ours(labels: Option<&BTreeMap<String, String>>) -> bool {
    const NOT_OURS: [&str; 2] =
        ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"];
    !NOT_OURS.iter().any(|label| labels.is_some_and(|labels| labels.contains_key(*label)))
}

fn one(service: &Service, slices: &[&EndpointSlice], local: &Local, tables: &mut Tables) {
    let Some(spec) = &service.spec else { return };
    let Some(cluster_ip) = spec.cluster_ip.as_deref().and_then(|ip| ip.parse::<Ipv4Addr>().ok()) else {
        return;
    };
    tables.addresses.insert(Element { key: cluster_ip.octets().to_vec(), value: Verdict::None });
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        config
            .and_then(|client| client.timeout_seconds)
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(10800)
    });
    let inside = Leads::inside(spec.internal_traffic_policy.as_deref());
    let outside = Leads::outside(spec.external_traffic_policy.as_deref());
    for port in spec.ports.iter().flatten() {
        let name = port.name.as_deref().unwrap_or_default();
        let behind = Behind::of(slices, name, local);
        let target = Target { protocol: protocol(port.protocol.as_deref()), behind, affinity };
        let Ok(number) = u16::try_from(port.port) else { continue };
        add(tables, (cluster_ip, number), &target, inside);
        for ip in spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok()) {
            add(tables, (ip, number), &target, outside);
        }
        let node_port = port.node_port.and_then(|port| u16::try_from(port).ok());
        let Some(node_port) = node_port.filter(|&port| port > 0) else { continue };
        for &ip in &local.addresses {
            add(tables, (ip, node_port), &target, outside);
        }
    }
}

fn add(tables: &mut Tables, front: End, target: &Target, leads: Leads) {
    let key = key(front.0, target.protocol, front.1);
    let Behind { everywhere, here, serving } = &target.behind;
    if target.protocol == UDP {
        tables.datagrams.insert(front, serving.clone());
    }
    let is_outside = leads == Leads::HereFromOutside;
    if is_outside {
        tables.kept.insert(Element { key: key.clone(), value: Verdict::None });
    }
    let led_to = if leads == Leads::Everywhere { everywhere } else { here };
    if everywhere.is_empty() {
        tables.refused.insert(Element { key, value: Verdict::None });
        return;
    }
    if led_to.is_empty() {
        tables.dropped.insert(Element { key: key.clone(), value: Verdict::None });
    } else {
        lead(tables, &key, led_to, target.affinity, false);
    }
    if is_outside && led_to != everywhere {
        lead(tables, &key, everywhere, target.affinity, true);
    }
}

fn lead(tables: &mut Tables, key: &[u8], ends: &[End], affinity: Option<u32>, near: bool) {
    let count = u32::try_from(ends.len()).unwrap_or(u32::MAX);
    let sticky = affinity.is_some();
    let goto = Element { key: key.to_vec(), value: Verdict::Goto(chain(count, sticky, near)) };
    let first = if near {
        tables.near_sizes.insert((count, sticky));
        tables.near.insert(goto);
        NEAR
    } else {
        tables.sizes.insert((count, sticky));
        tables.services.insert(goto);
        0
    };
    if let Some(seconds) = affinity {
        tables.times.insert(seconds);
        tables.sticky.insert(Element { key: key.to_vec(), value: Verdict::Goto(affinity_chain(seconds)) });
    }
    for (slot, (ip, port)) in (first..).zip(ends) {
        let mut slotted = key.to_vec();
        // The slot is compared with a number in host order.
        slotted.extend_from_slice(&slot.to_ne_bytes());
        let mut value = ip.octets().to_vec();
        value.extend_from_slice(&port.to_be_bytes());
        value.extend_from_slice(&[0, 0]);
        tables.endpoints.insert(Element { key: slotted, value: Verdict::Data(value) });
        tables.hairpins.insert(Element { key: [ip.octets(), ip.octets()].concat(), value: Verdict::None });
    }
}

/// The chain for a number of endpoints; `near`: of those to whom only clients of the cluster are led.
pub fn chain(count: u32, sticky: bool, near: bool) -> String {
    let near = if near { "near-" } else { "" };
    format!("{near}{}{count}", if sticky { 'a' } else { 'n' })
}

/// The chain that remembers a client for so many seconds.
pub fn affinity_chain(seconds: u32) -> String {
    format!("aff{seconds}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn service(spec: serde_json::Value) -> Service {
        serde_json::from_value(
            serde_json::json!({"metadata": {"name": "web", "namespace": "n"}, "spec": spec}),
        )
        .unwrap()
    }

    fn slice(endpoints: serde_json::Value) -> EndpointSlice {
        slice_of("TCP", endpoints)
    }

    pub(crate) fn slice_of(protocol: &str, endpoints: serde_json::Value) -> EndpointSlice {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "s", "namespace": "n", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": protocol}], "endpoints": endpoints,
        }))
        .unwrap()
    }

    pub(crate) fn local() -> Local {
        Local { node: "a".to_owned(), addresses: vec![Ipv4Addr::new(172, 30, 0, 2)] }
    }

    #[test]
    fn a_service_with_a_node_port() {
        let service = service(
            serde_json::json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}),
        );
        let slice = slice(serde_json::json!([{"addresses": ["10.244.0.2"]}, {"addresses": ["10.244.1.2"]}]));
        let tables = plan([&service].into_iter(), [&slice].into_iter(), &local());
        assert_eq!((tables.services.len(), tables.endpoints.len()), (2, 4));
        assert_eq!(tables.sizes, BTreeSet::from([(2, false)]));
        assert!(tables.refused.is_empty());
    }

    #[test]
    fn nobody_behind_it_means_refused() {
        let service = service(
            serde_json::json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80, "protocol": "TCP"}]}),
        );
        let tables = plan([&service].into_iter(), [].into_iter(), &local());
        assert_eq!((tables.refused.len(), tables.services.len()), (1, 0));
    }

    #[test]
    fn headless_services_have_no_rules() {
        let service = service(serde_json::json!({"clusterIP": "None", "ports": [{"port": 80}]}));
        assert_eq!(plan([&service].into_iter(), [].into_iter(), &local()), Tables::default());
    }

    #[test]
    fn services_of_another_proxy_are_left_to_it() {
        for label in ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"] {
            let mut service = service(serde_json::json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}));
            service.metadata.labels = Some([(label.to_owned(), "other".to_owned())].into());
            assert_eq!(plan([&service].into_iter(), [].into_iter(), &local()), Tables::default(), "{label}");
            // A slice that has it is as if it were not there.
            service.metadata.labels = None;
            let mut slice = slice(serde_json::json!([{"addresses": ["10.244.0.2"], "nodeName": "a"}]));
            let behind = |slice: &EndpointSlice| {
                plan([&service].into_iter(), [slice].into_iter(), &local()).endpoints.len()
            };
            assert!(behind(&slice) > 0);
            slice.metadata.labels.as_mut().unwrap().insert(label.to_owned(), "other".to_owned());
            assert_eq!(behind(&slice), 0, "{label}");
        }
    }

    #[test]
    fn node_ports_of_local_endpoints_keep_who_the_client_is() {
        let spec = |policy: &str| {
            service(serde_json::json!({"clusterIP": "10.96.0.9", "externalTrafficPolicy": policy,
                "ports": [{"port": 80, "nodePort": 30080}]}))
        };
        let slice = slice(
            serde_json::json!([{"addresses": ["10.244.0.2"], "nodeName": "a"}, {"addresses": ["10.244.1.2"], "nodeName": "b"}]),
        );
        let tables = |policy| plan([&spec(policy)].into_iter(), [&slice].into_iter(), &local());
        let (here, everywhere) = (tables("Local"), tables("Cluster"));
        assert_eq!((here.kept.len(), everywhere.kept.len()), (1, 0));
        assert_eq!((here.near.len(), everywhere.near.len()), (1, 0));
        assert_eq!((here.endpoints.len(), everywhere.endpoints.len()), (5, 4));
    }

    #[test]
    fn those_that_end_serve_when_nobody_else_does() {
        let ending = serde_json::json!({"ready": false, "serving": true, "terminating": true});
        let service = service(
            serde_json::json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}], "sessionAffinity": "ClientIP"}),
        );
        let slice = slice(serde_json::json!([{"addresses": ["10.244.0.2"], "conditions": ending}]));
        let tables = plan([&service].into_iter(), [&slice].into_iter(), &local());
        assert_eq!(tables.sizes, BTreeSet::from([(1, true)]));
        assert_eq!(tables.times, BTreeSet::from([10800]));
    }
}
