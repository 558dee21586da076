//! The kernel's routes to other nodes' pods, told from everybody else's by their protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};

use super::Routes;
use crate::cidr::Cidr;
use crate::error::{Doing, NetError, Result};
use crate::link::{Links, unless};

/// One that nobody in `/etc/iproute2/rt_protos` has.
const OURS: RouteProtocol = RouteProtocol::Other(107);

fn message(to: Cidr, gateway: Option<IpAddr>) -> Result<RouteMessage> {
    match (to.base, gateway) {
        (IpAddr::V4(base), gateway) => {
            let mut route =
                RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(base, to.bits).protocol(OURS);
            if let Some(IpAddr::V4(gateway)) = gateway {
                route = route.gateway(gateway);
            }
            Ok(route.build())
        }
        (IpAddr::V6(base), None | Some(IpAddr::V6(_))) => {
            let mut route =
                RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(base, to.bits).protocol(OURS);
            if let Some(IpAddr::V6(gateway)) = gateway {
                route = route.gateway(gateway);
            }
            Ok(route.build())
        }
        (_, Some(gateway)) => Err(NetError::Other(format!("{gateway} is no gateway to {to}"))),
    }
}

impl Links {
    /// Routes to another node's pods; `false` when somebody else does.
    pub(super) async fn add_node_route(&self, to: Cidr, gateway: IpAddr) -> Result<bool> {
        let route = message(to, Some(gateway))?;
        match self.handle.route().add(route).execute().await {
            Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -libc::EEXIST => Ok(false),
            made => made.doing(|| format!("routing {to} by way of {gateway}")).map(|()| true),
        }
    }

    /// Removes our route to another node's pods. Doing it again is no error.
    pub(super) async fn remove_node_route(&self, to: Cidr) -> Result<()> {
        let gone = self.handle.route().del(message(to, None)?).execute().await;
        unless(gone, libc::ESRCH).doing(|| format!("removing the route to {to}"))
    }

    /// Our routes.
    pub(super) async fn node_routes(&self) -> Result<Routes> {
        let filters =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        let mut found = Routes::new();
        for filter in filters {
            let routes = self.handle.route().get(filter).execute();
            let routes: Vec<_> = routes.try_collect().await.doing(|| "reading routes".to_owned())?;
            found.extend(routes.iter().filter(|route| route.header.protocol == OURS).filter_map(ends));
        }
        Ok(found)
    }
}

/// Whither a route leads, and by way of whom.
fn ends(route: &RouteMessage) -> Option<(Cidr, IpAddr)> {
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    };
    let (mut to, mut gateway) = (None, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            _ => {}
        }
    }
    Some((Cidr { base: to?, bits: route.header.destination_prefix_length }, gateway?))
}
