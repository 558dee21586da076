//! Paths inside volumes, which a container may have filled with links that lead elsewhere, and may change while we
//! look: a path is opened without ever leaving the volume, and what was opened is bound to a place of our own.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use base::failpoint;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};

use super::Cause;

/// What of a mode says who may do what, which group new files have, and who may remove them.
const PERMISSIONS: u32 = 0o7777;

/// The most of a file that is read.
const ENV_FILE: u64 = 64 * 1024;

/// Opens `sub` inside `volume`; directories that are missing are made, and let in whoever the volume lets in.
///
/// # Errors
/// When the path leads out of its volume, or cannot be made.
pub fn resolve(volume: &Path, sub: &str) -> Result<OwnedFd, Cause> {
    let escapes = || Cause::Escapes(sub.to_owned());
    let failed = |errno: Errno| Cause::Io { path: volume.join(sub), source: errno.into() };
    if Path::new(sub).components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(escapes());
    }
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let root = open(volume, flags | OFlag::O_DIRECTORY, Mode::empty()).map_err(failed)?;
    let how = OpenHow::new()
        .flags(flags)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mode = Mode::from_bits_truncate(fstat(&root).map_err(failed)?.st_mode & PERMISSIONS);
    let mut at = PathBuf::new();
    let mut here = root.try_clone().map_err(|source| Cause::Io { path: volume.to_owned(), source })?;
    for part in Path::new(sub).components() {
        let Component::Normal(part) = part else { continue };
        at.push(part);
        here = match openat2(root.as_fd(), &at, how) {
            Err(Errno::ENOENT) => {
                // A link that leads nowhere is not followed by making what it names.
                mkdirat(here.as_fd(), part, mode).map_err(failed)?;
                // The process' mask does not count, as it does not for the volume.
                let made = openat2(here.as_fd(), part, how.flags(OFlag::O_DIRECTORY | OFlag::O_CLOEXEC));
                made.and_then(|made| fchmod(&made, mode)).map_err(failed)?;
                openat2(root.as_fd(), &at, how)
            }
            other => other,
        }
        .map_err(|errno| match errno {
            Errno::EXDEV | Errno::ELOOP => escapes(),
            errno => failed(errno),
        })?;
    }
    Ok(here)
}

/// The text of a file inside a directory that a container writes to; `None` when there is none.
///
/// # Errors
/// When it leads out of the directory, is no text, or cannot be read.
pub fn read_within(root: &Path, path: &str) -> Result<Option<String>, Cause> {
    let failed = |source| Cause::Io { path: root.join(path), source };
    let root_fd = open(root, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY, Mode::empty());
    let root_fd = root_fd.map_err(|errno| failed(errno.into()))?;
    // A pipe would hold its reader up for ever.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    match openat2(root_fd.as_fd(), path, how) {
        Ok(file) => std::io::read_to_string(std::io::Read::take(fs::File::from(file), ENV_FILE))
            .map(Some)
            .map_err(failed),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::EXDEV | Errno::ELOOP) => Err(Cause::Escapes(path.to_owned())),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// Binds what was [`resolve`]d to `target`, anew each time.
///
/// # Errors
/// When it cannot be bound.
pub fn bind(found: &OwnedFd, target: &Path) -> Result<PathBuf, Cause> {
    let failed = |errno: Errno| Cause::Io { path: target.to_owned(), source: errno.into() };
    let is_folder = fstat(found).map_err(failed)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    unbind(target).map_err(Cause::io(target))?;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).map_err(Cause::io(parent))?;
    }
    match is_folder {
        true => fs::create_dir(target),
        false => fs::File::create(target).map(drop),
    }
    .map_err(Cause::io(target))?;
    failpoint::hit("kubelet.volume.subpath_made");
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    nix::mount::mount(Some(source.as_str()), target, None::<&str>, flags, None::<&str>).map_err(failed)?;
    failpoint::hit("kubelet.volume.subpath_bound");
    Ok(target.to_owned())
}

/// Takes away what was bound. What is not there is no error.
pub fn unbind(target: &Path) -> std::io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(target) else { return Ok(()) };
    loop {
        match nix::mount::umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    match fs::symlink_metadata(target).unwrap_or(metadata).is_dir() {
        true => fs::remove_dir(target),
        false => fs::remove_file(target),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn directories_that_are_made_let_in_whoever_the_volume_lets_in() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for permissions in [0o777, 0o2770, 0o755, 0o3777] {
            let volume = dir.path().join(format!("{permissions:o}"));
            fs::create_dir(&volume).unwrap();
            fs::set_permissions(&volume, fs::Permissions::from_mode(permissions)).unwrap();
            resolve(&volume, "a/b").unwrap();
            assert_eq!([mode(&volume.join("a")), mode(&volume.join("a/b"))], [permissions; 2]);
            fs::set_permissions(volume.join("a"), fs::Permissions::from_mode(0o700)).unwrap();
            resolve(&volume, "a/b").unwrap();
            assert_eq!(mode(&volume.join("a")), 0o700, "what is there stays as it is");
        }
    }

    #[test]
    fn a_path_stays_in_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir_all(volume.join("a")).unwrap();
        std::os::unix::fs::symlink("/", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("a", volume.join("in")).unwrap();
        resolve(&volume, "in/b").unwrap();
        assert!(volume.join("a/b").is_dir(), "links inside are followed");
        for bad in ["out", "out/etc", "../x", "/etc", "a/../../x"] {
            assert!(matches!(resolve(&volume, bad), Err(Cause::Escapes(_))), "{bad}");
        }
    }
}
