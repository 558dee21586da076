//! Who stands behind one port of a Service, and for whom. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};

use super::plan::Local;

/// Address and port.
pub(super) type End = (Ipv4Addr, u16);

/// To whom traffic is led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leads {
    /// To those of all nodes.
    Everywhere,
    /// To those of this node: where it has none, traffic is dropped.
    Here,
    /// The same for traffic from outside of the cluster. That of pods and of this node, which would go out to a load
    /// balancer and come back to whatever node has one, is led to those of all nodes.
    HereFromOutside,
}

impl Leads {
    /// By `internalTrafficPolicy`.
    pub fn inside(policy: Option<&str>) -> Self {
        if policy == Some("Local") { Self::Here } else { Self::Everywhere }
    }

    /// By `externalTrafficPolicy`.
    pub fn outside(policy: Option<&str>) -> Self {
        if policy == Some("Local") { Self::HereFromOutside } else { Self::Everywhere }
    }
}

/// Those who stand behind one port.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Those of all nodes that take traffic.
    pub everywhere: Vec<End>,
    /// Those of this node that do.
    pub here: Vec<End>,
    /// All who answer whoever is led to them already.
    pub serving: BTreeSet<End>,
}

impl Behind {
    /// Behind the port of that name.
    pub fn of(slices: &[&EndpointSlice], name: &str, local: &Local) -> Self {
        let (mut everywhere, mut here, mut serving) = (Takers::default(), Takers::default(), BTreeSet::new());
        for slice in slices.iter().filter(|slice| slice.address_type == "IPv4") {
            let mut ports = slice.ports.iter().flatten();
            let port = ports.find(|port| port.name.as_deref().unwrap_or_default() == name);
            let Some(port) = port.and_then(|port| port.port).and_then(|port| u16::try_from(port).ok()) else {
                continue;
            };
            for endpoint in slice.endpoints.iter().flatten() {
                let Some(ip) = endpoint.addresses.first().and_then(|ip| ip.parse().ok()) else { continue };
                let conditions = endpoint.conditions.clone().unwrap_or_default();
                everywhere.note(&conditions, (ip, port));
                if endpoint.node_name.as_deref() == Some(&local.node) {
                    here.note(&conditions, (ip, port));
                }
                if is_serving(&conditions) {
                    serving.insert((ip, port));
                }
            }
        }
        Self { everywhere: everywhere.chosen(), here: here.chosen(), serving }
    }
}

fn is_serving(conditions: &EndpointConditions) -> bool {
    conditions.serving.unwrap_or(true)
}

/// Those that are ready and, in case that none is, those that still serve while they end (KEP-1669).
#[derive(Default)]
struct Takers {
    ready: BTreeSet<End>,
    ending: BTreeSet<End>,
}

impl Takers {
    fn note(&mut self, conditions: &EndpointConditions, end: End) {
        if conditions.ready.unwrap_or(true) {
            self.ready.insert(end);
        } else if is_serving(conditions) && conditions.terminating == Some(true) {
            self.ending.insert(end);
        }
    }

    fn chosen(self) -> Vec<End> {
        let chosen = if self.ready.is_empty() { self.ending } else { self.ready };
        chosen.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde_json::{Value, json};

    use crate::services::plan::tests::{local, service, slice_of};
    use crate::services::plan::{Tables, plan};

    fn on(nodes: &[&str]) -> EndpointSlice {
        let of = |(at, node)| json!({"addresses": [format!("10.244.{at}.2")], "nodeName": node});
        slice_of("TCP", nodes.iter().enumerate().map(of).collect::<Value>())
    }

    /// A Service with this policy and addresses of all sorts, on node a.
    fn tables(policy: &str, slice: &EndpointSlice) -> Tables {
        let service =
            service(json!({"clusterIP": "10.96.0.9", "externalIPs": ["192.0.2.1"], policy: "Local",
            "ports": [{"port": 80, "nodePort": 30080}]}));
        plan([&service].into_iter(), [slice].into_iter(), &local())
    }

    /// Refused, dropped, led to whoever it says, led elsewhere when the cluster's own ask, clients stay as they are.
    fn counts(tables: &Tables) -> [usize; 5] {
        [&tables.refused, &tables.dropped, &tables.services, &tables.near, &tables.kept].map(BTreeSet::len)
    }

    #[test]
    fn outside_and_inside_have_policies_of_their_own() {
        let both = on(&["a", "b"]);
        let outside = tables("externalTrafficPolicy", &both);
        assert_eq!(counts(&outside), [0, 0, 3, 2, 2]);
        // Two by the cluster's address; one from outside and two for pods at both others.
        assert_eq!(outside.endpoints.len(), 2 + 2 * (1 + 2));
        let inside = tables("internalTrafficPolicy", &both);
        assert_eq!(counts(&inside), [0, 0, 3, 0, 0]);
        assert_eq!(inside.endpoints.len(), 1 + 2 * 2);
    }

    #[test]
    fn what_others_could_answer_is_dropped_and_what_nobody_could_refused() {
        let elsewhere = on(&["b"]);
        let outside = tables("externalTrafficPolicy", &elsewhere);
        assert_eq!(counts(&outside), [0, 2, 1, 2, 2]);
        assert_eq!(outside.endpoints.len(), 3);
        assert_eq!(counts(&tables("internalTrafficPolicy", &elsewhere)), [0, 1, 2, 0, 0]);
        for policy in ["externalTrafficPolicy", "internalTrafficPolicy"] {
            let nobody = tables(policy, &on(&[]));
            assert_eq!(counts(&nobody)[..4], [3, 0, 0, 0], "{policy}");
        }
    }

    #[test]
    fn where_all_are_here_the_clusters_own_need_no_way_of_their_own() {
        assert_eq!(counts(&tables("externalTrafficPolicy", &on(&["a", "a"]))), [0, 0, 3, 0, 2]);
    }
}
