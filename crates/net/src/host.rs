//! The network of nodes that live on one machine, each in its own namespace: a bridge for each cluster.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::error::{Doing, Result};
use crate::link::{Links, sysctl};
use crate::namespace;
use crate::pod::forward_v6;

/// The names and addresses of one cluster's node network.
#[derive(Debug, Clone)]
pub struct HostNetwork {
    /// The bridge's name, at most 15 characters.
    pub bridge: String,
    /// The machine's own address on it.
    pub gateway: Ipv4Addr,
    /// The length of the network.
    pub bits: u8,
    /// Its address of IPv6 there, where nodes have both families; the network is 64 bits long.
    pub gateway_v6: Option<Ipv6Addr>,
}

impl HostNetwork {
    /// Makes the bridge. Doing it again changes nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ensure(&self) -> Result<()> {
        let links = Links::open()?;
        links.bridge(&self.bridge).await?;
        links.address(&self.bridge, self.gateway, self.bits).await?;
        if let Some(gateway) = self.gateway_v6 {
            links.address(&self.bridge, gateway, 64).await?;
            forward_v6()?;
        }
        links.up(&self.bridge).await?;
        sysctl("ip_forward", "1")
    }

    /// Makes a node's namespace, pinned at `netns`, with its link and address. Doing it again changes nothing.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ensure_node(
        &self,
        index: u32,
        netns: &Path,
        address: Ipv4Addr,
        address_v6: Option<Ipv6Addr>,
    ) -> Result<()> {
        namespace::create(netns)?;
        let links = Links::open()?;
        let outer = self.node_link(index);
        let inner = format!("{outer}p");
        if links.index(&outer).await?.is_none() {
            links.veth(&outer, &inner).await?;
            let file = File::open(netns).doing(|| format!("opening {}", netns.display()))?;
            links.move_to(&inner, file.as_raw_fd(), "eth0").await?;
        }
        links.attach(&outer, &self.bridge).await?;
        links.up(&outer).await?;
        let (gateway, bits) = (self.gateway, self.bits);
        let both_v6 = self.gateway_v6.zip(address_v6);
        namespace::run_in(netns, move || async move {
            let links = Links::open()?;
            links.up("lo").await?;
            links.address("eth0", address, bits).await?;
            links.up("eth0").await?;
            links.route_via(Ipv4Addr::UNSPECIFIED, 0, gateway, None).await?;
            if let Some((gateway, address)) = both_v6 {
                links.address("eth0", address, 64).await?;
                links.default_route_v6(gateway, "eth0").await?;
            }
            // There is one way only: a redirect would send everything past the node.
            for link in ["all", "eth0"] {
                sysctl(&format!("conf/{link}/send_redirects"), "0")?;
            }
            sysctl("ip_forward", "1")
        })
        .await
    }

    /// Routes the cluster's Services, or its pods, to a node, so that the machine itself reaches them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn route(&self, cidr: &str, node: Ipv4Addr) -> Result<()> {
        let (base, bits) = crate::pod::parse(cidr)?;
        Links::open()?.route_via(Ipv4Addr::from(base), bits, node, None).await
    }

    fn node_link(&self, index: u32) -> String {
        format!("{}n{index}", self.bridge)
    }

    /// Takes a node's link away, and with it the node from the network. Doing it again is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_node(&self, index: u32) -> Result<()> {
        Links::open()?.remove(&self.node_link(index)).await
    }

    /// Removes everything of the cluster from the machine. Doing it again is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove(&self) -> Result<()> {
        let links = Links::open()?;
        let prefix = format!("{}n", self.bridge);
        for name in links.names().await? {
            if name.starts_with(&prefix) {
                links.remove(&name).await?;
            }
        }
        links.remove(&self.bridge).await
    }
}
