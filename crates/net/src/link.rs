//! Links, addresses and routes of the namespace of the calling thread.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressScope};
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::error::{Doing, Result};

/// A netlink connection.
pub struct Links {
    pub(crate) handle: Handle,
}

/// Whether the kernel said that it is there already, or not there (any longer).
fn is(error: &rtnetlink::Error, code: i32) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message) if message.raw_code() == -code)
}

pub(crate) fn unless<T>(
    result: std::result::Result<T, rtnetlink::Error>,
    code: i32,
) -> std::result::Result<(), rtnetlink::Error> {
    match result {
        Err(error) if is(&error, code) => Ok(()),
        other => other.map(|_| ()),
    }
}

impl Links {
    /// Connects.
    ///
    /// # Errors
    /// When the kernel refuses a socket.
    pub fn open() -> Result<Self> {
        let (connection, handle, _) =
            rtnetlink::new_connection().doing(|| "opening a netlink socket".to_owned())?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The index of a link; `None` when there is none of the name.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub async fn index(&self, name: &str) -> Result<Option<u32>> {
        let mut found = self.handle.link().get().match_name(name.to_owned()).execute();
        match found.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(error) if is(&error, libc::ENODEV) => Ok(None),
            Err(error) => Err(error).doing(|| format!("looking for link {name}")),
        }
    }

    pub(crate) async fn need(&self, name: &str) -> Result<u32> {
        let found = self.index(name).await?;
        found.ok_or_else(|| crate::error::NetError::Other(format!("there is no link {name}")))
    }

    /// Makes a bridge if there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn bridge(&self, name: &str) -> Result<()> {
        let made = self.handle.link().add(LinkBridge::new(name).build()).execute().await;
        unless(made, libc::EEXIST).doing(|| format!("making bridge {name}"))
    }

    /// Makes an intermediate device, on which what comes from a link can be queued, if there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn ifb(&self, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]));
        unless(self.handle.link().add(message).execute().await, libc::EEXIST)
            .doing(|| format!("making device {name}"))
    }

    /// Makes a pair of links.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn veth(&self, name: &str, peer: &str) -> Result<()> {
        let made = self.handle.link().add(LinkVeth::new(name, peer).build()).execute().await;
        unless(made, libc::EEXIST).doing(|| format!("making links {name} and {peer}"))
    }

    /// Makes a pair of links of which one is in another namespace from the start, under a name of its own. A link
    /// that is moved there costs the kernel tens of milliseconds, in which it makes no other link. One whose hardware
    /// address is given keeps it: others on the machine change only those that were chosen by chance.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn veth_into(&self, name: &str, hardware: [u8; 6], namespace: RawFd, peer: &str) -> Result<()> {
        let mut message = LinkVeth::new(name, peer).build();
        message.attributes.push(LinkAttribute::Address(hardware.to_vec()));
        for attribute in &mut message.attributes {
            let LinkAttribute::LinkInfo(infos) = attribute else { continue };
            for info in infos {
                if let LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))) = info {
                    inner.attributes.push(LinkAttribute::NetNsFd(namespace));
                }
            }
        }
        let made = self.handle.link().add(message).execute().await;
        unless(made, libc::EEXIST).doing(|| format!("making link {name} and its other end {peer}"))
    }

    /// Says for good which hardware address a neighbour on a link has.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn neighbour(&self, link: &str, ip: impl Into<IpAddr>, hardware: [u8; 6]) -> Result<()> {
        let (index, ip) = (self.need(link).await?, ip.into());
        let request = self.handle.neighbours().add(index, ip).link_layer_address(&hardware);
        let made = request.state(NeighbourState::Permanent).replace().execute().await;
        made.doing(|| format!("making {ip} a neighbour on {link}"))
    }

    async fn set(
        &self,
        message: rtnetlink::packet_route::link::LinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        self.handle.link().set(message).execute().await.doing(what)
    }

    /// Moves a link into another namespace under another name.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn move_to(&self, name: &str, namespace: RawFd, new_name: &str) -> Result<()> {
        let index = self.need(name).await?;
        let message = LinkUnspec::new_with_index(index).setns_by_fd(namespace).name(new_name).build();
        self.set(message, || format!("moving link {name}")).await
    }

    /// Puts a link into a bridge.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn attach(&self, name: &str, bridge: &str) -> Result<()> {
        let (index, bridge_index) = (self.need(name).await?, self.need(bridge).await?);
        let message = LinkUnspec::new_with_index(index).controller(bridge_index).build();
        self.set(message, || format!("putting {name} into {bridge}")).await
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn up(&self, name: &str) -> Result<()> {
        let index = self.need(name).await?;
        self.set(LinkUnspec::new_with_index(index).up().build(), || format!("bringing {name} up")).await
    }

    /// Removes a link. Doing it again is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove(&self, name: &str) -> Result<()> {
        let Some(index) = self.index(name).await? else { return Ok(()) };
        unless(self.handle.link().del(index).execute().await, libc::ENODEV)
            .doing(|| format!("removing link {name}"))
    }

    /// Removes all of these links that there are, in the time that one takes: the kernel waits for all readers of a link
    /// that goes, tens of milliseconds, in which it makes and removes no other. `group` is nobody else's.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_together(&self, names: &[String], group: u32) -> Result<()> {
        let grouped = LinkAttribute::Group(group);
        for name in names {
            let message = LinkUnspec::new_with_name(name).append_extra_attribute(grouped.clone()).build();
            let put = self.handle.link().set(message).execute().await;
            unless(put, libc::ENODEV).doing(|| format!("marking link {name} as one that goes"))?;
        }
        let mut all = LinkMessage::default();
        all.attributes.push(grouped);
        let gone = rtnetlink::LinkDelRequest::new_with_message(self.handle.clone(), all).execute().await;
        unless(gone, libc::ENODEV).doing(|| format!("removing {} links", names.len()))
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn address(&self, name: &str, address: impl Into<IpAddr>, bits: u8) -> Result<()> {
        let (index, address) = (self.need(name).await?, address.into());
        let mut request = self.handle.address().add(index, address, bits);
        if name == "lo" {
            // Valid on this host only: never chosen as the source of a packet that leaves.
            request.message_mut().header.scope = AddressScope::Host;
        }
        if address.is_ipv6() {
            // Nobody else is on these links who could have it, and a pod must not wait for that.
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
        }
        let made = request.execute().await;
        unless(made, libc::EEXIST).doing(|| format!("giving {name} the address {address}/{bits}"))
    }

    /// A route straight out of a link.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn route_link(&self, to: impl Into<IpAddr>, bits: u8, link: &str) -> Result<()> {
        let (index, to) = (self.need(link).await?, to.into());
        let route = match to {
            IpAddr::V4(to) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(to, bits)
                .output_interface(index)
                .scope(RouteScope::Link)
                .build(),
            IpAddr::V6(to) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(to, bits)
                .output_interface(index)
                .build(),
        };
        let made = self.handle.route().add(route).replace().execute().await;
        unless(made, libc::EEXIST).doing(|| format!("routing {to}/{bits} to {link}"))
    }

    /// A route by way of a neighbour.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn route_via(
        &self,
        to: Ipv4Addr,
        bits: u8,
        gateway: Ipv4Addr,
        onlink: Option<&str>,
    ) -> Result<()> {
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to, bits).gateway(gateway);
        if let Some(link) = onlink {
            route = route.output_interface(self.need(link).await?).onlink();
        }
        let made = self.handle.route().add(route.build()).replace().execute().await;
        unless(made, libc::EEXIST).doing(|| format!("routing {to}/{bits} by way of {gateway}"))
    }

    /// Everything of IPv6 goes out of a link by way of a neighbour on it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn default_route_v6(&self, gateway: Ipv6Addr, link: &str) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(Ipv6Addr::UNSPECIFIED, 0)
            .gateway(gateway)
            .output_interface(self.need(link).await?)
            .build();
        let made = self.handle.route().add(route).replace().execute().await;
        unless(made, libc::EEXIST).doing(|| format!("routing IPv6 by way of {gateway}"))
    }

    /// The addresses of a link.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        let index = self.need(name).await?;
        let found = self.handle.address().get().set_link_index_filter(index).execute();
        let found: Vec<_> = found.try_collect().await.doing(|| format!("reading the addresses of {name}"))?;
        let address = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        };
        Ok(found.iter().filter_map(|found| found.attributes.iter().find_map(address)).collect())
    }

    /// The names of all links.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub async fn names(&self) -> Result<Vec<String>> {
        let links: Vec<_> =
            self.handle.link().get().execute().try_collect().await.doing(|| "reading links".to_owned())?;
        let name = |attribute: &LinkAttribute| match attribute {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        };
        Ok(links.iter().filter_map(|link| link.attributes.iter().find_map(name)).collect())
    }
}

/// Sets a kernel setting below `/proc/sys/net/ipv4` of this thread's namespace.
///
/// # Errors
/// When it cannot be written.
pub fn sysctl(name: &str, value: &str) -> Result<()> {
    set(&format!("/proc/sys/net/ipv4/{name}"), value)
}

/// Sets a kernel setting below `/proc/sys/net/ipv6` of this thread's namespace.
///
/// # Errors
/// When it cannot be written, as on a kernel without IPv6.
pub fn sysctl_v6(name: &str, value: &str) -> Result<()> {
    set(&format!("/proc/sys/net/ipv6/{name}"), value)
}

fn set(path: &str, value: &str) -> Result<()> {
    fs::write(path, value).doing(|| format!("setting {path} to {value}"))
}
