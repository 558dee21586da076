//! The network of pods and nodes: links and routes, Services by nftables, DNS.
//!
//! Needs no program on the node: links and routes by rtnetlink, tables by a small netlink encoder. Each part is a
//! pure `plan` and an `apply`. It knows nothing of containers or of how the API server works.

pub mod cidr;
pub mod conntrack;
pub mod dns;
pub mod error;
mod file;
pub mod host;
pub mod leases;
pub mod link;
pub mod masquerade;
pub mod namespace;
pub mod nft;
pub mod plugin;
pub mod pod;
pub mod ports;
pub mod routes;
pub mod services;
pub mod shape;
#[cfg(test)]
mod testing;
