//! Packets with descriptors over a `SOCK_SEQPACKET` socket.
#![expect(unsafe_code, reason = "descriptors that arrive as numbers")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
};

use super::process::reopen;
use crate::proto;

/// A packet and what came along.
pub struct Packet {
    /// Its bytes; none at the end of the connection.
    pub bytes: Vec<u8>,
    /// Its descriptors.
    pub fds: Vec<OwnedFd>,
}

/// Sends one packet, without waiting.
pub fn send(socket: BorrowedFd<'_>, parts: [&[u8]; 2], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let iov = parts.map(IoSlice::new);
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    socket::sendmsg::<UnixAddr>(socket.as_raw_fd(), &iov, control, flags, None)?;
    Ok(())
}

/// Receives one packet, without waiting.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Packet> {
    let mut bytes = vec![0u8; proto::MAX_PACKET];
    let mut control = nix::cmsg_space!([RawFd; proto::MAX_FDS]);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = socket::recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags)?;
    let mut fds = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel just installed these for us, and nobody else has their numbers.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let len = message.bytes;
    bytes.truncate(len);
    Ok(Packet { bytes, fds })
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?)
}

/// The address of a socket whose path may be longer than an address: by way of its folder's descriptor.
fn address(path: &Path) -> io::Result<(OwnedFd, UnixAddr)> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket needs a folder and a name"));
    };
    let folder = reopen(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((folder, UnixAddr::new(&short)?))
}

/// Listens at a path, which must be free.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let (_folder, address) = address(path)?;
    socket::bind(socket.as_raw_fd(), &address)?;
    socket::listen(&socket, Backlog::new(4)?)?;
    Ok(socket)
}

/// Connects to a path.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let (_folder, address) = address(path)?;
    socket::connect(socket.as_raw_fd(), &address)?;
    Ok(socket)
}
