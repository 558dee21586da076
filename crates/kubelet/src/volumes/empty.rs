//! Directories that live as long as their pod: on the disk, in memory, or of huge pages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};
use nix::mount::MsFlags;
use schema::quantity::Quantity;

use super::{Cause, is_mount_point};
use crate::pods::spec::PodExt;
use crate::pods::{limits, page_size};

/// Makes one, unless it is there.
pub fn make(dir: &Path, empty: &EmptyDirVolumeSource, pod: &Pod) -> Result<(), Cause> {
    let fs_group = pod.security().and_then(|security| security.fs_group);
    let is_new = !dir.exists();
    fs::create_dir_all(dir).map_err(Cause::io(dir))?;
    let medium = empty.medium.as_deref().unwrap_or_default();
    let mounted = is_mount_point(dir).map_err(Cause::io(dir))?;
    let given = empty.size_limit.as_ref().and_then(|size| size.0.parse::<Quantity>().ok());
    match medium {
        "Memory" => in_memory(dir, size(given.map(|size| size.value()), pod))?,
        medium if medium.starts_with("HugePages") && !mounted => huge_pages(dir, medium, pod)?,
        _ => {}
    }
    if is_new || !medium.is_empty() && !mounted {
        let mode = empty.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o777);
        let mode = if fs_group.is_some() { mode | 0o2070 } else { mode };
        if let Some(group) = fs_group.and_then(|group| u32::try_from(group).ok()) {
            std::os::unix::fs::chown(dir, None, Some(group)).map_err(Cause::io(dir))?;
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(Cause::io(dir))?;
    }
    Ok(())
}

/// The size of a volume in memory: what it says, and never more than the pod may use (KEP-1967).
fn size(given: Option<i64>, pod: &Pod) -> Option<i64> {
    let of_pod = limits(pod).memory.filter(|limit| *limit > 0);
    given.filter(|size| *size > 0).into_iter().chain(of_pod).min()
}

/// `HugePages-2Mi`, or `HugePages` of the one size that the pod's containers use.
fn huge_pages(dir: &Path, medium: &str, pod: &Pod) -> Result<(), Cause> {
    let sizes: Vec<String> = limits(pod).hugepages.into_iter().map(|(size, _)| size).collect();
    let named = medium.strip_prefix("HugePages-").map(page_size);
    let size = match (named, sizes.as_slice()) {
        (Some(size), sizes) if sizes.contains(&size) => size,
        (None, [only]) => only.clone(),
        _ => return Err(Cause::HugePages(medium.to_owned())),
    };
    let options = format!("pagesize={}", size.trim_end_matches('B'));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    nix::mount::mount(Some("nodev"), dir, Some("hugetlbfs"), flags, Some(options.as_str()))
        .map_err(|errno| Cause::Io { path: dir.to_owned(), source: errno.into() })
}

/// Mounts memory at a directory, once. Whoever may not mount goes without: files are on the disk then.
pub fn in_memory(dir: &Path, size: Option<i64>) -> Result<(), Cause> {
    if is_mount_point(dir).map_err(Cause::io(dir))? {
        return Ok(());
    }
    let options = size.map(|size| format!("size={size}"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match nix::mount::mount(Some("tmpfs"), dir, Some("tmpfs"), flags, options.as_deref()) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EPERM) if size.is_none() => {
            tracing::warn!(dir = %dir.display(), "memory may not be mounted here: secrets are written to the disk");
            Ok(())
        }
        Err(errno) => Err(Cause::Io { path: dir.to_owned(), source: errno.into() }),
    }
}
