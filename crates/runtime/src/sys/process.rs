//! Knowing a process again: a pid alone may be somebody else's by now.
#![expect(unsafe_code, reason = "pidfds")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, for as long as the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number in our namespace.
    pub pid: i32,
    /// Clock ticks between the machine's start and its own.
    pub start_time: i64,
    /// Which start of the machine.
    pub boot: String,
}

/// This start of the machine.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The parent of a process; `None` when there is no such process any more.
pub fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, spaces and parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// When a process started; `None` when there is none of that number.
pub fn start_time(pid: i32) -> io::Result<Option<i64>> {
    let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace());
    let Some(mut fields) = fields else { return Err(io::Error::other("stat without a name")) };
    // A zombie is gone, for all that anybody can do with it.
    if fields.clone().next() == Some("Z") {
        return Ok(None);
    }
    fields
        .nth(19)
        .and_then(|field| field.parse().ok())
        .map(Some)
        .ok_or_else(|| io::Error::other("stat is too short"))
}

/// A handle that keeps meaning the same process.
pub struct PidFd(AsyncFd<OwnedFd>);

impl PidFd {
    /// Opens the process, if it is still there.
    pub fn open(process: &Process) -> io::Result<Option<Self>> {
        if process.boot != boot_id()? {
            return Ok(None);
        }
        // SAFETY: touches no memory.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) { Ok(None) } else { Err(error) };
        }
        // SAFETY: a new descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        // Opened first, compared second: now the number cannot change hands any more.
        if start_time(process.pid)? != Some(process.start_time) {
            return Ok(None);
        }
        Ok(Some(Self(super::pipe::watch(fd, Interest::READABLE)?)))
    }

    /// Returns once the process has ended.
    pub async fn ended(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }

    /// Sends a signal; false when the process has ended.
    pub fn signal(&self, signal: i32) -> io::Result<bool> {
        let fd = self.0.get_ref().as_raw_fd();
        // SAFETY: the null pointer stands for no siginfo.
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<()>(), 0) };
        if result == 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ESRCH) { Ok(false) } else { Err(error) }
    }

    /// The wait status of an ended process that is somebody else's child. The kernel tells it from
    /// 6.15 on, once the process has been reaped.
    pub fn wait_status(&self) -> Option<i32> {
        const PIDFD_INFO_EXIT: u64 = 1 << 3;
        const SIZE: usize = 64;
        #[repr(C)]
        struct Info {
            mask: u64,
            cgroup: u64,
            ids: [u32; 11],
            exit_code: i32,
        }
        const _: () = assert!(size_of::<Info>() == SIZE);
        // _IOWR(0xFF, 11, struct pidfd_info)
        const PIDFD_GET_INFO: u64 = 0xc000_0000 | (SIZE as u64) << 16 | 0xff << 8 | 11;
        let mut info = Info { mask: PIDFD_INFO_EXIT, cgroup: 0, ids: [0; 11], exit_code: 0 };
        // SAFETY: the ioctl writes at most the size that its number encodes.
        let result = unsafe { libc::ioctl(self.0.get_ref().as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
        (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
    }
}

/// A folder (or file) as a descriptor that only names it.
pub fn reopen(path: &Path) -> io::Result<OwnedFd> {
    Ok(File::options().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)?.into())
}

/// Capabilities that a process of ours can have at all, and whether it may lower OOM scores.
pub fn bounding_capabilities() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or_else(|| io::Error::other("/proc/self/status has no CapBnd"))
}

/// The OOM score that our children begin with.
pub fn oom_score_adj() -> io::Result<i64> {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj")?;
    text.trim().parse().map_err(|_| io::Error::other("/proc/self/oom_score_adj is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_is_known_again_and_another_of_its_number_is_not() {
        let pid = std::process::id() as i32;
        let me = Process { pid, start_time: start_time(pid).unwrap().unwrap(), boot: boot_id().unwrap() };
        assert!(PidFd::open(&me).unwrap().unwrap().signal(0).unwrap());
        assert!(PidFd::open(&Process { start_time: 1, ..me.clone() }).unwrap().is_none());
        assert!(PidFd::open(&Process { boot: "another".into(), ..me }).unwrap().is_none());
        assert_eq!(start_time(i32::MAX).unwrap(), None);
    }
}
