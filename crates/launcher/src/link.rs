//! The socket to the shim, and the descriptors that it handed over.
#![expect(unsafe_code, reason = "descriptors that were inherited, and packets that carry descriptors")]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use crate::proto::{self, HEADER, Header, report};

/// What the shim's end expects to hear.
pub struct Link {
    socket: OwnedFd,
}

impl Link {
    /// The socket that the shim left open for this process.
    pub fn inherited() -> Self {
        // SAFETY: the shim opened this descriptor for us, and it is taken only here.
        Self { socket: unsafe { OwnedFd::from_raw_fd(proto::FD_REPORT) } }
    }

    /// What to run, as JSON.
    pub fn input(&self) -> io::Result<Vec<u8>> {
        // SAFETY: as above.
        let mut file = unsafe { File::from_raw_fd(proto::FD_INPUT) };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Stdin, stdout or stderr for the process (0 to 2); /dev/null where the shim gave none.
    pub fn stdio(&self, which: i32) -> io::Result<OwnedFd> {
        let number = proto::FD_STDIO + which;
        // SAFETY: F_GETFD has no other argument and touches no memory.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0 {
            // SAFETY: open, handed over by the shim, and each number is asked for once.
            return Ok(unsafe { OwnedFd::from_raw_fd(number) });
        }
        Ok(File::options().read(true).write(true).open("/dev/null")?.into())
    }

    /// Says that the process waits for its start, and waits until the shim has noted it.
    pub fn ready(&self, pid: i32, start_time: i64, terminal: Option<&OwnedFd>) -> io::Result<()> {
        let flags = if terminal.is_some() { proto::HAS_TTY } else { 0 };
        let header =
            Header { kind: report::READY, flags, a: i64::from(pid), b: start_time, ..Header::default() };
        send(self.socket.as_raw_fd(), &header.encode(), terminal.map(AsRawFd::as_raw_fd))?;
        let mut go = [0u8; 2];
        // SAFETY: `go` is as long as is said.
        match unsafe { libc::recv(self.socket.as_raw_fd(), go.as_mut_ptr().cast(), go.len(), 0) } {
            n if n > 0 => Ok(()),
            0 => Err(io::Error::other("the shim is gone")),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Says that there will be no process. Nobody is left to tell when this fails.
    pub fn failed(&self, text: &str) {
        let mut packet = Header { kind: report::FAILED, ..Header::default() }.encode().to_vec();
        packet.extend(text.bytes().take(proto::MAX_PACKET - HEADER));
        let _ = send(self.socket.as_raw_fd(), &packet, None);
    }
}

/// Rust ignores SIGPIPE and children inherit that; containers expect the default.
pub fn restore_sigpipe() {
    // SAFETY: no handler is installed, only the default.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Room for one descriptor's control message, aligned.
#[repr(C)]
struct Control {
    head: libc::cmsghdr,
    fd: RawFd,
    padding: i32,
}

/// Sends a packet and perhaps a descriptor.
pub fn send(socket: RawFd, bytes: &[u8], fd: Option<RawFd>) -> io::Result<()> {
    let mut iov = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control {
        head: libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + size_of::<RawFd>(),
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        fd: fd.unwrap_or(-1),
        padding: 0,
    };
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    if fd.is_some() {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = size_of::<Control>();
    }
    // SAFETY: everything that the message points to lives until the call returns.
    match unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) } {
        n if n >= 0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives the descriptor that a packet carries.
pub fn receive_fd(socket: RawFd) -> io::Result<OwnedFd> {
    let mut bytes = [0u8; 512];
    let mut iov = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zeroes is a valid cmsghdr.
    let mut control: Control = unsafe { std::mem::zeroed() };
    // SAFETY: all zeroes is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: everything that the message points to lives until the call returns.
    if unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if message.msg_controllen == 0 || control.head.cmsg_type != libc::SCM_RIGHTS {
        return Err(io::Error::other("the packet carries no descriptor"));
    }
    // SAFETY: the kernel just installed it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(control.fd) })
}

/// A process's start time in clock ticks since boot: field 22 of `stat` in its folder of `proc`.
pub fn start_time(proc: &Path, pid: i32) -> io::Result<i64> {
    parse_start_time(&std::fs::read_to_string(proc.join(pid.to_string()).join("stat"))?)
}

/// The name, field 2, is in parentheses and may itself hold spaces and parentheses.
pub fn parse_start_time(stat: &str) -> io::Result<i64> {
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other("the process's stat has no start time"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 9 9";
        assert_eq!(super::parse_start_time(stat).unwrap(), 4242);
        assert!(super::parse_start_time("7 (a) S 1").is_err());
    }
}
