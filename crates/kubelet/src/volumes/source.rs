//! Directories that are there already: host paths, and volumes that point at such.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::{Cause, absent_is_fine};

/// Makes what may be made, and checks what has to be there.
pub fn check_host_path(host: &HostPathVolumeSource) -> Result<(), Cause> {
    let path = Path::new(&host.path);
    let kind = fs::metadata(path).map(|metadata| metadata.file_type());
    let is = |wanted: &'static str, check: fn(&fs::FileType) -> bool| match kind.as_ref() {
        Ok(kind) if check(kind) => Ok(()),
        kind => Err(wrong(host.path.clone(), wanted, kind)),
    };
    match host.type_.as_deref().unwrap_or_default() {
        "DirectoryOrCreate" if kind.is_err() => make_folder(path),
        "FileOrCreate" if kind.is_err() => {
            fs::File::create(path).map(drop).map_err(|error| unmade("open", path, &error))
        }
        "Directory" | "DirectoryOrCreate" => is("directory", fs::FileType::is_dir),
        "File" | "FileOrCreate" => is("file", fs::FileType::is_file),
        "Socket" => is("socket file", fs::FileType::is_socket),
        "CharDevice" => is("character device", fs::FileType::is_char_device),
        "BlockDevice" => is("block device", fs::FileType::is_block_device),
        // As with Docker, a path that is not there becomes a directory.
        _ if kind.is_err() => make_folder(path),
        _ => Ok(()),
    }
}

/// What something is, if it is not what was wanted.
fn wrong(path: String, wanted: &'static str, kind: Result<&fs::FileType, &io::Error>) -> Cause {
    let found = match kind {
        Ok(kind) if kind.is_dir() => Ok("Directory"),
        Ok(kind) if kind.is_file() => Ok("File"),
        Ok(kind) if kind.is_socket() => Ok("Socket"),
        Ok(kind) if kind.is_char_device() => Ok("CharDevice"),
        Ok(kind) if kind.is_block_device() => Ok("BlockDevice"),
        Ok(_) => Err("only recognise file, directory, socket, block device and character device".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(format!("path {path:?} does not exist")),
        Err(error) => Err(error.to_string()),
    };
    match found {
        Ok(found) => Cause::HostPath { path, wanted, found },
        Err(why) => Cause::HostPathUnknown { path, wanted, why },
    }
}

fn make_folder(path: &Path) -> Result<(), Cause> {
    fs::create_dir_all(path).map_err(|error| {
        let parts: Vec<&Path> = path.ancestors().collect();
        let at = parts.into_iter().rev().find(|part| !part.is_dir()).unwrap_or(path);
        unmade("mkdir", at, &error)
    })
}

/// What could not be made, in the words of Go's library.
fn unmade(call: &'static str, path: &Path, error: &io::Error) -> Cause {
    let why = match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    };
    Cause::Unmade { call, path: path.display().to_string(), why }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_path_is_not_is_told_in_upstreams_words() {
        let dir = tempfile::tempdir().unwrap();
        let (file, folder) = (dir.path().join("file"), dir.path().join("folder"));
        fs::write(&file, "").unwrap();
        fs::create_dir(&folder).unwrap();
        let told = |path: &Path, kind: &str| {
            let path = path.display().to_string();
            let host = HostPathVolumeSource { path, type_: Some(kind.to_owned()) };
            check_host_path(&host).err().map(|cause| cause.to_string())
        };
        let failed = |path: &Path, why: &str| {
            let found = if path == folder { "Directory" } else { "File" };
            Some(format!("hostPath type check failed: {} is not a {why}, it's a {found}", path.display()))
        };
        for (path, kind, why) in [
            (&folder, "File", "file"),
            (&folder, "FileOrCreate", "file"),
            (&file, "Directory", "directory"),
            (&file, "DirectoryOrCreate", "directory"),
            (&file, "Socket", "socket file"),
            (&file, "CharDevice", "character device"),
            (&file, "BlockDevice", "block device"),
        ] {
            assert_eq!(told(path, kind), failed(path, why), "{kind}");
        }
        let why = told(&dir.path().join("none"), "Directory").unwrap();
        let end = "is not a directory, unable to determine its type: path ";
        assert!(why.starts_with("hostPath type check failed, ") && why.contains(end), "{why}");
        let absent = dir.path().join("absent/file");
        let why = format!("open {}: no such file or directory", absent.display());
        assert_eq!(told(&absent, "FileOrCreate"), Some(why));
        let why = format!("mkdir {}: not a directory", file.display());
        assert_eq!(told(&file.join("a/b"), "DirectoryOrCreate"), Some(why));
        assert_eq!(told(&folder.join("new"), "FileOrCreate"), None);
        assert!(folder.join("new").is_file());
    }
}
