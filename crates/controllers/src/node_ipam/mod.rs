//! Gives each node its part of the pod network.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};

use crate::context::Context;

/// A network as its family, first address and length.
fn parse(cidr: &str) -> Option<(bool, u128, u8)> {
    let (address, length) = cidr.split_once('/')?;
    let length: u8 = length.parse().ok()?;
    match address.parse().ok()? {
        IpAddr::V4(ip) => (length <= 32).then_some((true, u128::from(ip.to_bits()), length)),
        IpAddr::V6(ip) => (length <= 128).then_some((false, ip.to_bits(), length)),
    }
}

/// What is wrong with a cluster's networks: at most one of each family, and parts that fit into them.
///
/// # Errors
/// What is wrong, for whoever set it.
pub fn validate(cidrs: &str, bits: u8, bits_v6: u8) -> Result<(), String> {
    let mut families = BTreeSet::new();
    for cidr in cidrs.split(',') {
        let (is_v4, _, length) = parse(cidr).ok_or_else(|| format!("{cidr:?} is no network"))?;
        if !families.insert(is_v4) {
            return Err(format!("{cidrs:?} has two networks of one family"));
        }
        let (bits, most) = if is_v4 { (bits, 32) } else { (bits_v6, 128) };
        // Upstream's bound on parts, too: each costs memory there.
        if bits < length || bits > most || bits - length > 16 {
            return Err(format!("parts of /{bits} of the network {cidr} are too few, too many or too small"));
        }
    }
    Ok(())
}

/// The first part of each network that is not taken, `bits` or `bits_v6` long. Pure.
pub fn plan(cidrs: &str, bits: u8, bits_v6: u8, taken: &BTreeSet<String>) -> Option<Vec<String>> {
    cidrs.split(',').map(|cidr| part(cidr, bits, bits_v6, taken)).collect()
}

fn part(cidr: &str, bits: u8, bits_v6: u8, taken: &BTreeSet<String>) -> Option<String> {
    let (is_v4, base, length) = parse(cidr)?;
    let (bits, width) = if is_v4 { (bits, 32u8) } else { (bits_v6, 128) };
    if bits == 0 || bits > width || length > bits {
        return None;
    }
    let parts = 1u128.checked_shl(u32::from(bits - length)).unwrap_or(u128::MAX);
    (0..parts).find_map(|part| {
        let start = base.checked_add(part.checked_shl(u32::from(width - bits))?)?;
        let address = match is_v4 {
            true => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(start).ok()?)),
            false => IpAddr::V6(Ipv6Addr::from_bits(start)),
        };
        let text = format!("{address}/{bits}");
        (!taken.contains(&text)).then_some(text)
    })
}

/// Gives one node its pod network if it has none.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, name: String) -> Result<Option<Duration>, kube::Error> {
    let settings = &context.settings;
    let Some(node) = context.informers.nodes.get(&name) else { return Ok(None) };
    let cidr = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone());
    if settings.cluster_cidr.is_empty() || cidr(&node).is_some() {
        return Ok(None);
    }
    let all = |node: &Node| node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    let nodes = context.informers.nodes.list();
    let taken = nodes.iter().flat_map(|(_, node)| all(node).into_iter().chain(cidr(node))).collect();
    let (bits, bits_v6) = (settings.node_cidr_bits, settings.node_cidr_bits_v6);
    let Some(parts) = plan(&settings.cluster_cidr, bits, bits_v6, &taken) else {
        let about = crate::context::reference("v1", "Node", &node.metadata);
        let message = format!("Node {name} status is now: CIDRNotAvailable");
        context.recorder.named("cidrAllocator").warning(about, "CIDRNotAvailable", message);
        return Ok(Some(Duration::from_secs(30)));
    };
    let nodes: Api<Node> = Api::all(context.clients.nodes.clone());
    let patch = serde_json::json!({"spec": {"podCIDR": parts.first(), "podCIDRs": parts}});
    match nodes.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Ok(_) => {
            // Until the informer tells of this one, the next node would be given the same part.
            let deadline = std::time::Instant::now() + Duration::from_secs(2);
            while context.informers.nodes.get(&name).is_some_and(|node| cidr(&node).is_none())
                && std::time::Instant::now() < deadline
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_given_in_order_and_the_gaps_filled() {
        let first = |cidrs: &str, bits, taken: &[&str]| {
            let taken = taken.iter().map(|&text| text.to_owned()).collect();
            plan(cidrs, bits, 64, &taken).map(|parts| parts.join(" "))
        };
        let taken = ["10.244.0.0/24", "10.244.2.0/24", "fd00:244::/64"];
        assert_eq!(first("10.244.0.0/16", 24, &taken).as_deref(), Some("10.244.1.0/24"));
        let both = first("10.244.0.0/16,fd00:244::/48", 24, &taken);
        assert_eq!(both.as_deref(), Some("10.244.1.0/24 fd00:244:0:1::/64"));
        let all = ["10.0.0.0/25", "10.0.0.128/25"];
        assert_eq!(first("10.0.0.0/24", 25, &all), None);
        // A node is given all or nothing.
        assert_eq!(first("10.0.0.0/24,fd00::/48", 25, &all), None);
    }

    #[test]
    fn networks_are_one_of_a_family_and_their_parts_fit() {
        validate("10.244.0.0/16", 24, 64).unwrap();
        validate("fd00:244::/48,10.244.0.0/16", 24, 64).unwrap();
        for bad in ["10.0.0.0/16,10.1.0.0/16", "10.0.0.0/25", "fd00::/40", "10.0.0.0", "10.0.0.0/16,", ""] {
            assert!(validate(bad, 24, 64).is_err(), "{bad}");
        }
    }
}
