use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use crate::error::{Doing, NetError, Result};

/// A socket to the traffic control of the calling thread's namespace.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub fn open() -> Result<Self> {
        let opened =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        let fd = opened.doing(|| "opening a netlink socket".to_owned())?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).doing(|| "binding a netlink socket".to_owned())?;
        Ok(Self(fd))
    }

    /// Sends one message, and waits for what the kernel says to it.
    pub fn ask(&self, message: &[u8], what: impl FnOnce() -> String) -> Result<()> {
        let done = self.exchange(message);
        done.map_err(|source| NetError::Io { what: what(), source })
    }

    fn exchange(&self, message: &[u8]) -> io::Result<()> {
        sendto(self.0.as_raw_fd(), message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut buffer = [0u8; 8192];
        let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let answer = buffer.get(..length).unwrap_or_default();
        // After the header of 16 bytes an error message has its code; 0 is an acknowledgement.
        let code = answer.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
        match code {
            Some(0) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(-code)),
            None => Err(io::Error::other("the kernel's answer is cut off")),
        }
    }
}
