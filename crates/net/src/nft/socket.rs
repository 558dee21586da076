use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt,
    socket, sockopt,
};

use super::Batch;

/// Why a transaction did not happen. Nothing of it did.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// The kernel refused one message of the transaction.
    #[error("nftables refused message {message}: {source}")]
    Refused {
        /// Which, beginning with 1; 0 for the transaction as a whole.
        message: u32,
        /// Why.
        source: io::Error,
    },
    /// The socket failed.
    #[error("nftables: {what}: {source}")]
    Socket {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// A socket to the nftables of the calling thread's namespace.
#[derive(Debug)]
pub struct Socket(OwnedFd);

fn failed(what: &'static str) -> impl FnOnce(nix::Error) -> NftError {
    move |error| NftError::Socket { what, source: error.into() }
}

impl Socket {
    /// Opens a socket.
    ///
    /// # Errors
    /// When the kernel has no nftables, or it is not allowed.
    pub fn open() -> Result<Self, NftError> {
        let protocol = SockProtocol::NetlinkNetFilter;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
            .map_err(failed("opening a socket"))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed("binding the socket"))?;
        // A large transaction is one datagram.
        setsockopt(&fd, sockopt::SndBufForce, &(64 << 20))
            .map_err(failed("enlarging the socket's buffer"))?;
        Ok(Self(fd))
    }

    /// Commits a transaction.
    ///
    /// # Errors
    /// [`NftError::Refused`] names the first message that the kernel did not take.
    pub fn commit(&self, batch: &Batch) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.bytes();
        sendto(self.0.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .map_err(failed("sending"))?;
        let mut refused = None;
        let mut buffer = vec![0u8; 1 << 16];
        let mut flags = MsgFlags::empty();
        loop {
            // The first answer is waited for; whatever else was said is there by then.
            let length = match recv(self.0.as_raw_fd(), &mut buffer, flags) {
                Ok(length) => length,
                Err(nix::Error::EAGAIN) => break,
                Err(error) => return Err(failed("receiving")(error)),
            };
            flags = MsgFlags::MSG_DONTWAIT;
            for (sequence, code) in errors(buffer.get(..length).unwrap_or_default()) {
                if code != 0 && refused.is_none() {
                    let source = io::Error::from_raw_os_error(-code);
                    refused = Some(NftError::Refused { message: sequence, source });
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

/// Sequence numbers and codes of the error messages in a datagram; code 0 is an acknowledgement.
fn errors(mut bytes: &[u8]) -> Vec<(u32, i32)> {
    const ERROR: u16 = 2;
    let mut found = Vec::new();
    while let Some((head, _)) = bytes.split_first_chunk::<16>() {
        let [l0, l1, l2, l3, t0, t1, _, _, s0, s1, s2, s3, ..] = *head;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let code = bytes.get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
        if let (ERROR, Some(code)) = (u16::from_ne_bytes([t0, t1]), code) {
            found.push((u32::from_ne_bytes([s0, s1, s2, s3]), code));
        }
        match bytes.split_at_checked(length.next_multiple_of(4)) {
            Some((_, rest)) if length >= 16 => bytes = rest,
            _ => break,
        }
    }
    found
}
