//! Reading what vendors' files say of devices.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::plan::cdi::Spec;

/// Every file below the folders, the one that counts most last. A file that cannot be understood is left out with
/// a warning: it may be another device's.
pub fn read(folders: &[PathBuf]) -> io::Result<Vec<Spec>> {
    let mut specs = Vec::new();
    for folder in folders {
        let mut files = match fs::read_dir(folder) {
            Ok(entries) => {
                entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        files.sort();
        for file in files {
            match parse(&file) {
                Ok(Some(spec)) => specs.push(spec),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "a file of devices is left out");
                }
            }
        }
    }
    Ok(specs)
}

fn parse(file: &Path) -> io::Result<Option<Spec>> {
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => serde_json::from_slice(&fs::read(file)?).map(Some).map_err(io::Error::other),
        Some("yaml" | "yml") => {
            serde_yaml_ng::from_slice(&fs::read(file)?).map(Some).map_err(io::Error::other)
        }
        _ => Ok(None),
    }
}
