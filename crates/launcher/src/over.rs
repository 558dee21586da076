//! Mounts something in the stead of what a container has at a place already, and leaves what is mounted below: a hook of
//! the container's own, in its mount namespace, before it enters its root.
#![expect(unsafe_code, reason = "each function is a system call")]

use std::error::Error;
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use crate::lean::{Place, attach, check, copy, text};

/// What hooks are told: where, what, and how.
///
/// # Errors
/// When it cannot be mounted.
pub fn run(mut words: impl Iterator<Item = String>) -> Result<(), Box<dyn Error>> {
    let (Some(target), Some(source)) = (words.next(), words.next()) else {
        return Err("the launcher is to be told where to mount what".into());
    };
    let options: Vec<String> = words.collect();
    let has = |option: &str| options.iter().any(|given| given == option);
    let target = Path::new(&target);
    let below = below(&std::fs::read_to_string("/proc/self/mountinfo")?, target);
    let trees = below.iter().map(copy).collect::<io::Result<Vec<_>>>()?;
    detach(target)?;
    bind(Path::new(&source), target)?;
    if has("rshared") {
        // What were mounted below would come to be on the machine.
        propagate(target, libc::MS_SHARED)?;
    } else {
        propagate(target, if has("rslave") { libc::MS_SLAVE } else { libc::MS_PRIVATE })?;
        for (place, tree) in below.iter().zip(&trees).filter(|(place, _)| place.path.exists()) {
            attach(tree, &place.path)?;
        }
    }
    if has("ro") || has("rro") {
        make_read_only(target, has("rro"))?;
    }
    Ok(())
}

/// The uppermost mounts below a place.
fn below(mountinfo: &str, target: &Path) -> Vec<Place> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut inner: Vec<PathBuf> =
        points.filter(|point| point.starts_with(target) && point.as_path() != target).collect();
    inner.sort();
    inner.dedup_by(|next, kept| next.starts_with(&*kept));
    inner.into_iter().map(|path| Place { path, whole: true }).collect()
}

fn detach(target: &Path) -> io::Result<()> {
    let target = text(target)?;
    // SAFETY: the path ends with a NUL.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }.into()).map(drop)
}

fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let (source, target) = (text(source)?, text(target)?);
    let (flags, nothing) = (libc::MS_BIND | libc::MS_REC, std::ptr::null());
    // SAFETY: both paths end with a NUL; a bind has neither type nor data.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), nothing, flags, nothing.cast()) }.into())
        .map(drop)
}

fn propagate(target: &Path, how: libc::c_ulong) -> io::Result<()> {
    let target: CString = text(target)?;
    let nothing = std::ptr::null();
    // SAFETY: the path ends with a NUL; the other pointers may be null where only the propagation changes.
    check(
        unsafe { libc::mount(nothing, target.as_ptr(), nothing, how | libc::MS_REC, nothing.cast()) }.into(),
    )
    .map(drop)
}

fn make_read_only(target: &Path, whole: bool) -> io::Result<()> {
    let target = text(target)?;
    // SAFETY: all of it are numbers.
    let mut wanted: libc::mount_attr = unsafe { std::mem::zeroed() };
    wanted.attr_set = libc::MOUNT_ATTR_RDONLY;
    let flags = if whole { libc::AT_RECURSIVE } else { 0 };
    let size = std::mem::size_of::<libc::mount_attr>();
    // SAFETY: the path ends with a NUL, and the structure is as large as is said.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
            &raw const wanted,
            size,
        )
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_mounts_below_a_place_come_along() {
        let line = |at: &str| format!("1 2 0:3 / {at} rw - tmpfs tmpfs rw\n");
        let info: String =
            ["/", "/r/dev", "/r/dev/pts", "/r/dev/shm", "/r/dev/shm/in", "/r/devices", "/r/dev/mqueue"]
                .map(line)
                .concat();
        let found: Vec<_> = below(&info, Path::new("/r/dev"))
            .into_iter()
            .map(|place| place.path.display().to_string())
            .collect();
        assert_eq!(found, ["/r/dev/mqueue", "/r/dev/pts", "/r/dev/shm"]);
    }
}
