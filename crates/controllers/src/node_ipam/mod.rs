//! Gives each node its part of the pod network.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};

use crate::context::Context;

/// The first part of `cidr` with `bits` that is not taken. Pure.
pub fn plan(cidr: &str, bits: u8, taken: &BTreeSet<String>) -> Option<String> {
    let (address, length) = cidr.split_once('/')?;
    let address: Ipv4Addr = address.parse().ok()?;
    let length: u8 = length.parse().ok()?;
    if !(1..=32).contains(&bits) || length > bits {
        return None;
    }
    let parts = 1u64 << (bits - length);
    let base = u64::from(u32::from(address));
    (0..parts).find_map(|part| {
        let start = u32::try_from(base + (part << (32 - bits))).ok()?;
        let text = format!("{}/{bits}", Ipv4Addr::from(start));
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
    let taken = context.informers.nodes.list().iter().filter_map(|(_, node)| cidr(node)).collect();
    let Some(part) = plan(&settings.cluster_cidr, settings.node_cidr_bits, &taken) else {
        let about = crate::context::reference("v1", "Node", &node.metadata);
        let message = format!("Node {name} status is now: CIDRNotAvailable");
        context.recorder.named("cidrAllocator").warning(about, "CIDRNotAvailable", message);
        return Ok(Some(Duration::from_secs(30)));
    };
    let nodes: Api<Node> = Api::all(context.clients.nodes.clone());
    let patch = serde_json::json!({"spec": {"podCIDR": part, "podCIDRs": [part]}});
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
        let taken = BTreeSet::from(["10.244.0.0/24".to_owned(), "10.244.2.0/24".to_owned()]);
        assert_eq!(plan("10.244.0.0/16", 24, &taken).as_deref(), Some("10.244.1.0/24"));
        let all = BTreeSet::from(["10.0.0.0/25".to_owned(), "10.0.0.128/25".to_owned()]);
        assert_eq!(plan("10.0.0.0/24", 25, &all), None);
    }
}
