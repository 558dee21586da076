//! Starting from few mounts. A container gets a copy of every mount that its starter sees, and most of these are other
//! pods': to copy them for each container, and to take them away again, costs more than all else at its start. So what
//! the container is to see is taken along into a namespace that has little else.
#![expect(unsafe_code, reason = "each function is a system call")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What of `config.json` says where files come from.
#[derive(Deserialize)]
struct Spec {
    root: Root,
    #[serde(default)]
    mounts: Vec<Mount>,
    linux: Linux,
    #[serde(default)]
    hooks: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct Root {
    path: PathBuf,
}

#[derive(Deserialize)]
struct Mount {
    source: Option<PathBuf>,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    rootfs_propagation: Option<String>,
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    path: Option<PathBuf>,
}

/// A place that is to be the same in the other namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    pub path: PathBuf,
    /// With what is mounted below it.
    pub whole: bool,
}

/// Goes to the namespace behind `path`, with what the bundle's specification names. Where a container is to see mounts
/// that come later, or an old kernel has no calls for this, the starter stays where it is: that is only slower.
pub fn enter(path: &Path, bundle: &Path) {
    if let Some(places) =
        std::fs::read(bundle.join("config.json")).ok().and_then(|spec| places(&spec, bundle))
    {
        let _ = go(path, &places);
    }
}

/// What has to be taken along, the uppermost first; `None` where that is not all that the container is to see.
fn places(spec: &[u8], bundle: &Path) -> Option<Vec<Place>> {
    let spec: Spec = serde_json::from_slice(spec).ok()?;
    let follows = |option: &String| matches!(option.as_str(), "shared" | "rshared" | "slave" | "rslave");
    let hooked = spec.hooks.is_some_and(|hooks| !hooks.is_empty());
    // Hooks are to see what their writers see.
    if hooked || spec.linux.rootfs_propagation.as_ref().is_some_and(follows) {
        return None;
    }
    let mut places = vec![Place { path: bundle.join(spec.root.path), whole: false }];
    for Mount { source, options } in spec.mounts {
        let whole = options.iter().any(|option| option == "rbind");
        let bound = whole || options.iter().any(|option| option == "bind");
        let Some(path) = source.filter(|_| bound) else { continue };
        // The kernel's own file systems are there, too.
        if path.starts_with("/sys/fs/cgroup") {
            continue;
        }
        // What lies above the bundle would hide it there.
        if options.iter().any(follows) || !path.is_absolute() || bundle.starts_with(&path) {
            return None;
        }
        places.push(Place { path, whole });
    }
    // Those that are pinned are mounts, too.
    let pinned = spec.linux.namespaces.into_iter().filter_map(|namespace| namespace.path);
    let pinned = pinned.filter(|path| !path.starts_with("/proc"));
    places.extend(pinned.map(|path| Place { path, whole: false }));
    places.sort_by(|one, other| {
        let depths = [one, other].map(|place| place.path.components().count());
        depths[0].cmp(&depths[1]).then_with(|| one.path.cmp(&other.path))
    });
    // What a container sees at several places needs to come along once.
    places.dedup_by(|next, kept| {
        let is_same = next.path == kept.path;
        kept.whole |= is_same && next.whole;
        is_same
    });
    Some(places)
}

fn go(namespace: &Path, places: &[Place]) -> io::Result<()> {
    let here = File::open("/proc/self/ns/mnt")?;
    let there = File::open(namespace)?;
    let trees = places.iter().map(copy).collect::<io::Result<Vec<_>>>()?;
    join(&there)?;
    let attached = unshare().and_then(|()| {
        let mut both = places.iter().zip(&trees);
        both.try_for_each(|(place, tree)| {
            attach(tree, &place.path).and_then(|()| keep_to_itself(&place.path))
        })
    });
    if attached.is_err() {
        join(&here)?;
    }
    attached
}

pub fn check(result: i64) -> io::Result<i64> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

pub fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// A copy of what is seen at a place, mounted nowhere yet.
pub fn copy(place: &Place) -> io::Result<OwnedFd> {
    let path = text(&place.path)?;
    // Nothing is mounted below a file, but to look for it takes time.
    let recursive = if place.whole && !place.path.is_file() { libc::AT_RECURSIVE as libc::c_uint } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursive;
    // SAFETY: the path ends with a NUL.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

pub fn attach(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    let at = text(at)?;
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_SYMLINKS;
    // SAFETY: both paths end with a NUL.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            flags,
        )
    })
    .map(drop)
}

/// A copy of what is shared is shared with it: what were mounted on the one would come to be on the other, too, and
/// would stay there on the machine.
fn keep_to_itself(path: &Path) -> io::Result<()> {
    let path = text(path)?;
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let nothing = std::ptr::null();
    // SAFETY: the path ends with a NUL; the other pointers may be null where only the propagation changes.
    check(unsafe { libc::mount(nothing, path.as_ptr(), nothing, flags, nothing.cast()) }.into()).map(drop)
}

fn join(namespace: &File) -> io::Result<()> {
    // SAFETY: touches no memory; this process has one thread.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }.into()).map(drop)
}

fn unshare() -> io::Result<()> {
    // SAFETY: touches no memory; this process has one thread.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(spec: &str) -> Option<Vec<(String, bool)>> {
        let places = places(spec.as_bytes(), Path::new("/run/pods/one"))?;
        Some(places.into_iter().map(|place| (place.path.display().to_string(), place.whole)).collect())
    }

    #[test]
    fn the_root_and_what_is_bound_come_along() {
        let spec = r#"{"root": {"path": "rootfs"}, "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/b", "source": "/data/deep/er/b", "options": ["rbind", "rprivate"]},
            {"destination": "/a", "source": "/data/a", "options": ["bind", "ro"]},
            {"destination": "/d", "source": "/sys/fs/cgroup/cpu/c", "options": ["rbind", "ro"]},
            {"destination": "/c", "source": "/data/deep/er/b", "options": ["bind"]}],
            "linux": {"rootfsPropagation": "rprivate", "namespaces": [
            {"type": "mount"}, {"type": "pid", "path": "/proc/7/ns/pid"}, {"type": "network", "path": "/run/net"}]}}"#;
        let expected = [
            ("/data/a", false),
            ("/run/net", false),
            ("/data/deep/er/b", true),
            ("/run/pods/one/rootfs", false),
        ];
        let expected = expected.map(|(path, whole)| (path.to_owned(), whole));
        assert_eq!(asked(spec).unwrap(), expected);
    }

    #[test]
    fn whoever_is_to_see_later_mounts_stays() {
        let spec = |propagation: &str, option: &str, source: &str| {
            format!(
                r#"{{"root": {{"path": "/r"}}, "linux": {{"rootfsPropagation": "{propagation}"}},
                "mounts": [{{"source": "{source}", "options": ["rbind", "{option}"]}}]}}"#
            )
        };
        assert!(asked(&spec("private", "rprivate", "/data")).is_some());
        assert!(asked(&spec("shared", "rprivate", "/data")).is_none());
        assert!(asked(&spec("private", "rslave", "/data")).is_none());
        assert!(asked(&spec("private", "rprivate", "/")).is_none());
        assert!(asked(&spec("private", "rprivate", "/run/pods")).is_none());
    }
}
