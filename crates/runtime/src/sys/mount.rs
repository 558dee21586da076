//! Mounting and unmounting.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::process::reopen;

const NOTHING: Option<&str> = None;

/// Shows one file or folder at another place.
pub fn bind(from: &Path, to: &Path) -> io::Result<()> {
    Ok(mount(Some(from), to, NOTHING, MsFlags::MS_BIND, NOTHING)?)
}

/// A file system in memory.
pub fn tmpfs(at: &Path, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))?)
}

/// An overlay of `lower`, topmost first. Layers are named by descriptors, because the mount call
/// has room for a page of options and images have more layers than their paths would leave room for.
pub fn overlay(at: &Path, lower: &[&Path], upper: &Path, work: &Path) -> io::Result<()> {
    let open = lower.iter().map(|path| reopen(path)).collect::<io::Result<Vec<_>>>()?;
    let lower: Vec<String> = open.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let (upper, work) = (reopen(upper)?, reopen(work)?);
    let options = format!(
        "lowerdir={},upperdir=/proc/self/fd/{},workdir=/proc/self/fd/{},index=off",
        lower.join(":"),
        upper.as_raw_fd(),
        work.as_raw_fd()
    );
    Ok(mount(Some("overlay"), at, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?)
}

/// An overlay of `lower` alone, topmost first, which can only be read.
pub fn merged(at: &Path, lower: &[&Path]) -> io::Result<()> {
    let open = lower.iter().map(|path| reopen(path)).collect::<io::Result<Vec<_>>>()?;
    let lower: Vec<String> = open.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())).collect();
    let options = format!("lowerdir={}", lower.join(":"));
    Ok(mount(Some("overlay"), at, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))?)
}

/// Unmounts at once, whoever still uses it; nothing being mounted there is no error.
pub fn detach(at: &Path) -> io::Result<()> {
    match umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
