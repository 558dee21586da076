//! Networks of either family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{NetError, Result};

/// A network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    /// Its first address.
    pub base: IpAddr,
    /// How many bits its addresses share.
    pub bits: u8,
}

impl Cidr {
    /// Reads a network such as `10.244.1.0/24` or `fd00:10:244:1::/64`, of which pods can be given addresses.
    ///
    /// # Errors
    /// When it is none, or leaves no room for pods.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = || NetError::Other(format!("{text:?} is not a network"));
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        let base = match address {
            IpAddr::V4(ip) if (8..=30).contains(&bits) => {
                Ipv4Addr::from_bits(ip.to_bits() & (u32::MAX << (32 - bits))).into()
            }
            IpAddr::V6(ip) if (8..=126).contains(&bits) => {
                Ipv6Addr::from_bits(ip.to_bits() & (u128::MAX << (128 - bits))).into()
            }
            _ => return Err(bad()),
        };
        Ok(Self { base, bits })
    }

    /// Reads networks that are parted by commas, at most one of a family.
    ///
    /// # Errors
    /// When one of them is none, or there are two of a family.
    pub fn parse_all(text: &str) -> Result<Vec<Self>> {
        let all: Vec<Self> = text.split(',').map(|one| Self::parse(one.trim())).collect::<Result<_>>()?;
        match all.as_slice() {
            [_] => Ok(all),
            [one, two] if one.base.is_ipv4() != two.base.is_ipv4() => Ok(all),
            _ => Err(NetError::Other(format!("{text:?} is not one network of each family"))),
        }
    }

    /// Whether an address lies in it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                ip.to_bits() & u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0) == base.to_bits()
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                ip.to_bits() & u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0)
                    == base.to_bits()
            }
            _ => false,
        }
    }

    /// The addresses that pods may have: not the first two, and not an IPv4 network's last. Those behind `last` come
    /// first.
    pub fn hosts(&self, last: Option<&IpAddr>) -> impl Iterator<Item = IpAddr> + use<> {
        let bits = |ip: &IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let (base, is_ipv4) = (bits(&self.base), self.base.is_ipv4());
        let width = if is_ipv4 { 32 - self.bits } else { 128 - self.bits };
        // Nobody has more pods than that, and a search must end.
        let all = 1u128.checked_shl(u32::from(width.min(24))).unwrap_or(u128::MAX).saturating_sub(1);
        let last = last.filter(|ip| self.contains(**ip)).map(|ip| bits(ip).saturating_sub(base));
        let behind = last.map_or(2, |last| last.saturating_add(1).clamp(2, all));
        (behind..all).chain(2..behind).map(move |offset| match u32::try_from(base + offset) {
            Ok(bits) if is_ipv4 => Ipv4Addr::from_bits(bits).into(),
            _ => Ipv6Addr::from_bits(base + offset).into(),
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_both_families() {
        let four = Cidr::parse("10.9.1.7/29").unwrap();
        assert_eq!(four.to_string(), "10.9.1.0/29");
        let hosts = |last: &str| -> Vec<String> {
            let last = last.parse().ok();
            four.hosts(last.as_ref()).map(|ip| ip.to_string().replace("10.9.1.", "")).collect()
        };
        assert_eq!(hosts(""), ["2", "3", "4", "5", "6"]);
        assert_eq!(hosts("10.9.1.3"), ["4", "5", "6", "2", "3"]);
        for none_behind in ["10.9.1.6", "10.9.1.7", "10.9.1.0", "10.9.2.4", "fd00::4"] {
            assert_eq!(hosts(none_behind), ["2", "3", "4", "5", "6"], "{none_behind}");
        }
        let six = Cidr::parse("fd00:1::5/64").unwrap();
        assert_eq!(six.hosts(None).next().unwrap().to_string(), "fd00:1::2");
        assert!(six.contains("fd00:1::ffff".parse().unwrap()) && !six.contains("fd00:2::1".parse().unwrap()));
        assert!(four.contains("10.9.1.3".parse().unwrap()) && !four.contains("fd00::".parse().unwrap()));
        assert_eq!(Cidr::parse_all("10.1.0.0/24, fd00::/64").unwrap().len(), 2);
        for bad in ["10.1.0.0", "10.1.0.0/31", "x/24", "fd00::/127", "10.1.0.0/24,10.2.0.0/24", ""] {
            assert!(Cidr::parse_all(bad).is_err(), "{bad}");
        }
    }
}
