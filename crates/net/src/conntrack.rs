//! What the kernel remembers of datagrams. A client that goes on sending would be led to whoever was there before, for
//! as long as it sends: so what is remembered is forgotten when a port changes hands.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use crate::nft::{Attributes, Family};

const GET: u16 = 0x101;
const DELETE: u16 = 0x102;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const UDP: u8 = 17;
/// `CTA_TUPLE_ORIG`: a connection as its first packet had it.
const ORIGINAL: u16 = 1;
/// `CTA_TUPLE_REPLY`: as what answers it has it.
const REPLY: u16 = 2;

/// One client's datagrams to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Where the client sends them.
    pub to: (IpAddr, u16),
    /// Where they are led.
    pub led_to: (IpAddr, u16),
}

/// Forgets the datagrams of which this is true.
///
/// # Errors
/// What the kernel refuses.
pub fn forget(is_stale: impl Fn(&Flow) -> bool) -> io::Result<()> {
    let protocol = SockProtocol::NetlinkNetFilter;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    for family in [Family::V4, Family::V6] {
        send(&fd, GET, REQUEST | DUMP, family, &[])?;
        let mut stale = Vec::new();
        receive(&fd, |body| {
            // After the four bytes of netfilter's own header.
            let body = body.get(4..).unwrap_or_default();
            if let (Some(flow), Some(tuple)) = (flow(body), attribute(body, ORIGINAL))
                && is_stale(&flow)
            {
                stale.push(tuple.to_vec());
            }
        })?;
        for tuple in stale {
            let mut attributes = Attributes::default();
            attributes.nest(ORIGINAL, |nest| nest.raw(&tuple));
            send(&fd, DELETE, REQUEST | ACK, family, attributes.bytes())?;
            match receive(&fd, |_| {}) {
                // It ended by itself meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                done => done?,
            }
        }
    }
    Ok(())
}

/// None for what is no datagram.
fn flow(body: &[u8]) -> Option<Flow> {
    const SOURCES: [u16; 2] = [1, 3];
    const DESTINATIONS: [u16; 2] = [2, 4];
    const SOURCE_PORT: u16 = 2;
    const DESTINATION_PORT: u16 = 3;
    let (first, answer) = (attribute(body, ORIGINAL)?, attribute(body, REPLY)?);
    Some(Flow { to: end(first, DESTINATIONS, DESTINATION_PORT)?, led_to: end(answer, SOURCES, SOURCE_PORT)? })
}

/// Address and port of one end, by the numbers of their attributes: the address of either family.
fn end(tuple: &[u8], addresses: [u16; 2], port: u16) -> Option<(IpAddr, u16)> {
    let (ip, protocol) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
    if attribute(protocol, 1)?.first() != Some(&UDP) {
        return None;
    }
    let [v4, v6] = addresses;
    let ip = match attribute(ip, v4) {
        Some(bytes) => IpAddr::from(*bytes.first_chunk::<4>()?),
        None => IpAddr::from(*attribute(ip, v6)?.first_chunk::<16>()?),
    };
    Some((ip, u16::from_be_bytes(*attribute(protocol, port)?.first_chunk()?)))
}

/// The value of the first attribute of a kind.
fn attribute(mut bytes: &[u8], kind: u16) -> Option<&[u8]> {
    const FLAGS: u16 = 0xc000;
    while let Some(&[l0, l1, k0, k1]) = bytes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) & !FLAGS == kind {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn send(fd: &OwnedFd, kind: u16, flags: u16, family: Family, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
    let mut out = length.to_ne_bytes().to_vec();
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[family as u8, 0, 0, 0]);
    out.extend_from_slice(body);
    sendto(fd.as_raw_fd(), &out, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

/// Gives each message's body, until the kernel says that this was the last, or what went wrong.
fn receive(fd: &OwnedFd, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut bytes = buffer.get(..length).unwrap_or_default();
        while let Some(&[l0, l1, l2, l3, k0, k1, ..]) = bytes.first_chunk::<16>() {
            let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
            let Some(body) = bytes.get(16..length) else { break };
            match u16::from_ne_bytes([k0, k1]) {
                DONE => return Ok(()),
                ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                _ => each(body),
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}
