//! A mount namespace with few mounts, from which containers are started.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::mount::detach;
use super::namespace::on_thread;

/// A namespace that lives as long as this.
#[derive(Debug)]
pub struct Lean(File);

impl Lean {
    /// Makes one that has the kernel's own file systems and those on which `needed` lie, and nothing else: no pod's
    /// mounts, and no disk that somebody may want to take away.
    pub fn new(needed: &[&Path]) -> io::Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS)?;
            let nothing: Option<&str> = None;
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
            // What is mounted below others comes after them.
            for point in superfluous(&table, needed).into_iter().rev() {
                detach(&point)?;
            }
            File::open("/proc/thread-self/ns/mnt").map(Self)
        })
    }

    /// Where another process finds it.
    pub fn path(&self) -> PathBuf {
        Path::new("/proc")
            .join(std::process::id().to_string())
            .join("fd")
            .join(self.0.as_raw_fd().to_string())
    }
}

/// The mount points that nobody needs to start a container.
fn superfluous(mountinfo: &str, needed: &[&Path]) -> Vec<PathBuf> {
    let is_needed = |point: &Path| {
        ["/proc", "/sys", "/dev"].iter().any(|kernel| point.starts_with(kernel))
            || needed.iter().any(|path| path.starts_with(point))
    };
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    points.filter(|point| !is_needed(point)).collect()
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(text: &str) -> PathBuf {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pods_and_others_have_is_superfluous() {
        let table = "1 0 254:0 / / rw - ext4 /dev/vda rw\n\
            2 1 0:5 / /dev rw - devtmpfs dev rw\n\
            3 2 0:6 / /dev/pts rw - devpts pts rw\n\
            4 1 0:20 / /run rw - tmpfs run rw\n\
            5 4 0:90 / /run/knarr/pods/a\\040b/rootfs rw - overlay overlay rw\n\
            6 1 8:1 / /mnt/stick rw - vfat /dev/sda1 rw\n\
            7 1 8:2 / /data rw - ext4 /dev/sdb rw\n";
        let needed = [Path::new("/run/knarr/pods"), Path::new("/data/knarr")];
        let expected = ["/run/knarr/pods/a b/rootfs", "/mnt/stick"].map(PathBuf::from);
        assert_eq!(superfluous(table, &needed), expected);
    }

    #[test]
    fn backslashes_that_are_none_stay() {
        assert_eq!(unescape("/a\\134b\\x"), Path::new("/a\\b\\x"));
    }
}
