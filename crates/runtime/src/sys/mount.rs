//! Mounting and unmounting.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};

use super::process::reopen;

const NOTHING: Option<&str> = None;
/// Of the other file system that is nowhere but in memory.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Shows one file or folder at another place.
pub fn bind(from: &Path, to: &Path) -> io::Result<()> {
    Ok(mount(Some(from), to, NOTHING, MsFlags::MS_BIND, NOTHING)?)
}

/// A file system in memory.
pub fn tmpfs(at: &Path, options: &str) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(options))?)
}

/// Puts a folder in memory that is empty and lies on a disk; whether it is in memory then. Several processes may do so at
/// once.
pub fn in_memory(folder: &Path) -> io::Result<bool> {
    let open = File::open(folder)?;
    // Held until it is decided: a second file system over the first would hide whoever works in that.
    let _lock =
        nix::fcntl::Flock::lock(open, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    let is_there = [TMPFS_MAGIC, RAMFS_MAGIC].contains(&statfs(folder)?.filesystem_type());
    if is_there || fs::read_dir(folder)?.next().is_some() {
        return Ok(is_there);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some("mode=755"))?;
    Ok(true)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_put_in_memory_once_and_only_if_it_is_empty() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root may mount");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("run");
        fs::create_dir(&folder).unwrap();
        // Nobody else sees what is mounted here, and nothing is left of it.
        super::super::namespace::on_thread(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
            mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
            if statfs(&folder)?.filesystem_type() == TMPFS_MAGIC {
                eprintln!("skipped: temporary folders are in memory here");
                return Ok(());
            }
            fs::write(folder.join("file"), "")?;
            assert!(!in_memory(&folder)?, "somebody works here");
            fs::remove_file(folder.join("file"))?;
            assert!(in_memory(&folder)?);
            fs::write(folder.join("file"), "")?;
            assert!(in_memory(&folder)?, "it is");
            assert!(folder.join("file").exists(), "once");
            detach(&folder)?;
            assert!(!folder.join("file").exists());
            Ok(())
        })
        .unwrap();
        assert!(in_memory(Path::new("/nowhere")).is_err());
    }
}
