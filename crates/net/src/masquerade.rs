//! Pods of IPv6 reach the world under the node's address, as those of IPv4 do by the chains of Services.

use std::net::Ipv6Addr;

use crate::nft::expr::{Expressions, R0};
use crate::nft::{Batch, Family, Hook, NftError, Socket};

/// Makes the table `name`: what pods of the network send out of it leaves under the node's address.
///
/// # Errors
/// What the kernel refuses; then everything is as it was.
pub fn ensure(name: &str, base: Ipv6Addr, bits: u8) -> Result<(), NftError> {
    let mut batch = Batch::of(Family::V6, name);
    batch.table().delete_table().table();
    batch.chain("postrouting", Some(Hook { number: 4, priority: 100, kind: "nat" }));
    let leaving = Expressions::new()
        .source_v6(R0)
        .within_v6(R0, base, bits, false)
        .destination_v6(R0)
        .within_v6(R0, base, bits, true);
    batch.rule("postrouting", &leaving.masquerade());
    Socket::open()?.commit(&batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::alone;

    #[test]
    fn what_leaves_the_network_is_masqueraded() {
        alone(|| {
            let base: Ipv6Addr = "fd6b:6e61::".parse().unwrap();
            ensure("knarr-test", base, 48).unwrap();
            ensure("knarr-test", base, 48).unwrap();
            let listed =
                std::process::Command::new("nft").args(["list", "table", "ip6", "knarr-test"]).output();
            let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
            let rule = "ip6 saddr fd6b:6e61::/48 ip6 daddr != fd6b:6e61::/48 masquerade";
            assert!(listed.contains(rule), "{listed}");
            assert_eq!(listed.matches("masquerade").count(), 1);
        });
    }
}
