//! One layer: what a `COPY` or `WORKDIR` puts where, and the tar file of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::context::Source;
use super::fault::Fault;
use super::tree::{Kind, Tree};

/// How what is copied shall be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attributes {
    /// User and group.
    pub owner: (u64, u64),
    /// Permissions in place of the source's.
    pub mode: Option<u32>,
    /// Time of change, in seconds, in place of the source's.
    pub time: Option<u64>,
}

/// What a layer has at one path.
struct Item {
    kind: Kind,
    /// Where a file's bytes are.
    from: PathBuf,
    mode: u32,
    time: u64,
}

/// A layer that is being put together.
pub struct Layer {
    items: BTreeMap<PathBuf, Item>,
    attributes: Attributes,
}

/// A layer's tar file.
#[derive(Debug)]
pub struct Packed {
    /// At its beginning.
    pub file: File,
    /// In bytes.
    pub size: u64,
    /// With its algorithm.
    pub digest: String,
}

fn misfit(path: &Path, reason: &'static str) -> Fault {
    Fault::Source { path: format!("/{}", path.display()), reason }
}

impl Layer {
    /// An empty one.
    pub fn new(attributes: Attributes) -> Self {
        Self { items: BTreeMap::new(), attributes }
    }

    /// Makes a folder and those above it, where they are missing. Gives its path without links.
    pub fn folder(&mut self, tree: &mut Tree, path: &Path) -> Result<PathBuf, Fault> {
        let path = tree.resolve(path)?;
        let mut above: Vec<&Path> = path.ancestors().collect();
        above.reverse();
        for folder in above {
            match tree.kind(folder)? {
                Kind::Folder => {}
                Kind::Missing => {
                    let time = self.attributes.time.unwrap_or(0);
                    let item = Item { kind: Kind::Folder, from: PathBuf::new(), mode: 0o755, time };
                    self.items.insert(folder.to_owned(), item);
                    tree.put(folder.to_owned(), Kind::Folder);
                }
                _ => return Err(misfit(folder, "it is in the image already and is not a folder")),
            }
        }
        Ok(path)
    }

    /// Puts a source to where it shall go. `inside` when that is a folder in any case.
    pub fn copy(&mut self, tree: &mut Tree, source: &Source, to: &Path, inside: bool) -> Result<(), Fault> {
        let mut to = to.to_owned();
        if !source.folder && (inside || tree.kind(&tree.resolve(&to)?)? == Kind::Folder) {
            to.push(&source.name);
        }
        for found in &source.found {
            let place = to.join(&found.below);
            let (metadata, from) = (&found.metadata, &found.from);
            if metadata.is_dir() {
                let is_new = tree.kind(&tree.resolve(&place)?)? == Kind::Missing;
                let path = self.folder(tree, &place)?;
                // The folder that is copied into keeps what it is; one below is made like its source.
                if (is_new || !found.below.as_os_str().is_empty()) && !path.as_os_str().is_empty() {
                    self.put(tree, path, Kind::Folder, from, metadata);
                }
                continue;
            }
            let name =
                place.file_name().ok_or_else(|| misfit(&place, "a file cannot take the root's place"))?;
            let path = self.folder(tree, place.parent().unwrap_or(Path::new("")))?.join(name);
            if tree.kind(&path)? == Kind::Folder {
                return Err(misfit(&path, "it is in the image already and is a folder"));
            }
            let kind = if metadata.is_symlink() {
                Kind::Link(std::fs::read_link(from).map_err(Fault::read(from))?)
            } else {
                Kind::File
            };
            self.put(tree, path, kind, from, metadata);
        }
        Ok(())
    }

    fn put(&mut self, tree: &mut Tree, path: PathBuf, kind: Kind, from: &Path, metadata: &std::fs::Metadata) {
        let mode = self.attributes.mode.unwrap_or(metadata.permissions().mode() & 0o7777);
        let mode = if matches!(kind, Kind::Link(_)) { 0o777 } else { mode };
        let time = self.attributes.time.unwrap_or(u64::try_from(metadata.mtime()).unwrap_or(0));
        tree.put(path.clone(), kind.clone());
        self.items.insert(path, Item { kind, from: from.to_owned(), mode, time });
    }

    /// Whether it would change nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Writes it as a tar file, sorted, with nothing in it that differs from run to run.
    pub fn pack(&self) -> Result<Packed, Fault> {
        let file = tempfile::tempfile().map_err(Fault::Write)?;
        let mut tar =
            tar::Builder::new(Hashing { inner: io::BufWriter::new(file), hash: Sha256::new(), size: 0 });
        for (path, item) in &self.items {
            self.append(&mut tar, path, item)?;
        }
        let Hashing { inner, hash, size } = tar.into_inner().map_err(Fault::Write)?;
        let mut file = inner.into_inner().map_err(|error| Fault::Write(error.into_error()))?;
        file.rewind().map_err(Fault::Write)?;
        Ok(Packed { file, size, digest: super::archive::digest_text(&hash.finalize()) })
    }

    fn append(&self, tar: &mut tar::Builder<impl Write>, path: &Path, item: &Item) -> Result<(), Fault> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(item.mode);
        header.set_uid(self.attributes.owner.0);
        header.set_gid(self.attributes.owner.1);
        header.set_mtime(item.time);
        header.set_size(0);
        match &item.kind {
            Kind::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, path, target).map_err(Fault::Write)
            }
            Kind::File => {
                let failed = || Fault::read(&item.from);
                // What was a file when it was looked at must not have become a link to elsewhere.
                let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
                let mut options = File::options();
                std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true), flags);
                let file = options.open(&item.from).map_err(failed())?;
                let size = file.metadata().map_err(failed())?.len();
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(size);
                let mut whole = Whole { inner: file.take(size), left: size };
                tar.append_data(&mut header, path, &mut whole).map_err(failed())
            }
            _ => {
                header.set_entry_type(tar::EntryType::Directory);
                tar.append_data(&mut header, path, io::empty()).map_err(Fault::Write)
            }
        }
    }
}

/// A file that became shorter while it was read would break all that follows in the archive.
struct Whole<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        if n == 0 && self.left > 0 && !buf.is_empty() {
            return Err(io::Error::other("it became shorter while it was copied"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(buf)?;
        self.hash.update(buf.get(..n).unwrap_or_default());
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
