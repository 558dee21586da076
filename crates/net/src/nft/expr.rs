//! Expressions of rules. Registers are the kernel's 32-bit ones, 8 to 23.

use std::net::Ipv6Addr;

use super::message::{Attributes, Family};

/// The first register, where keys and translated addresses begin.
pub const R0: u32 = 8;
/// The second.
pub const R1: u32 = 9;
/// The third.
pub const R2: u32 = 10;
/// The fourth.
pub const R3: u32 = 11;

/// Expressions, in the order in which they are evaluated.
#[derive(Debug, Default, Clone)]
pub struct Expressions(Attributes);

impl Expressions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn add(mut self, name: &str, fill: impl FnOnce(&mut Attributes)) -> Self {
        self.0.nest(1, |element| {
            element.text(1, name).nest(2, fill);
        });
        self
    }

    /// Bytes of the network header (`base` 1) or the transport header (`base` 2).
    fn payload(self, base: u32, offset: u32, length: u32, to: u32) -> Self {
        self.add("payload", |a| {
            a.number(1, to).number(2, base).number(3, offset).number(4, length);
        })
    }

    /// The source address.
    pub fn source(self, to: u32) -> Self {
        self.payload(1, 12, 4, to)
    }

    /// The destination address.
    pub fn destination(self, to: u32) -> Self {
        self.payload(1, 16, 4, to)
    }

    /// The source address of an IPv6 packet, in four registers.
    pub fn source_v6(self, to: u32) -> Self {
        self.payload(1, 8, 16, to)
    }

    /// The destination address of an IPv6 packet, in four registers.
    pub fn destination_v6(self, to: u32) -> Self {
        self.payload(1, 24, 16, to)
    }

    /// Goes on only if the destination is an address of this machine.
    pub fn to_this_machine(self) -> Self {
        const OF_DESTINATION: u32 = 2;
        self.of_this_machine(OF_DESTINATION)
    }

    /// Goes on only if the source is an address of this machine.
    pub fn from_this_machine(self) -> Self {
        const OF_SOURCE: u32 = 1;
        self.of_this_machine(OF_SOURCE)
    }

    fn of_this_machine(self, end: u32) -> Self {
        const ADDRESS_TYPE: u32 = 3;
        const LOCAL: u32 = 2;
        let asked = self.add("fib", |a| {
            a.number(1, R0).number(2, ADDRESS_TYPE).number(3, end);
        });
        asked.compare(R0, false, &LOCAL.to_ne_bytes())
    }

    /// Goes on only if the packet came from another link than loopback, which is every namespace's first.
    pub fn from_outside(self) -> Self {
        const INCOMING: u32 = 4;
        const LOOPBACK: u32 = 1;
        let asked = self.add("meta", |a| {
            a.number(1, R0).number(2, INCOMING);
        });
        asked.compare(R0, true, &LOOPBACK.to_ne_bytes())
    }

    /// The destination port.
    pub fn destination_port(self, to: u32) -> Self {
        self.payload(2, 2, 2, to)
    }

    /// The protocol.
    pub fn protocol(self, to: u32) -> Self {
        const L4PROTO: u32 = 16;
        self.add("meta", |a| {
            a.number(1, to).number(2, L4PROTO);
        })
    }

    /// A field of the connection: key, and direction where it has one.
    fn connection(self, key: u32, direction: Option<u8>, to: u32) -> Self {
        self.add("ct", |a| {
            a.number(1, to).number(2, key);
            if let Some(direction) = direction {
                a.put(3, &[direction]);
            }
        })
    }

    /// The source address of the connection's first packet.
    pub fn original_source(self, to: u32) -> Self {
        self.connection(19, Some(0), to)
    }

    /// The destination address of the connection's first packet.
    pub fn original_destination(self, to: u32) -> Self {
        self.connection(20, Some(0), to)
    }

    /// The destination port of the connection's first packet.
    pub fn original_destination_port(self, to: u32) -> Self {
        self.connection(12, Some(0), to)
    }

    /// Only packets of connections whose destination was translated.
    pub fn translated(self) -> Self {
        const STATUS: u32 = 2;
        const DESTINATION_TRANSLATED: u32 = 0x20;
        self.connection(STATUS, None, R0).any_bit(DESTINATION_TRANSLATED)
    }

    /// Only the first packet of a connection.
    pub fn first_of_connection(self) -> Self {
        const STATE: u32 = 0;
        const NEW: u32 = 8;
        self.connection(STATE, None, R0).any_bit(NEW)
    }

    /// Goes on only if one of these bits of the first register is set.
    fn any_bit(self, bits: u32) -> Self {
        self.mask(R0, &bits.to_ne_bytes()).compare(R0, true, &[0; 4])
    }

    fn mask(self, register: u32, mask: &[u8]) -> Self {
        self.add("bitwise", |a| {
            a.number(1, register).number(2, register).number(3, u32::try_from(mask.len()).unwrap_or(4));
            a.nest(4, |data| {
                data.put(1, mask);
            });
            a.nest(5, |data| {
                data.put(1, &vec![0; mask.len()]);
            });
        })
    }

    /// Goes on only if a register is (`unequal`: is not) this value.
    pub fn compare(self, register: u32, unequal: bool, value: &[u8]) -> Self {
        self.add("cmp", |a| {
            a.number(1, register).number(2, u32::from(unequal));
            a.nest(3, |data| {
                data.put(1, value);
            });
        })
    }

    /// Goes on only if the address in a register lies in (`outside`: outside) a network.
    pub fn within(self, register: u32, base: u32, bits: u8, outside: bool) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        self.mask(register, &mask.to_be_bytes()).compare(register, outside, &base.to_be_bytes())
    }

    /// The same for an address of IPv6, which fills four registers.
    pub fn within_v6(self, register: u32, base: Ipv6Addr, bits: u8, outside: bool) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        self.mask(register, &mask.to_be_bytes()).compare(register, outside, &base.octets())
    }

    /// Looks up the registers from the first on. With `to`, the value goes there; `Some(0)` is a verdict.
    pub fn lookup(self, map: &str, to: Option<u32>) -> Self {
        self.add("lookup", |a| {
            a.text(1, map).number(2, R0);
            if let Some(to) = to {
                a.number(3, to);
            }
        })
    }

    /// One of `count` numbers from `first` on, by chance, in host order.
    pub fn random(self, first: u32, count: u32, to: u32) -> Self {
        const RANDOM: u32 = 1;
        self.add("numgen", |a| {
            a.number(1, to).number(2, count).number(3, RANDOM).number(4, first);
        })
    }

    /// Translates the destination to the address in the first register and the port in the second.
    pub fn translate(self) -> Self {
        self.add("nat", |a| {
            a.number(1, 1).number(2, 2).number(3, R0).number(4, R0).number(5, R1).number(6, R1).number(7, 3);
        })
    }

    /// Translates the destination to the address in the first registers and the port in the one after them.
    pub fn translate_in(self, family: Family) -> Self {
        let port = R0 + if family == Family::V4 { 1 } else { 4 };
        self.add("nat", |a| {
            a.number(1, 1).number(2, family as u32).number(3, R0).number(4, R0);
            a.number(5, port).number(6, port).number(7, 3);
        })
    }

    /// Says that the source in the first registers is to stay: no later chain changes it.
    pub fn keep_source(self, family: Family) -> Self {
        self.add("nat", |a| {
            a.number(1, 0).number(2, family as u32).number(3, R0).number(4, R0);
        })
    }

    /// Drops the packet.
    pub fn drop(self) -> Self {
        self.add("immediate", |a| {
            a.number(1, 0).nest(2, |data| {
                data.nest(2, |verdict| {
                    verdict.number(1, 0);
                });
            });
        })
    }

    /// Leaves the chain: what comes behind in it is not for the packet.
    pub fn leave(self) -> Self {
        self.add("immediate", |a| {
            a.number(1, 0).nest(2, |data| {
                data.nest(2, |verdict| {
                    // NFT_RETURN, which is -5.
                    verdict.number(1, u32::MAX - 4);
                });
            });
        })
    }

    /// Gives the packet the node's own address as its source.
    pub fn masquerade(self) -> Self {
        self.add("masq", |_| {})
    }

    /// Refuses the packet: port unreachable. The kernel sends one client only few of these a second.
    pub fn reject(self) -> Self {
        self.add("reject", |a| {
            a.number(1, 0).put(2, &[3]);
        })
    }

    /// Refuses a TCP packet: the connection is reset.
    pub fn reset(self) -> Self {
        self.add("reject", |a| {
            a.number(1, 1).put(2, &[0]);
        })
    }

    /// Writes key (from the first register on) and data into a map, for so many milliseconds.
    pub fn remember(self, map: &str, data: u32, milliseconds: u64) -> Self {
        self.add("dynset", |a| {
            a.text(1, map).number(3, 1).number(4, R0).number(5, data).put(6, &milliseconds.to_be_bytes());
        })
    }
}
