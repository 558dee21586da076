//! Directories that live as long as their pod: on the disk, in memory, or of huge pages.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base::failpoint;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use nix::mount::MsFlags;
use schema::quantity::Quantity;

use super::{Cause, is_mount_point};
use crate::pods::spec::PodExt;
use crate::pods::{limits, page_size};

/// How a directory is to be.
#[derive(Debug, Clone, Copy)]
struct Access {
    mode: u32,
    group: Option<u32>,
}

impl Access {
    fn of(empty: &EmptyDirVolumeSource, pod: &Pod) -> Self {
        let fs_group = pod.security().and_then(|security| security.fs_group);
        // A new tmpfs has the mode of `/tmp`.
        let usual = if empty.medium.as_deref() == Some("Memory") { 0o1777 } else { 0o777 };
        let mode = empty.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(usual);
        Self {
            mode: if fs_group.is_some() { mode | 0o2070 } else { mode },
            group: fs_group.and_then(|group| u32::try_from(group).ok()),
        }
    }

    fn give(self, dir: &Path) -> io::Result<()> {
        if let Some(group) = self.group {
            std::os::unix::fs::chown(dir, None, Some(group))?;
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(self.mode))
    }

    /// The same as options of a mount.
    fn options(self) -> String {
        let group = self.group.map(|group| format!(",gid={group}")).unwrap_or_default();
        format!("mode={:o}{group}", self.mode)
    }
}

/// Makes one, unless it is there. It is there with its mode and its group or not at all: whoever finds it later cannot
/// tell what a container has made of them.
pub fn make(dir: &Path, empty: &EmptyDirVolumeSource, pod: &Pod) -> Result<(), Cause> {
    let access = Access::of(empty, pod);
    create(dir, access).map_err(Cause::io(dir))?;
    failpoint::hit("kubelet.volume.folder_made");
    let medium = empty.medium.as_deref().unwrap_or_default();
    let given = empty.size_limit.as_ref().and_then(|size| size.0.parse::<Quantity>().ok());
    match medium {
        "Memory" => in_memory(dir, size(given.map(|size| size.value()), pod), Some(&access.options()))?,
        medium if medium.starts_with("HugePages") => huge_pages(dir, medium, access, pod)?,
        _ => {}
    }
    failpoint::hit("kubelet.volume.mounted");
    Ok(())
}

fn create(dir: &Path, access: Access) -> io::Result<()> {
    let (Some(parent), Some(name), false) = (dir.parent(), dir.file_name(), dir.exists()) else {
        return Ok(());
    };
    fs::create_dir_all(parent)?;
    // No volume's name begins with a dot.
    let new = parent.join(format!(".{}", name.to_string_lossy()));
    super::absent_is_fine(fs::remove_dir(&new))?;
    fs::create_dir(&new)?;
    access.give(&new)?;
    failpoint::hit("kubelet.volume.folder_prepared");
    fs::rename(&new, dir)
}

/// The size of a volume in memory: what it says, and never more than the pod may use (KEP-1967).
fn size(given: Option<i64>, pod: &Pod) -> Option<i64> {
    let of_pod = limits(pod).memory.filter(|limit| *limit > 0);
    given.filter(|size| *size > 0).into_iter().chain(of_pod).min()
}

/// The sizes of a pod's volumes in memory that say one, in bytes, by name: as a file system of whole pages has them.
pub fn sizes(pod: &Pod) -> BTreeMap<String, u64> {
    let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let sizes = volumes.iter().filter_map(|volume| {
        let given = limit(volume)?.0.parse::<Quantity>().ok()?.value();
        let size = u64::try_from(size(Some(given), pod)?).ok()?;
        Some((volume.name.clone(), size.next_multiple_of(base::memory::page())))
    });
    sizes.collect()
}

/// What a volume in memory says of its size.
pub fn limit(volume: &Volume) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    let empty = volume.empty_dir.as_ref().filter(|empty| empty.medium.as_deref() == Some("Memory"))?;
    empty.size_limit.as_ref()
}

/// The size of a volume in memory, in bytes, and how much of it is used; none where nothing is mounted.
pub fn mounted(dir: &Path) -> io::Result<Option<(u64, u64)>> {
    if !dir.exists() || !is_mount_point(dir)? {
        return Ok(None);
    }
    let space = nix::sys::statvfs::statvfs(dir)?;
    let bytes = |blocks: u64| blocks * space.fragment_size();
    Ok(Some((bytes(space.blocks()), bytes(space.blocks() - space.blocks_free()))))
}

/// Gives a volume in memory another size, for all who have it mounted (KEP-6030).
pub fn resize(dir: &Path, size: u64) -> Result<(), Cause> {
    let remount = |more: &str| {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        nix::mount::mount(None::<&str>, dir, None::<&str>, flags, Some(format!("size={size}{more}").as_str()))
    };
    let failed = |errno: nix::errno::Errno| Cause::Io { path: dir.to_owned(), source: errno.into() };
    // One that is not swapped out stays so only if that is said again; the others are refused if it is said.
    match remount(",noswap").or_else(|_| remount("")) {
        Ok(()) => Ok(()),
        Err(errno) => match mounted(dir).map_err(Cause::io(dir))? {
            Some((_, used)) if used > size => Err(Cause::InUse { size, used }),
            _ => Err(failed(errno)),
        },
    }
}

/// `HugePages-2Mi`, or `HugePages` of the one size that the pod's containers use.
fn huge_pages(dir: &Path, medium: &str, access: Access, pod: &Pod) -> Result<(), Cause> {
    if is_mount_point(dir).map_err(Cause::io(dir))? {
        return Ok(());
    }
    let sizes: Vec<String> = limits(pod).hugepages.into_iter().map(|(size, _)| size).collect();
    let named = medium.strip_prefix("HugePages-").map(page_size);
    let size = match (named, sizes.as_slice()) {
        (Some(size), sizes) if sizes.contains(&size) => size,
        (None, [only]) => only.clone(),
        _ => return Err(Cause::HugePages(medium.to_owned())),
    };
    let options = format!("pagesize={},{}", size.trim_end_matches('B'), access.options());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("nodev"), dir, Some("hugetlbfs"), flags, Some(options.as_str()))
        .map_err(|errno| Cause::Io { path: dir.to_owned(), source: errno.into() })?;
    // A file system of huge pages takes no set-group-id bit as an option.
    access.give(dir).map_err(Cause::io(dir))
}

/// Mounts memory at a directory, once, with a mode and a group as options. It is not swapped out where the kernel can say
/// so (KEP-2400). Whoever may not mount goes without: files are on the disk then.
pub fn in_memory(dir: &Path, size: Option<i64>, access: Option<&str>) -> Result<(), Cause> {
    if is_mount_point(dir).map_err(Cause::io(dir))? {
        return Ok(());
    }
    let size_option = size.map(|size| format!("size={size}"));
    let options: Vec<&str> = size_option.as_deref().into_iter().chain(access).collect();
    let mount = |options: &[&str]| {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.join(",").as_str()))
    };
    let mounted = match mount(&[options.as_slice(), &["noswap"]].concat()) {
        // Before Linux 6.4, in a user namespace, and without any swap the option is unknown.
        Err(nix::errno::Errno::EINVAL) => mount(&options),
        other => other,
    };
    match mounted {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EPERM) if size.is_none() => {
            tracing::warn!(dir = %dir.display(), "memory may not be mounted here: secrets are written to the disk");
            Ok(())
        }
        Err(errno) => Err(Cause::Io { path: dir.to_owned(), source: errno.into() }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn mode(dir: &Path) -> u32 {
        fs::metadata(dir).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_directory_is_there_with_its_mode_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("empty-dir/a");
        let (empty, pod) = (EmptyDirVolumeSource::default(), Pod::default());
        // Left by a kubelet that died before it had given the mode.
        fs::create_dir_all(root.path().join("empty-dir/.a")).unwrap();
        make(&dir, &empty, &pod).unwrap();
        assert_eq!(mode(&dir), 0o777);
        // What a container makes of it stays.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        make(&dir, &empty, &pod).unwrap();
        assert_eq!(mode(&dir), 0o700);
        // Whoever removes it has it made anew for the next container.
        fs::remove_dir_all(&dir).unwrap();
        make(&dir, &empty, &pod).unwrap();
        assert_eq!((mode(&dir), fs::read_dir(&dir).unwrap().count()), (0o777, 0));
        assert_eq!(fs::read_dir(root.path().join("empty-dir")).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn memory_gets_another_size_unless_more_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        if in_memory(root.path(), Some(1 << 20), None).is_err() {
            eprintln!("skipped: nothing may be mounted here");
            return;
        }
        let size = || mounted(root.path()).unwrap().unwrap();
        fs::write(root.path().join("file"), vec![1; 600 << 10]).unwrap();
        let check = || {
            resize(root.path(), 2 << 20).unwrap();
            assert_eq!(size(), (2 << 20, 600 << 10));
            let refused = resize(root.path(), 512 << 10).unwrap_err().to_string();
            assert_eq!(refused, "attempting to set its size (524288) below current usage (614400)");
            resize(root.path(), 700 << 10).unwrap();
            assert_eq!(size().0, 700 << 10);
        };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check));
        nix::mount::umount(root.path()).unwrap();
        done.unwrap();
        assert_eq!(mounted(root.path()).unwrap(), None, "a folder of the disk has no size");
        assert_eq!(mounted(&root.path().join("none")).unwrap(), None);
    }

    #[test]
    fn memory_has_the_mode_of_a_new_tmpfs() {
        let of = |mode, fs_group| {
            let empty =
                EmptyDirVolumeSource { medium: Some("Memory".to_owned()), mode, ..Default::default() };
            let pod: Pod = serde_json::from_value(serde_json::json!({
                "metadata": {}, "spec": {"containers": [], "securityContext": {"fsGroup": fs_group}},
            }))
            .unwrap();
            Access::of(&empty, &pod).options()
        };
        assert_eq!(of(None, None), "mode=1777");
        assert_eq!(of(None, Some(5)), "mode=3777,gid=5");
        assert_eq!(of(Some(0o700), None), "mode=700");
    }
}
