//! Directories that live as long as their pod: on the disk, in memory, or of huge pages.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base::failpoint;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
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
