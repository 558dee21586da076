//! Images from a file: an OCI layout or what `docker save` writes, in a tar archive that may itself
//! be compressed.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use super::decompress::{Decompressing, SIDE_BY_SIDE, decompress, is_compressed};
use super::layer::Layer;
use super::pull::{Descriptor, Manifest, choose_platform};
use super::store::{self, Incoming};
use super::{ImageError, Name, Store};

/// Annotations that name an image in an OCI layout, best first.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

#[derive(Deserialize)]
struct DockerEntry {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// Where an archive comes from.
pub enum Source<'a> {
    /// A regular file, which is read where it lies.
    File(File),
    /// Something that can be read once.
    Stream(&'a mut dyn Read),
}

/// Who hears what happens and how many bytes of the archive were read.
pub type Progress<'a> = &'a mut dyn FnMut(&str, u64);

/// Brings in every image of an archive, and gives their names. Blocks; safe beside other processes that use the root.
pub fn import(store: &Store, source: Source<'_>, progress: Progress<'_>) -> Result<Vec<String>, ImageError> {
    let _unpacking = store.lock_unpacking()?;
    let mut archive = match source {
        Source::Stream(reader) => Archive::spool(reader, progress)?,
        Source::File(file) => Archive::open(file, progress)?,
    };
    let mut names = Vec::new();
    if let Some(index) = archive.read_optional("index.json")? {
        for (manifest, name) in archive.oci_manifests(&index)? {
            names.extend(archive.import_oci(store, &manifest, name, progress)?);
        }
    } else if let Some(manifest) = archive.read_optional("manifest.json")? {
        let entries: Vec<DockerEntry> = parse("manifest.json", &manifest)?;
        for entry in entries {
            names.extend(archive.import_docker(store, &entry, progress)?);
        }
    } else {
        return Err(ImageError::Archive(
            "it has neither index.json (OCI) nor manifest.json (docker save)".into(),
        ));
    }
    if names.is_empty() {
        return Err(ImageError::Archive("it has no image for this machine".into()));
    }
    Ok(names)
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|e| ImageError::Malformed { what: what.to_owned(), reason: e.to_string() })
}

enum Place {
    File { at: u64, len: u64 },
    Link(PathBuf),
}

/// An archive on disk, with where each file of it is.
struct Archive {
    file: File,
    places: HashMap<PathBuf, Place>,
}

impl Archive {
    /// One that is compressed as a whole is decompressed first.
    fn open(mut file: File, progress: Progress<'_>) -> Result<Self, ImageError> {
        let failed = || ImageError::store("reading the archive");
        let mut start = [0; 4];
        let plain = match file.read_exact(&mut start) {
            Ok(()) => !is_compressed(&start),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => true,
            Err(error) => return Err(failed()(error)),
        };
        file.rewind().map_err(failed())?;
        if plain { Self::index(file) } else { Self::spool(&mut file, progress) }
    }

    fn spool(reader: &mut dyn Read, progress: Progress<'_>) -> Result<Self, ImageError> {
        let failed = || ImageError::store("copying the archive");
        let mut file = tempfile::tempfile().map_err(failed())?;
        let mut counted = Counting { inner: reader, read: 0, told: 0, progress };
        let mut plain = decompress(&mut counted).map_err(failed())?;
        let mut writer = BufWriter::with_capacity(1 << 20, &mut file);
        io::copy(&mut plain, &mut writer).map_err(failed())?;
        io::Write::flush(&mut writer).map_err(failed())?;
        drop(writer);
        file.rewind().map_err(failed())?;
        Self::index(file)
    }

    fn index(file: File) -> Result<Self, ImageError> {
        let broken = |e: io::Error| ImageError::Archive(e.to_string());
        let mut places = HashMap::new();
        let mut tar = tar::Archive::new(&file);
        for entry in tar.entries_with_seek().map_err(broken)? {
            let entry = entry.map_err(broken)?;
            let path = normal(&entry.path().map_err(broken)?);
            let place = match entry.link_name().map_err(broken)? {
                Some(target) if entry.header().entry_type().is_symlink() => {
                    Place::Link(normal(&path.parent().unwrap_or(Path::new("")).join(target)))
                }
                Some(target) => Place::Link(normal(&target)),
                None => Place::File { at: entry.raw_file_position(), len: entry.size() },
            };
            places.insert(path, place);
        }
        Ok(Self { file, places })
    }

    fn locate(&self, path: &str) -> Option<(u64, u64)> {
        let mut path = normal(Path::new(path));
        // Layers that two images share may be links; a chain of them is short.
        for _ in 0..8 {
            match self.places.get(&path)? {
                Place::File { at, len } => return Some((*at, *len)),
                Place::Link(target) => path = target.clone(),
            }
        }
        None
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, ImageError> {
        let (at, len) = self.locate(path).ok_or_else(|| ImageError::Archive(format!("{path} is missing")))?;
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(at)).map_err(ImageError::store("reading the archive"))?;
        (&self.file).take(len).read_to_end(&mut bytes).map_err(ImageError::store("reading the archive"))?;
        Ok(bytes)
    }

    fn read_optional(&mut self, path: &str) -> Result<Option<Vec<u8>>, ImageError> {
        if self.locate(path).is_some() { self.read(path).map(Some) } else { Ok(None) }
    }

    fn blob(&mut self, what: &'static str, digest: &str) -> Result<Vec<u8>, ImageError> {
        let bytes = self.read(&blob_path(digest))?;
        let actual = store::digest(&bytes);
        if actual == digest {
            Ok(bytes)
        } else {
            Err(ImageError::Corrupt { what, expected: digest.to_owned(), actual })
        }
    }

    /// The manifests for this machine, each with the name that the index gives it.
    fn oci_manifests(&mut self, index: &[u8]) -> Result<Vec<(Descriptor, Option<Name>)>, ImageError> {
        let index: Manifest = parse("index.json", index)?;
        let mut found = Vec::new();
        for descriptor in index.manifests {
            let name = NAME_ANNOTATIONS.iter().find_map(|key| {
                let name = descriptor.annotations.get(*key)?;
                // A bare tag names nothing by itself.
                if name.contains(['/', ':']) || *key == "io.containerd.image.name" {
                    Name::parse(name).ok()
                } else {
                    None
                }
            });
            let bytes = self.blob("manifest", &descriptor.digest)?;
            let manifest: Manifest = parse(&descriptor.digest, &bytes)?;
            if manifest.manifests.is_empty() {
                found.push((descriptor, name));
            } else if let Ok(chosen) = choose_platform(&manifest.manifests) {
                found.push((chosen.clone(), name));
            }
        }
        Ok(found)
    }

    fn import_oci(
        &mut self,
        store: &Store,
        descriptor: &Descriptor,
        name: Option<Name>,
        progress: Progress<'_>,
    ) -> Result<Vec<String>, ImageError> {
        let bytes = self.blob("manifest", &descriptor.digest)?;
        let manifest: Manifest = parse(&descriptor.digest, &bytes)?;
        let config = manifest.config.ok_or_else(|| ImageError::Malformed {
            what: descriptor.digest.clone(),
            reason: "the manifest has no configuration".into(),
        })?;
        let config = self.blob("configuration", &config.digest)?;
        let layers: Vec<_> =
            manifest.layers.iter().map(|l| (blob_path(&l.digest), Some(l.digest.as_str()))).collect();
        self.unpack(store, &config, &layers, progress)?;
        let names: Vec<Name> = name.into_iter().collect();
        let image = store.add(&Incoming {
            config: &config,
            manifest: Some((&bytes, &descriptor.digest)),
            names: &names,
        })?;
        Ok(if names.is_empty() { vec![image.id] } else { names.iter().map(Name::to_string).collect() })
    }

    fn import_docker(
        &mut self,
        store: &Store,
        entry: &DockerEntry,
        progress: Progress<'_>,
    ) -> Result<Vec<String>, ImageError> {
        let config = self.read(&entry.config)?;
        let layers: Vec<_> = entry.layers.iter().map(|path| (path.clone(), None)).collect();
        self.unpack(store, &config, &layers, progress)?;
        let names =
            entry.repo_tags.iter().flatten().map(|tag| Name::parse(tag)).collect::<Result<Vec<_>, _>>()?;
        let image = store.add(&Incoming { config: &config, manifest: None, names: &names })?;
        Ok(if names.is_empty() { vec![image.id] } else { names.iter().map(Name::to_string).collect() })
    }

    fn unpack(
        &mut self,
        store: &Store,
        config: &[u8],
        layers: &[(String, Option<&str>)],
        progress: Progress<'_>,
    ) -> Result<(), ImageError> {
        let chain = Store::chain(config)?;
        if chain.len() != layers.len() {
            return Err(ImageError::Archive(format!(
                "{} layers, but the configuration speaks of {}",
                layers.len(),
                chain.len()
            )));
        }
        let read = Arc::new(AtomicU64::new(0));
        let mut started = VecDeque::new();
        let mut next = chain.iter().zip(layers);
        let mut below = Vec::new();
        for ((diff, id), (_, digest)) in chain.iter().zip(layers) {
            while started.len() < SIDE_BY_SIDE
                && let Some(((_, id), (path, digest))) = next.next()
            {
                let missing = !store.has_layer(id);
                started.push_back(if missing {
                    Some(self.start(path, digest.is_some(), &read)?)
                } else {
                    None
                });
            }
            if let Some(content) = started.pop_front().flatten() {
                progress(&format!("unpacking {diff}"), read.load(Ordering::Relaxed));
                let name = digest.unwrap_or(diff);
                store.unpack(&Layer { name, digest: *digest, diff, chain: id, below: &below }, content)?;
            }
            below.push(id.clone());
        }
        Ok(())
    }

    /// Has a layer decompressed; `read` grows by what was read of it.
    fn start(&self, path: &str, digest: bool, read: &Arc<AtomicU64>) -> Result<Decompressing, ImageError> {
        let (at, len) = self.locate(path).ok_or_else(|| ImageError::Archive(format!("{path} is missing")))?;
        let failed = || ImageError::store("reading the archive");
        let file = self.file.try_clone().map_err(failed())?;
        Decompressing::start(Part { file, at, left: len, read: read.clone() }, digest).map_err(failed())
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => out.push(part),
            Component::ParentDir => {
                out.pop();
            }
            _ => {}
        }
    }
    out
}

/// A part of a file, which others read at the same time.
struct Part {
    file: File,
    at: u64,
    left: u64,
    read: Arc<AtomicU64>,
}

impl Read for Part {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(buf.get_mut(..most).unwrap_or_default(), self.at)? as u64;
        self.at += read;
        self.left -= read;
        self.read.fetch_add(read, Ordering::Relaxed);
        Ok(read as usize)
    }
}

/// Tells how much was read, every megabyte.
struct Counting<'a> {
    inner: &'a mut dyn Read,
    read: u64,
    told: u64,
    progress: Progress<'a>,
}

impl Read for Counting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read += n as u64;
        if n == 0 || self.read - self.told >= 1 << 20 {
            self.told = self.read;
            (self.progress)("reading the archive", self.read);
        }
        Ok(n)
    }
}
