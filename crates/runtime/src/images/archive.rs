//! Images from a file: an OCI layout or what `docker save` writes, in a tar archive that may itself
//! be compressed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::layer::{self, Layer};
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

/// Brings in every image of an archive, and gives their names. `progress` hears what happens and
/// how many bytes of the archive were read. Blocks; safe beside other processes that use the root.
pub fn import(
    store: &Store,
    reader: &mut dyn Read,
    progress: &mut dyn FnMut(&str, u64),
) -> Result<Vec<String>, ImageError> {
    let _unpacking = store.lock_unpacking()?;
    let mut archive = Archive::spool(reader, progress)?;
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
    fn spool(reader: &mut dyn Read, progress: &mut dyn FnMut(&str, u64)) -> Result<Self, ImageError> {
        let failed = || ImageError::store("copying the archive");
        let mut file = tempfile::tempfile().map_err(failed())?;
        let mut counted = Counting { inner: reader, read: 0, told: 0, progress };
        let mut plain = layer::decompress(&mut counted).map_err(failed())?;
        let mut writer = BufWriter::with_capacity(1 << 20, &mut file);
        io::copy(&mut plain, &mut writer).map_err(failed())?;
        io::Write::flush(&mut writer).map_err(failed())?;
        drop(writer);
        file.rewind().map_err(failed())?;
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

    fn open(&mut self, path: &str) -> Result<io::Take<&File>, ImageError> {
        let (at, len) = self.locate(path).ok_or_else(|| ImageError::Archive(format!("{path} is missing")))?;
        self.file.seek(SeekFrom::Start(at)).map_err(ImageError::store("reading the archive"))?;
        Ok((&self.file).take(len))
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        self.open(path)?.read_to_end(&mut bytes).map_err(ImageError::store("reading the archive"))?;
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
        progress: &mut dyn FnMut(&str, u64),
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
        progress: &mut dyn FnMut(&str, u64),
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
        progress: &mut dyn FnMut(&str, u64),
    ) -> Result<(), ImageError> {
        let chain = Store::chain(config)?;
        if chain.len() != layers.len() {
            return Err(ImageError::Archive(format!(
                "{} layers, but the configuration speaks of {}",
                layers.len(),
                chain.len()
            )));
        }
        let mut below = Vec::new();
        for ((diff, id), (path, digest)) in chain.into_iter().zip(layers) {
            if !store.has_layer(&id) {
                progress(&format!("unpacking {diff}"), 0);
                let layer = Layer {
                    name: digest.unwrap_or(&diff),
                    digest: *digest,
                    diff: &diff,
                    chain: &id,
                    below: &below,
                };
                store.unpack(&layer, &mut self.open(path)?)?;
            }
            below.push(id);
        }
        Ok(())
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

/// Tells how much was read, every megabyte.
struct Counting<'a> {
    inner: &'a mut dyn Read,
    read: u64,
    told: u64,
    progress: &'a mut dyn FnMut(&str, u64),
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
