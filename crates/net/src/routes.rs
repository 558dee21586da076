//! Routes to the pods of other nodes on the same network: each by way of its node.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use base::TaskGroup;
use client::{Change, Informer, Resource, WorkQueue};
use serde::Deserialize;

use crate::error::Result;
use crate::link::Links;
use crate::pod::parse;

/// What routes need to know of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeView {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Status {
    addresses: Vec<Address>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Address {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// The routes that a node needs: network and gateway.
type Routes = BTreeMap<(Ipv4Addr, u8), Ipv4Addr>;

/// The routes to the pods of every node but `own`.
pub fn plan<'n>(own: &str, nodes: impl Iterator<Item = &'n NodeView>) -> Routes {
    nodes
        .filter(|node| node.metadata.name != own)
        .filter_map(|node| {
            let (base, bits) = parse(&node.spec.pod_cidr).ok()?;
            let internal = node.status.addresses.iter().find(|address| address.kind == "InternalIP")?;
            Some(((Ipv4Addr::from(base), bits), internal.address.parse().ok()?))
        })
        .collect()
}

/// Makes the routes of the kernel those that are wanted. Routes outside the cluster's networks are left alone.
async fn apply(wanted: &Routes, known: &mut Routes) -> Result<()> {
    let links = Links::open()?;
    for (&(to, bits), &gateway) in wanted {
        if known.get(&(to, bits)) != Some(&gateway) {
            links.route_via(to, bits, gateway, None).await?;
            known.insert((to, bits), gateway);
        }
    }
    let stale: Vec<_> = known.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
    for (to, bits) in stale {
        links.unroute(to, bits).await?;
        known.remove(&(to, bits));
    }
    Ok(())
}

/// Keeps the routes of this node until the group stops.
pub async fn run(own: String, client: kube::Client, tasks: &TaskGroup) {
    let queue: WorkQueue<()> = WorkQueue::new();
    let mut nodes: Informer<NodeView> = Informer::new(client, Resource::all("", "v1", "Node", "nodes"));
    let changed = queue.clone();
    nodes.on_change(move |change| {
        let same = match change {
            Change::Set { old: Some(old), new, .. } => {
                let routes = |node: &NodeView| plan("", std::iter::once(node));
                routes(old) == routes(new)
            }
            _ => false,
        };
        if !same {
            changed.add(());
        }
    });
    let nodes = nodes.start(tasks);
    nodes.synced().await;
    let known = tokio::sync::Mutex::new(Routes::new());
    queue.add(());
    queue
        .run(1, |()| async {
            let all = nodes.list();
            let wanted = plan(&own, all.iter().map(|(_, node)| &**node));
            apply(&wanted, &mut *known.lock().await).await?;
            Ok::<_, crate::error::NetError>(None)
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_for_every_other_node_that_has_pods() {
        let node = |name: &str, cidr: &str, ip: &str| -> NodeView {
            serde_json::from_value(serde_json::json!({"metadata": {"name": name}, "spec": {"podCIDR": cidr},
                "status": {"addresses": [{"type": "InternalIP", "address": ip}]}}))
            .unwrap()
        };
        let nodes = [
            node("a", "10.244.0.0/24", "172.30.0.2"),
            node("b", "10.244.1.0/24", "172.30.0.3"),
            node("c", "", "172.30.0.4"),
        ];
        let routes = plan("a", nodes.iter());
        let only = ((Ipv4Addr::new(10, 244, 1, 0), 24), Ipv4Addr::new(172, 30, 0, 3));
        assert_eq!(routes.into_iter().collect::<Vec<_>>(), [only]);
    }
}
