//! Which clients' datagrams are led to somebody who no longer stands behind a Service. Pure.
//!
//! The kernel leads all datagrams of a client where it led the first: one that goes on sending would never reach who
//! came in another's place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::plan::Tables;
use crate::conntrack::Flow;
use crate::nft::{Element, Verdict};

type End = (IpAddr, u16);

/// The ports of Services that changed, each with those who stand behind it now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moved(BTreeMap<End, BTreeSet<End>>);

impl Moved {
    /// What differs; all there is, where nothing is known of before.
    pub fn between(before: Option<&Tables>, now: &Tables) -> Self {
        let nothing = Tables::default();
        let before = before.unwrap_or(&nothing);
        let sets = [
            (&before.services, &now.services),
            (&before.endpoints, &now.endpoints),
            (&before.refused, &now.refused),
        ];
        let changed = sets.into_iter().flat_map(|(old, new)| old.symmetric_difference(new));
        let mut moved: BTreeMap<End, BTreeSet<End>> =
            changed.filter_map(port).map(|port| (port, BTreeSet::new())).collect();
        for element in &now.endpoints {
            let Verdict::Data(to) = &element.value else { continue };
            if let (Some(behind), Some(to)) =
                (port(element).and_then(|port| moved.get_mut(&port)), end(to, 4))
            {
                behind.insert(to);
            }
        }
        Self(moved)
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

/// The port of a Service that an element is about, if it is for datagrams.
fn port(element: &Element) -> Option<End> {
    const UDP: u8 = 17;
    (element.key.get(4) == Some(&UDP)).then(|| end(&element.key, 8))?
}

/// The address at the beginning, and the port that far behind.
fn end(bytes: &[u8], port: usize) -> Option<End> {
    let ip = Ipv4Addr::from(*bytes.first_chunk::<4>()?);
    Some((ip.into(), u16::from_be_bytes(*bytes.get(port..)?.first_chunk()?)))
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
        // The Service is gone.
        assert!(Moved::between(Some(&one), &Tables::default()).is_stale(&flow("10.244.0.3")));
    }

    #[test]
    fn what_stays_and_streams_move_nothing() {
        let one = tables("UDP", &["10.244.0.3"]);
        assert!(Moved::between(Some(&one), &one).is_empty());
        assert!(!Moved::between(None, &one).is_empty());
        assert!(Moved::between(None, &tables("TCP", &["10.244.0.3"])).is_empty());
    }
}
