//! Folders whose members have nothing to do with each other.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// What ext4 calls the top of a hierarchy (`FS_TOPDIR_FL`, `chattr +T`).
const TOP: libc::c_int = 0x0002_0000;

/// Tells a file system that what is in a folder is not related, so that it does not put it close together. One that has
/// nothing of the kind is none the worse for it.
///
/// ext4 puts a new file where its folder is, and looks there at every file that was removed in the last minutes, for it
/// does not use their places again yet: where hundreds of pods have come and gone, each new file of a pod costs a look at
/// all those of the others.
pub fn spread(folder: &Path) {
    match mark(folder) {
        Ok(()) => {}
        // Most file systems know of no such thing.
        Err(error) => tracing::debug!(folder = %folder.display(), %error, "a folder is not spread"),
    }
}

fn mark(folder: &Path) -> io::Result<()> {
    let folder = File::open(folder)?;
    let mut flags: libc::c_int = 0;
    // SAFETY: the ioctl writes one int, whatever size its number says.
    #[expect(unsafe_code, reason = "the flags of a file have no safe interface")]
    let got = unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) };
    nix::errno::Errno::result(got)?;
    if flags & TOP != 0 {
        return Ok(());
    }
    flags |= TOP;
    // SAFETY: the ioctl reads one int.
    #[expect(unsafe_code, reason = "likewise")]
    let set = unsafe { libc::ioctl(folder.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) };
    nix::errno::Errno::result(set)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_marked_where_there_is_such_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        spread(folder.path());
        // Twice is no error, and neither is a folder that is not there.
        let again = mark(folder.path());
        let known = [libc::ENOTTY, libc::EOPNOTSUPP, libc::EINVAL, libc::EPERM];
        assert!(
            again.as_ref().err().is_none_or(|error| known.contains(&error.raw_os_error().unwrap_or(0))),
            "{again:?}"
        );
        spread(Path::new("/nowhere"));
        assert!(mark(Path::new("/nowhere")).is_err());
        if nix::sys::statfs::statfs(folder.path()).unwrap().filesystem_type()
            == nix::sys::statfs::EXT4_SUPER_MAGIC
        {
            let listed = std::process::Command::new("lsattr").arg("-d").arg(folder.path()).output();
            let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            assert!(
                listed.as_ref().map_or(true, |text| text.split(' ').next().unwrap_or_default().contains('T')),
                "{listed:?}"
            );
        }
    }
}
