//! Files in which a kubelet keeps what it may not forget: written whole or not at all, and with upstream's checksum,
//! so that an upstream kubelet can take them over and give them back.
//!
//! Upstream sums what Go's `spew` prints of the value (`%#v`): type names of Go are part of the format, and whoever
//! has such a file writes that text.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base::failpoint;

/// Why a file tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("writing {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no such file.
    #[error("{} is no checkpoint: {source}", path.display())]
    Decode {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Somebody changed it, or a disk did.
    #[error("checkpoint {} is corrupt: its checksum is {found}, and {expected} is written in it", path.display())]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// Of what is in it.
        found: u64,
        /// As it stands in it.
        expected: u64,
    },
}

/// Reads a file; `None` when there is none.
///
/// # Errors
/// [`CheckpointError::Read`] and [`CheckpointError::Decode`].
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(CheckpointError::Read { path: path.to_owned(), source }),
    };
    let value = serde_json::from_slice(&text);
    value.map(Some).map_err(|source| CheckpointError::Decode { path: path.to_owned(), source })
}

/// What has upstream's checksum in it.
pub trait Summed: serde::Serialize + serde::de::DeserializeOwned {
    /// What `spew` prints of it, its checksum as 0.
    fn dumped(&self) -> String;

    /// Where its checksum stands.
    fn sum(&mut self) -> &mut u64;

    /// Takes it for one of the other format that such a file can have, if there is one that can say as much.
    fn other_format(&mut self) -> bool {
        false
    }
}

/// Reads a file with a checksum; `None` when there is none.
///
/// # Errors
/// All but [`CheckpointError::Write`].
pub fn read_summed<T: Summed>(path: &Path) -> Result<Option<T>, CheckpointError> {
    let Some(mut file) = read::<T>(path)? else { return Ok(None) };
    let expected = *file.sum();
    let first = verify(path, expected, &file.dumped());
    if first.is_err() && file.other_format() && verify(path, expected, &file.dumped()).is_ok() {
        return Ok(Some(file));
    }
    first.map(|()| Some(file))
}

/// Writes a file with its checksum.
///
/// # Errors
/// [`CheckpointError::Write`].
pub fn write_summed<T: Summed>(path: &Path, mut file: T) -> Result<(), CheckpointError> {
    let dumped = file.dumped();
    *file.sum() = checksum(&dumped);
    write(path, &file)
}

/// Compares the checksum that stands in a file with that of what is in it; none (0) is accepted, as upstream does.
///
/// # Errors
/// [`CheckpointError::Corrupt`].
pub fn verify(path: &Path, expected: u64, dumped: &str) -> Result<(), CheckpointError> {
    let found = checksum(dumped);
    if expected == 0 || expected == found {
        return Ok(());
    }
    Err(CheckpointError::Corrupt { path: path.to_owned(), found, expected })
}

/// Writes a file: after it returns, it survives a loss of power; until then the old one does.
///
/// # Errors
/// [`CheckpointError::Write`].
pub fn write<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), CheckpointError> {
    let failed = |source| CheckpointError::Write { path: path.to_owned(), source };
    let text = serde_json::to_vec(value).map_err(|error| failed(error.into()))?;
    replace(path, &text).map_err(failed)
}

fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(text)?;
    file.sync_all()?;
    failpoint::hit("kubelet.checkpoint.written");
    fs::rename(&temporary, path)?;
    failpoint::hit("kubelet.checkpoint.replaced");
    File::open(folder)?.sync_all()
}

/// FNV-1a of 32 bits.
pub fn checksum(dumped: &str) -> u64 {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    u64::from(dumped.bytes().fold(0x811c_9dc5, step))
}

/// A list as `spew` prints it, without its type.
pub fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("[{}]", items.join(" "))
}

/// A map as `spew` prints it, without its type; its keys have to come in order.
pub fn map<K: Display, V: Display>(items: impl IntoIterator<Item = (K, V)>) -> String {
    let items: Vec<String> = items.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", items.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), None);
        write(&path, &[1, 2]).unwrap();
        write(&path, &[3]).unwrap();
        assert_eq!(read::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
        fs::write(&path, "{").unwrap();
        assert!(matches!(read::<Vec<u8>>(&path), Err(CheckpointError::Decode { .. })));
    }

    #[test]
    fn sums_are_those_of_fnv() {
        assert_eq!((checksum(""), checksum("foobar")), (0x811c_9dc5, 0xbf9c_f968));
        assert!(verify(Path::new("/x"), 0, "a").is_ok());
        assert!(matches!(verify(Path::new("/x"), 1, "a"), Err(CheckpointError::Corrupt { .. })));
    }
}
