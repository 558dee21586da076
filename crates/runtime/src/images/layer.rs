//! One layer: from a tar stream, compressed or not, to a folder that an overlay can use.
//!
//! A layer that has others below it is unpacked through an overlay of them, so that the kernel
//! makes whiteouts and opaque folders, copies up what a hard link or a bare file in an old folder
//! needs, and resolves links as the finished image will.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base::failpoint;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use super::ImageError;
use super::apply::apply;
use super::decompress::{Decompressing, Hashing};
use crate::sys::mount;

/// What a layer is and what it must be.
pub struct Layer<'a> {
    /// What messages call it.
    pub name: &'a str,
    /// Its digest as it is transported, where that is still to be checked.
    pub digest: Option<&'a str>,
    /// Its digest once decompressed.
    pub diff: &'a str,
    /// Its name here.
    pub chain: &'a str,
    /// The chain ids of those below it, the lowest first.
    pub below: &'a [String],
}

const UNFINISHED: &str = ".new-";

/// A folder that goes away, and what is mounted in it, unless it is kept.
struct Unfinished {
    folder: tempfile::TempDir,
    mounted: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = mount::detach(&self.folder.path().join("merged"))
        {
            tracing::warn!(%error, "an unfinished layer stays mounted");
        }
    }
}

/// Unpacks a layer into its place. When it returns an error there is nothing of it.
pub fn unpack(
    layers: &Path,
    layer: &Layer<'_>,
    below: &[PathBuf],
    content: Decompressing,
) -> Result<(), ImageError> {
    let setup = ImageError::store(format!("preparing layer {}", layer.diff));
    let (mut unfinished, target) = prepare(layers, below).map_err(setup)?;
    failpoint::hit("runtime.image.layer_prepared");
    let name = layer.name;
    let mut content = Hashing::new(content, true);
    let applied = apply(&mut content, &target).and_then(|used| {
        io::copy(&mut content, &mut io::sink()).map_err(|e| (String::new(), e))?;
        Ok(used)
    });
    let (content, diff) = content.into_parts();
    let digest = content.finish();
    // A wrong digest explains a broken stream better than the reverse.
    if let (Some(expected), Ok(Some(actual))) = (layer.digest, &digest)
        && expected != actual
    {
        let (expected, actual) = (expected.to_owned(), actual.clone());
        return Err(ImageError::Corrupt { what: "layer", expected, actual });
    }
    let (bytes, inodes) = applied.map_err(|(path, e)| unpack_error(name, &path, e))?;
    digest.map_err(|e| unpack_error(name, "", e))?;
    if diff.as_deref() != Some(layer.diff) {
        return Err(ImageError::Corrupt {
            what: "layer content",
            expected: layer.diff.to_owned(),
            actual: diff.unwrap_or_default(),
        });
    }
    let finish = ImageError::store(format!("finishing layer {}", layer.diff));
    failpoint::hit("runtime.image.layer_unpacked");
    finish_layer(layers, layer.chain, &mut unfinished, bytes, inodes).map_err(finish)
}

fn unpack_error(layer: &str, path: &str, source: io::Error) -> ImageError {
    ImageError::Unpack { layer: layer.to_owned(), path: path.to_owned(), source }
}

fn prepare(layers: &Path, below: &[PathBuf]) -> io::Result<(Unfinished, PathBuf)> {
    let folder = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(layers)?;
    let mut unfinished = Unfinished { folder, mounted: false };
    let path = unfinished.folder.path().to_owned();
    let fs = path.join("fs");
    fs::create_dir(&fs)?;
    fchmodat(nix::fcntl::AT_FDCWD, &fs, Mode::from_bits_truncate(0o755), FchmodatFlags::FollowSymlink)?;
    if below.is_empty() {
        return Ok((unfinished, fs));
    }
    let (merged, work) = (path.join("merged"), path.join("work"));
    fs::create_dir(&merged)?;
    fs::create_dir(&work)?;
    let lower: Vec<&Path> = below.iter().map(PathBuf::as_path).collect();
    mount::overlay(&merged, &lower, &fs, &work)?;
    unfinished.mounted = true;
    Ok((unfinished, merged))
}

fn finish_layer(
    layers: &Path,
    chain: &str,
    unfinished: &mut Unfinished,
    bytes: u64,
    inodes: u64,
) -> io::Result<()> {
    let from = unfinished.folder.path();
    if unfinished.mounted {
        mount::detach(&from.join("merged"))?;
        unfinished.mounted = false;
    }
    let place = layers.join(chain);
    fs::create_dir_all(&place)?;
    fs::write(place.join("size"), format!("{bytes} {inodes}"))?;
    failpoint::hit("runtime.image.layer_measured");
    match fs::rename(from.join("fs"), place.join("fs")) {
        // Somebody else was faster, with the same content.
        Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => Ok(()),
        other => other,
    }
}

/// Removes what an import left that was cut off.
pub fn clear_leftovers(layers: &Path) -> io::Result<()> {
    for entry in fs::read_dir(layers)? {
        let entry = entry?;
        if entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes()) {
            mount::detach(&entry.path().join("merged"))?;
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// The names of all layers.
pub fn all(layers: &Path) -> io::Result<Vec<String>> {
    let names = fs::read_dir(layers)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    names.filter(|name| name.as_ref().map_or(true, |name| !name.starts_with(UNFINISHED))).collect()
}

/// Removes a layer; its name goes first, so that it is never half there.
pub fn remove(layers: &Path, chain: &str) -> io::Result<()> {
    let gone = layers.join(format!("{UNFINISHED}removed-{chain}"));
    match fs::rename(layers.join(chain), &gone) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            failpoint::hit("runtime.image.layer_renamed");
            fs::remove_dir_all(&gone)
        }
    }
}

/// Bytes of a layer's files.
pub fn size(folder: &Path) -> io::Result<u64> {
    Ok(sizes(folder)?.0)
}

fn sizes(folder: &Path) -> io::Result<(u64, u64)> {
    let text = fs::read_to_string(folder.join("size"))?;
    let mut numbers = text.split(' ').map(|number| number.parse::<u64>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(bytes)), Some(Ok(inodes))) => Ok((bytes, inodes)),
        _ => Err(io::Error::other(format!("{} has no size", folder.display()))),
    }
}

/// Bytes and inodes of all layers.
pub fn usage(layers: &Path) -> io::Result<(u64, u64)> {
    let mut total = (0, 0);
    for entry in fs::read_dir(layers)? {
        let path = entry?.path();
        if path.join("fs").exists() {
            match sizes(&path) {
                Ok((bytes, inodes)) => total = (total.0 + bytes, total.1 + inodes),
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(total)
}
