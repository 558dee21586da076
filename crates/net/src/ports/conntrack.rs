//! What the kernel remembers of datagrams. A client that goes on sending to a host port would be led to the pod that
//! had it before, for as long as it sends: so what is remembered of a port is forgotten when it changes hands.

use std::collections::BTreeSet;
use std::io;
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

/// Forgets what is known of datagrams to these ports.
pub fn forget(ports: &BTreeSet<u16>) -> io::Result<()> {
    if ports.is_empty() {
        return Ok(());
    }
    let protocol = SockProtocol::NetlinkNetFilter;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    for family in [Family::V4, Family::V6] {
        send(&fd, GET, REQUEST | DUMP, family, &[])?;
        let mut stale = Vec::new();
        receive(&fd, |body| {
            // After the four bytes of netfilter's own header.
            let tuple = attribute(body.get(4..).unwrap_or_default(), ORIGINAL);
            if let Some(tuple) = tuple.filter(|tuple| is_to(tuple, ports)) {
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

fn is_to(tuple: &[u8], ports: &BTreeSet<u16>) -> bool {
    const PROTOCOL: u16 = 2;
    let Some(protocol) = attribute(tuple, PROTOCOL) else { return false };
    let number = attribute(protocol, 1).and_then(|value| value.first());
    let port =
        attribute(protocol, 3).and_then(|value| value.first_chunk()).map(|port| u16::from_be_bytes(*port));
    number == Some(&UDP) && port.is_some_and(|port| ports.contains(&port))
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
