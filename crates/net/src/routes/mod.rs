//! Routes to the pods of other nodes on the same network: each by way of its node.

mod kernel;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use base::TaskGroup;
use client::{Change, Informer, Resource, WorkQueue};
use serde::Deserialize;

use crate::cidr::Cidr;
use crate::error::Result;
use crate::file;
use crate::link::Links;
use crate::pod::forward_v6;

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
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
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
type Routes = BTreeMap<Cidr, IpAddr>;

/// The routes to the pods of every node but `own`.
pub fn plan<'n>(own: &str, nodes: impl Iterator<Item = &'n NodeView>) -> Routes {
    nodes.filter(|node| node.metadata.name != own).flat_map(routes_to).collect()
}

/// The node's own parts of the pod network.
fn cidrs_of(node: &NodeView) -> &[String] {
    match node.spec.pod_cidrs.as_slice() {
        [] if node.spec.pod_cidr.is_empty() => &[],
        [] => std::slice::from_ref(&node.spec.pod_cidr),
        cidrs => cidrs,
    }
}

/// One route for each family of which the node has both pods and an address.
fn routes_to(node: &NodeView) -> Vec<(Cidr, IpAddr)> {
    let internal = node.status.addresses.iter().filter(|address| address.kind == "InternalIP");
    let gateways: Vec<IpAddr> = internal.filter_map(|address| address.address.parse().ok()).collect();
    let cidrs = cidrs_of(node).iter().filter_map(|cidr| Cidr::parse(cidr).ok());
    let routes = cidrs.map(|cidr| {
        let gateway = gateways.iter().find(|ip| ip.is_ipv4() == cidr.base.is_ipv4());
        gateway.map(|gateway| (cidr, *gateway))
    });
    routes.flatten().collect()
}

/// Makes the routes of the kernel those that are wanted. Routes that others made are left alone: a network plugin may
/// lead to other nodes' pods itself.
async fn apply(wanted: &Routes, known: &mut Routes) -> Result<()> {
    let links = Links::open()?;
    let stale: Vec<_> =
        known.iter().filter(|(to, by)| wanted.get(to) != Some(by)).map(|(to, _)| *to).collect();
    for to in stale {
        links.remove_node_route(to).await?;
        known.remove(&to);
    }
    for (&to, &gateway) in wanted {
        if known.contains_key(&to) {
            continue;
        }
        if to.base.is_ipv6() {
            forward_v6()?;
        }
        if links.add_node_route(to, gateway).await? {
            known.insert(to, gateway);
        } else {
            tracing::debug!(%to, "somebody else routes to a node's pods");
        }
    }
    Ok(())
}

/// Writes the node's own networks where our CNI plugin finds them (`podCIDRFile`), one a line.
fn tell(path: &Path, own: &NodeView) -> Result<()> {
    let lines: String = cidrs_of(own).iter().map(|cidr| format!("{cidr}\n")).collect();
    let written = fs::read_to_string(path).unwrap_or_default();
    if lines.is_empty() || lines == written {
        return Ok(());
    }
    file::replace(path, &path.with_extension("new"), &lines)
}

/// Keeps the routes of this node until the group stops, and `cidr_file` as the node's own networks are.
pub async fn run(own: String, cidr_file: PathBuf, client: kube::Client, tasks: &TaskGroup) {
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
    let known = tokio::sync::Mutex::new(None::<Routes>);
    queue.add(());
    queue
        .run(1, |()| async {
            let all = nodes.list();
            let wanted = plan(&own, all.iter().map(|(_, node)| &**node));
            let mut known = known.lock().await;
            // What an earlier process made is ours as well.
            let known = match &mut *known {
                Some(known) => known,
                none => none.insert(Links::open()?.node_routes().await?),
            };
            apply(&wanted, known).await?;
            if let Some((_, node)) = all.iter().find(|(_, node)| node.metadata.name == own) {
                tell(&cidr_file, node)?;
            }
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
        let texts = |routes: Routes| -> Vec<String> {
            routes.iter().map(|(to, gateway)| format!("{to} by {gateway}")).collect()
        };
        assert_eq!(texts(routes), ["10.244.1.0/24 by 172.30.0.3"]);
        let both: NodeView = serde_json::from_value(serde_json::json!({"metadata": {"name": "d"},
            "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24", "fd00:3::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.5"},
                {"type": "InternalIP", "address": "fd30::5"}]}}))
        .unwrap();
        let wanted = ["10.244.3.0/24 by 172.30.0.5", "fd00:3::/64 by fd30::5"];
        assert_eq!(texts(plan("a", [&both].into_iter())), wanted);
    }
    #[test]
    fn what_others_route_is_left_alone_and_what_a_killed_process_made_is_found() {
        let texts = |routes: &Routes| -> Vec<String> {
            routes.iter().map(|(to, gateway)| format!("{to} by {gateway}")).collect()
        };
        let routes = |all: &[(&str, &str)]| -> Routes {
            all.iter().map(|(to, by)| (Cidr::parse(to).unwrap(), by.parse().unwrap())).collect()
        };
        crate::testing::alone(|| {
            let _world = crate::testing::peer(
                [10, 77, 0, 1].into(),
                [10, 77, 0, 2].into(),
                "out0",
                |links| async move {
                    links
                        .address("out0", "fd30::1".parse::<std::net::Ipv6Addr>().unwrap(), 64)
                        .await
                        .unwrap();
                    links.route_via([10, 9, 3, 0].into(), 24, [10, 77, 0, 9].into(), None).await.unwrap();
                },
            );
            crate::testing::block_on(async {
                let wanted = routes(&[
                    ("10.9.1.0/24", "10.77.0.2"),
                    ("10.9.3.0/24", "10.77.0.2"),
                    ("fd00:1::/64", "fd30::2"),
                ]);
                let mut known = Routes::new();
                apply(&wanted, &mut known).await.unwrap();
                let ours = ["10.9.1.0/24 by 10.77.0.2", "fd00:1::/64 by fd30::2"];
                assert_eq!(texts(&known), ours);
                let links = Links::open().unwrap();
                let mut known = links.node_routes().await.unwrap();
                assert_eq!(texts(&known), ours);
                // Another node's pods moved, and one node is gone.
                let wanted = routes(&[("10.9.1.0/24", "10.77.0.3"), ("10.9.3.0/24", "10.77.0.2")]);
                apply(&wanted, &mut known).await.unwrap();
                assert_eq!(texts(&links.node_routes().await.unwrap()), ["10.9.1.0/24 by 10.77.0.3"]);
            });
            let all = std::process::Command::new("ip").args(["route"]).output().unwrap().stdout;
            assert!(String::from_utf8(all).unwrap().contains("10.9.3.0/24 via 10.77.0.9 dev out0"));
        });
    }
}
