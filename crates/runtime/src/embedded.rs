//! The two programs that this one carries, written out where they can be executed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

static SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim"));
static LAUNCHER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/launcher"));

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The parent of a pod's containers.
    pub shim: PathBuf,
    /// What starts a container.
    pub launcher: PathBuf,
}

impl Programs {
    /// Writes them under names that tell their content, so that an upgrade leaves running shims'
    /// files alone. Below the root, because run folders are often mounted without execution.
    pub fn write(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { shim: write(folder, "shim", SHIM)?, launcher: write(folder, "launcher", LAUNCHER)? })
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let digest = Sha256::digest(bytes);
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let path = folder.join(format!("{name}-{hash}"));
    if fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes.len() as u64) {
        return Ok(path);
    }
    let file = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(file.path(), bytes)?;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755))?;
    // Closed before it is executed: a program that is open for writing cannot be.
    file.into_temp_path().persist(&path).map_err(|e| e.error)?;
    Ok(path)
}
