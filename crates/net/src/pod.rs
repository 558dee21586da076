//! A pod's link: a routed point-to-point veth, no bridge. Between two pods on one bridge a Service's reverse
//! translation would depend on `br_netfilter`.
//!
//! The addresses that are given, and the ports of the node that lead to the pod, are files that survive every process;
//! a sandbox that is set up twice gets the same.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use base::failpoint;
use parking_lot::Mutex;

use crate::cidr::Cidr;
use crate::error::{Doing, NetError, Result};
use crate::file;
use crate::leases::Leases;
use crate::link::{Links, sysctl, sysctl_v6};
use crate::namespace;
use crate::ports::HostPorts;
use crate::ports::plan::{HostPort, Record};
use crate::shape::{self, Limits};

/// What pods see as their gateway; the node answers for it, whatever its own addresses.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same of IPv6: each link has it at the node's end.
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The hardware address of the node's end of every link. Pods are told, and need not ask: a node without a way out
/// would not answer for a gateway to which it has no route itself.
const HARDWARE: [u8; 6] = [0x02, 0x6b, 0x6e, 0x00, 0x00, 0x01];

/// The group of links that are about to go ("knGO").
const LEAVING: u32 = 0x6b6e_474f;

/// What a pod wants.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Where its namespace is pinned.
    pub netns: PathBuf,
    /// Whose it is.
    pub owner: String,
    /// The interface in the pod.
    pub interface: String,
    /// Ports of the node that are to lead to the pod's.
    pub ports: Vec<HostPort>,
    /// How fast it may send and receive.
    pub limits: Limits,
}

/// Gives pods of one node their network.
pub struct PodLinks {
    leases: Leases,
    ports: HostPorts,
    cidrs: Mutex<Vec<Cidr>>,
    leaving: Leaving,
}

/// The names of links that are to go, and whose turn it is to remove them all.
#[derive(Default)]
struct Leaving {
    names: Mutex<Vec<String>>,
    turn: tokio::sync::Mutex<()>,
}

impl Leaving {
    /// Removes links, together with those that others want removed meanwhile. Doing it again is no error.
    async fn remove(&self, names: [String; 2]) -> Result<()> {
        self.names.lock().extend(names.iter().cloned());
        let turn = self.turn.lock().await;
        let all = std::mem::take(&mut *self.names.lock());
        let links = Links::open()?;
        // None, if whoever had the turn before took them along.
        if !all.is_empty()
            && let Err(error) = links.remove_together(&all, LEAVING).await
        {
            tracing::warn!(%error, "links are not removed together; each is by itself");
        }
        drop(turn);
        // Whatever was not taken along.
        for name in &names {
            links.remove(name).await?;
        }
        Ok(())
    }
}

impl PodLinks {
    /// Records addresses and ports below `dir`.
    ///
    /// # Errors
    /// When the node's networks were recorded there, and cannot be read.
    pub fn new(dir: PathBuf) -> Result<Self> {
        let path = dir.join("cidr");
        let cidrs = match fs::read_to_string(&path) {
            Ok(text) => Cidr::parse_all(text.trim())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error).doing(|| format!("reading {}", path.display())),
        };
        let table = format!("knarr-ports-{:08x}", hash(&dir.display().to_string()) >> 32);
        let ports = HostPorts::new(dir.join("ports"), table);
        let (leases, cidrs) = (Leases::new(dir), Mutex::new(cidrs));
        Ok(Self { leases, ports, cidrs, leaving: Leaving::default() })
    }

    /// The node's parts of the pod network, as text such as `10.244.1.0/24` or `10.244.1.0/24,fd00:244:1::/64`.
    ///
    /// # Errors
    /// When they are no networks, or cannot be recorded.
    pub fn set_cidr(&self, cidr: &str) -> Result<()> {
        let parsed = Cidr::parse_all(cidr)?;
        if *self.cidrs.lock() == parsed {
            return Ok(());
        }
        let dir = self.leases.dir();
        // As a plugin we are several processes at once.
        let _lock = self.leases.lock()?;
        file::replace(&dir.join("cidr"), &dir.join("cidr.new"), cidr)?;
        *self.cidrs.lock() = parsed;
        Ok(())
    }

    /// Ports of the node that are on all of its addresses are not on these from now on.
    ///
    /// # Errors
    /// When that cannot be recorded, or the kernel refuses.
    pub fn reserve(&self, addresses: &[IpAddr]) -> Result<()> {
        self.ports.reserve(addresses)
    }

    /// Whether pods can be given a network.
    pub fn has_cidr(&self) -> bool {
        !self.cidrs.lock().is_empty()
    }

    /// Connects a pod. Doing it again changes nothing.
    ///
    /// # Errors
    /// When no address is free, a port is taken, or the kernel refuses.
    pub async fn setup(&self, wish: &Wish) -> Result<Vec<IpAddr>> {
        let networks = self.cidrs.lock().clone();
        if networks.is_empty() {
            return Err(NetError::Other("the node has no pod network yet".to_owned()));
        }
        let ips = self.leases.take(&networks, &wish.owner)?;
        let outer = link_name(&wish.owner);
        let links = Links::open()?;
        sysctl("ip_forward", "1")?;
        if links.index(&outer).await?.is_none() {
            let netns = &wish.netns;
            let file = File::open(netns).doing(|| format!("opening {}", netns.display()))?;
            links.veth_into(&outer, HARDWARE, file.as_raw_fd(), &wish.interface).await?;
        }
        failpoint::hit("net.pod.linked");
        let (given, interface) = (ips.clone(), wish.interface.clone());
        namespace::run_in(&wish.netns, move || async move { inside(&interface, &given).await }).await?;
        // The node answers every other question on this link with its own: no address of its own is needed.
        sysctl(&format!("conf/{outer}/proxy_arp"), "1")?;
        sysctl(&format!("neigh/{outer}/proxy_delay"), "0")?;
        if ips.iter().any(IpAddr::is_ipv6) {
            forward_v6()?;
            links.address(&outer, GATEWAY_V6, 64).await?;
        }
        failpoint::hit("net.pod.furnished");
        links.up(&outer).await?;
        for &ip in &ips {
            links.route_link(ip, width(ip), &outer).await?;
        }
        failpoint::hit("net.pod.routed");
        shape::apply(&links, &outer, &device_name(&wish.owner), wish.limits).await?;
        if !wish.ports.is_empty() {
            // So that the node's own loopback leads there, too.
            sysctl(&format!("conf/{outer}/route_localnet"), "1")?;
        }
        let record = Record { owner: wish.owner.clone(), ips: ips.clone(), ports: wish.ports.clone() };
        self.ports.open(&record)?;
        failpoint::hit("net.pod.ports_open");
        Ok(ips)
    }

    /// Disconnects a pod and frees what it has. Doing it again is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn teardown(&self, owner: &str) -> Result<()> {
        self.ports.close(owner)?;
        failpoint::hit("net.pod.ports_closed");
        self.leaving.remove([link_name(owner), device_name(owner)]).await?;
        failpoint::hit("net.pod.unlinked");
        self.leases.release(owner)
    }

    /// Looks whether a pod is still connected as it was.
    ///
    /// # Errors
    /// When it is not, with what is missing.
    pub async fn check(&self, wish: &Wish) -> Result<()> {
        let missing = |what: String| Err(NetError::Other(what));
        let ips = self.leases.of(&wish.owner)?;
        if ips.is_empty() {
            return missing(format!("{} has no address", wish.owner));
        }
        let links = Links::open()?;
        let outer = link_name(&wish.owner);
        if links.index(&outer).await?.is_none() {
            return missing(format!("there is no link {outer}"));
        }
        if wish.limits.egress.is_some() && links.index(&device_name(&wish.owner)).await?.is_none() {
            return missing(format!("there is no device {}", device_name(&wish.owner)));
        }
        if self.ports.of(&wish.owner)?.map(|record| record.ports).unwrap_or_default() != wish.ports {
            return missing(format!("{} has not the host ports that it wants", wish.owner));
        }
        let interface = wish.interface.clone();
        namespace::run_in(&wish.netns, move || async move {
            let found = Links::open()?.addresses(&interface).await?;
            match ips.iter().find(|ip| !found.contains(ip)) {
                Some(ip) => Err(NetError::Other(format!("{interface} has not the address {ip}"))),
                None => Ok(()),
            }
        })
        .await
    }

    /// Disconnects all but some, and makes the tables of ports anew.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn keep(&self, known: &[String]) -> Result<()> {
        let is_known = |owner: &str| known.iter().any(|known| known == owner);
        self.ports.keep(is_known)?;
        let mut gone: Vec<String> = self.leases.all()?.into_iter().map(|(_, owner)| owner).collect();
        gone.retain(|owner| !is_known(owner));
        gone.dedup();
        for owner in gone {
            self.teardown(&owner).await?;
        }
        Ok(())
    }
}

/// The pod's end of the link.
async fn inside(interface: &str, ips: &[IpAddr]) -> Result<()> {
    let links = Links::open()?;
    links.up("lo").await?;
    for &ip in ips {
        links.address(interface, ip, width(ip)).await?;
    }
    links.up(interface).await?;
    if ips.iter().any(IpAddr::is_ipv4) {
        links.neighbour(interface, GATEWAY, HARDWARE).await?;
        links.route_link(GATEWAY, 32, interface).await?;
        links.route_via(Ipv4Addr::UNSPECIFIED, 0, GATEWAY, Some(interface)).await?;
    }
    if ips.iter().any(IpAddr::is_ipv6) {
        links.default_route_v6(GATEWAY_V6, interface).await?;
    }
    Ok(())
}

/// Passes IPv6 on. A node that learns its own way out from routers must go on doing so, which the kernel would stop.
pub(crate) fn forward_v6() -> Result<()> {
    const CONF: &str = "/proc/sys/net/ipv6/conf";
    let value = |path: &Path| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let all = Path::new(CONF).join("all/forwarding");
    if value(&all).doing(|| format!("reading {}", all.display()))? == "1" {
        return Ok(());
    }
    for entry in fs::read_dir(CONF).doing(|| format!("reading {CONF}"))? {
        let name = entry.doing(|| format!("reading {CONF}"))?.file_name();
        let name = name.to_string_lossy();
        // A link may go while it is looked at.
        if value(&Path::new(CONF).join(&*name).join("accept_ra")).is_ok_and(|accepts| accepts == "1") {
            sysctl_v6(&format!("conf/{name}/accept_ra"), "2")?;
        }
    }
    sysctl_v6("conf/all/forwarding", "1")
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// FNV-1a: names need to differ, not to be secret.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The name of a sandbox's link on the node: at most 15 characters, and the same each time.
pub fn link_name(owner: &str) -> String {
    format!("kn{:011x}", hash(owner) >> 20)
}

/// The name of the device by way of which goes what a sandbox sends, if that is limited.
fn device_name(owner: &str) -> String {
    format!("kb{:011x}", hash(owner) >> 20)
}

/// Base and length of an IPv4 network.
pub(crate) fn parse(cidr: &str) -> Result<(u32, u8)> {
    match Cidr::parse(cidr)? {
        Cidr { base: IpAddr::V4(base), bits } => Ok((base.to_bits(), bits)),
        Cidr { .. } => Err(NetError::Other(format!("{cidr:?} is not an IPv4 network"))),
    }
}

#[cfg(test)]
mod tests;
