//! Directories that are there already: host paths, and volumes that point at such.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::{Cause, absent_is_fine};

/// Makes what may be made, and checks what has to be there.
pub fn check_host_path(host: &HostPathVolumeSource) -> Result<(), Cause> {
    let path = Path::new(&host.path);
    let wrong = |wanted| Cause::HostPath { path: host.path.clone(), wanted };
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    let is = |wanted: &'static str, check: fn(&fs::FileType) -> bool| {
        if kind.as_ref().is_ok_and(check) { Ok(()) } else { Err(wrong(wanted)) }
    };
    match host.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" if kind.is_err() => fs::create_dir_all(path).map_err(Cause::io(path)),
        "FileOrCreate" if kind.is_err() => fs::File::create(path).map(drop).map_err(Cause::io(path)),
        "Directory" | "DirectoryOrCreate" => is("directory", fs::FileType::is_dir),
        "File" | "FileOrCreate" => is("file", fs::FileType::is_file),
        "Socket" => is("socket", fs::FileType::is_socket),
        "CharDevice" => is("character device", fs::FileType::is_char_device),
        "BlockDevice" => is("block device", fs::FileType::is_block_device),
        // As with Docker, a path that is not there becomes a directory.
        _ if kind.is_err() => fs::create_dir_all(path).map_err(Cause::io(path)),
        _ => Ok(()),
    }
}

/// A container's device has to be one.
pub fn check_block(path: &Path) -> Result<(), Cause> {
    let metadata = fs::metadata(path).map_err(Cause::io(path))?;
    if metadata.file_type().is_block_device() {
        return Ok(());
    }
    Err(Cause::NotBlock(path.display().to_string()))
}

/// Remembers where a claimed volume is.
pub fn link(target: &Path, link: &Path) -> Result<(), Cause> {
    if fs::read_link(link).is_ok_and(|known| known == target) {
        return Ok(());
    }
    if let Some(parent) = link.parent() {
        fs::create_dir_all(parent).map_err(Cause::io(parent))?;
    }
    absent_is_fine(fs::remove_file(link)).map_err(Cause::io(link))?;
    std::os::unix::fs::symlink(target, link).map_err(Cause::io(link))
}
