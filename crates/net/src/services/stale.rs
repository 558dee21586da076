//! Which clients' datagrams are led to somebody who no longer stands behind a Service. Pure.
//!
//! The kernel leads all datagrams of a client where it led the first: one that goes on sending would never reach who
//! came in another's place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::plan::Tables;
use crate::conntrack::Flow;

type Port = (IpAddr, u16);

/// The ports of Services at which clients may be led to somebody who is gone, each with all who still answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moved(BTreeMap<Port, BTreeSet<Port>>);

impl Moved {
    /// Those that somebody left, and those that nobody was behind before: clients were led nowhere. Where somebody only
    /// comes, and where nobody is now or no Service, nothing can be led better.
    pub fn between(before: Option<&Tables>, now: &Tables) -> Self {
        let of = |&(ip, port): &(_, u16)| (IpAddr::V4(ip), port);
        let moved = now.datagrams.iter().filter(|(front, serving)| {
            let before = before.and_then(|before| before.datagrams.get(front));
            let has_lost_none = before.is_some_and(|before| !before.is_empty() && before.is_subset(serving));
            !serving.is_empty() && !has_lost_none
        });
        Self(moved.map(|(front, serving)| (of(front), serving.iter().map(of).collect())).collect())
    }

    /// Whether nothing did.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a client's datagrams are led elsewhere than they should.
    pub fn is_stale(&self, flow: &Flow) -> bool {
        self.0.get(&flow.to).is_some_and(|behind| !behind.contains(&flow.led_to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::plan::tests::{local, service, slice_of};

    fn tables(protocol: &str, ips: &[&str]) -> Tables {
        let service = service(
            serde_json::json!({"clusterIP": "10.96.0.9", "ports": [{"port": 53, "protocol": protocol}]}),
        );
        let endpoints: Vec<_> = ips.iter().map(|ip| serde_json::json!({"addresses": [ip]})).collect();
        let slice = slice_of(protocol, endpoints.into());
        super::super::plan::plan([&service].into_iter(), [&slice].into_iter(), &local())
    }

    fn flow(led_to: &str) -> Flow {
        Flow { to: ("10.96.0.9".parse().unwrap(), 53), led_to: (led_to.parse().unwrap(), 8080) }
    }

    #[test]
    fn datagrams_to_whoever_is_gone_are_stale_and_no_others() {
        let (both, one) = (tables("UDP", &["10.244.0.2", "10.244.0.3"]), tables("UDP", &["10.244.0.3"]));
        let moved = Moved::between(Some(&both), &one);
        assert!(moved.is_stale(&flow("10.244.0.2")));
        assert!(!moved.is_stale(&flow("10.244.0.3")));
        let elsewhere = Flow { to: ("10.96.0.10".parse().unwrap(), 53), ..flow("10.244.0.2") };
        assert!(!moved.is_stale(&elsewhere));
        // Nobody was behind it, and datagrams went nowhere.
        assert!(Moved::between(Some(&tables("UDP", &[])), &one).is_stale(&flow("10.96.0.9")));
    }

    #[test]
    fn what_stays_and_streams_move_nothing() {
        let one = tables("UDP", &["10.244.0.3"]);
        let (both, nobody) = (tables("UDP", &["10.244.0.2", "10.244.0.3"]), tables("UDP", &[]));
        for now in [&one, &both, &nobody, &Tables::default()] {
            assert!(Moved::between(Some(&one), now).is_empty(), "{:?}", now.datagrams);
        }
        assert!(!Moved::between(None, &one).is_empty());
        assert!(Moved::between(None, &tables("TCP", &["10.244.0.3"])).is_empty());
    }

    #[test]
    fn who_answers_still_keeps_its_clients_whatever_the_policy() {
        let ending = serde_json::json!({"ready": false, "serving": true, "terminating": true});
        let slice = |conditions| {
            slice_of(
                "UDP",
                serde_json::json!([{"addresses": ["10.244.0.2"], "conditions": conditions},
                {"addresses": ["10.244.0.3"]}]),
            )
        };
        let planned = |policy: &str, slice| {
            let service =
                service(serde_json::json!({"clusterIP": "10.96.0.9", "internalTrafficPolicy": policy,
                "ports": [{"port": 53, "protocol": "UDP"}]}));
            super::super::plan::plan([&service].into_iter(), [&slice].into_iter(), &local())
        };
        let before = planned("Cluster", slice(serde_json::json!({})));
        for policy in ["Cluster", "Local"] {
            assert!(Moved::between(Some(&before), &planned(policy, slice(ending.clone()))).is_empty());
        }
        let gone = planned("Cluster", slice(serde_json::json!({"ready": false, "serving": false})));
        assert!(Moved::between(Some(&before), &gone).is_stale(&flow("10.244.0.2")));
    }
}
