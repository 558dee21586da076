//! Looking into a container's root file system without being led out of it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fchown, fchownat};

fn open(root: &OwnedFd, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    Ok(openat2(root, path, how)?)
}

/// A text file; empty when the image has none.
pub fn read(root: &Path, path: &str) -> io::Result<String> {
    const LARGEST: u64 = 8 << 20;
    let root: OwnedFd = File::open(root)?.into();
    let file = match open(&root, Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Ok(file) => File::from(file),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(String::new());
        }
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where something is, with every link on the way followed as the container would.
pub fn find(root: &Path, path: &str) -> io::Result<PathBuf> {
    let root: OwnedFd = File::open(root)?.into();
    let found = open(&root, Path::new(path), OFlag::O_PATH)?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()))
}

/// Makes a folder and those above it, where they are missing. They are root's, or of the user and group given.
pub fn make_folder(root: &Path, path: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    let root: OwnedFd = File::open(root)?.into();
    make(&root, Path::new(path), owner).map(drop)
}

fn make(root: &OwnedFd, path: &Path, owner: Option<(u32, u32)>) -> io::Result<OwnedFd> {
    const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);
    match open(root, path, FOLDER) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
            let parent = make(root, parent, owner)?;
            let made = match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => true,
                Err(nix::Error::EEXIST) => false,
                Err(error) => return Err(error.into()),
            };
            let folder = open(root, path, FOLDER)?;
            if let (true, Some((uid, gid))) = (made, owner) {
                fchownat(&folder, "", Some(uid.into()), Some(gid.into()), AtFlags::AT_EMPTY_PATH)?;
            }
            Ok(folder)
        }
        other => other,
    }
}

/// Makes what is missing of the places that are mounted over: `(place, whether a file is)`.
///
/// Whoever mounts makes them too, but from within the container's cgroup: the pages of the folders' file system are
/// charged to it then, and one that is left in the cache keeps the memory cgroup of a container that is gone. What
/// cannot be made is left to whoever mounts, who says why.
pub fn make_places<'a>(
    root: &Path,
    places: impl IntoIterator<Item = (&'a Path, bool)>,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let root: OwnedFd = File::open(root)?.into();
    for (place, is_file) in places {
        let made = if is_file { make_file(&root, place, owner) } else { make(&root, place, owner).map(drop) };
        if let Err(error) = made {
            tracing::debug!(place = %place.display(), %error, "left to be made when it is mounted over");
        }
    }
    Ok(())
}

fn make_file(root: &OwnedFd, path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    match open(root, path, OFlag::O_PATH) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
            let parent = make(root, parent, owner)?;
            // A link that leads nowhere is in the way.
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
            let file = openat(&parent, name, flags, Mode::from_bits_truncate(0o644))?;
            let (uid, gid) = owner.unzip();
            Ok(fchown(&file, uid.map(Into::into), gid.map(Into::into))?)
        }
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_made_where_nothing_is_and_never_outside() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| root.path().join(path);
        std::fs::create_dir(at("etc")).unwrap();
        std::fs::write(at("etc/hosts"), "kept").unwrap();
        std::os::unix::fs::symlink("nowhere", at("etc/resolv.conf")).unwrap();
        std::os::unix::fs::symlink(outside.path(), at("out")).unwrap();
        let places = ["/proc", "/a/b", "/out/c", "/etc/hosts/d"].map(|place| (Path::new(place), false));
        let files = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/new/file"];
        make_places(root.path(), places.into_iter().chain(files.map(|file| (Path::new(file), true))), None)
            .unwrap();
        assert!(at("proc").is_dir() && at("a/b").is_dir() && at("new/file").is_file());
        assert_eq!(std::fs::read_to_string(at("etc/hosts")).unwrap(), "kept");
        assert_eq!(std::fs::read_to_string(at("etc/hostname")).unwrap(), "");
        assert!(!at("etc/nowhere").exists());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_cannot_lead_out() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname-of-the-image", root.path().join("etc/passwd")).unwrap();
        assert_eq!(read(root.path(), "/etc/passwd").unwrap(), "");
        std::fs::write(root.path().join("etc/hostname-of-the-image"), "inside").unwrap();
        assert_eq!(read(root.path(), "/etc/passwd").unwrap(), "inside");
        assert_eq!(read(root.path(), "/none").unwrap(), "");
        std::os::unix::fs::symlink("/../../up", root.path().join("up")).unwrap();
        let inside = find(root.path(), "etc/passwd").unwrap();
        assert_eq!(inside, root.path().canonicalize().unwrap().join("etc/hostname-of-the-image"));
        assert!(find(root.path(), "../../none").is_err());
        make_folder(root.path(), "/a/b/c", None).unwrap();
        assert!(root.path().join("a/b/c").is_dir());
    }
}
