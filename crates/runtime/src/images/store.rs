mod blobs;
mod image;
mod unknown;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::failpoint;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache::Cache;
use super::decompress::Decompressing;
use super::layer::{self, Layer};
use super::{ImageError, Name, Wanted};
use crate::plan::ImageConfig;
use crate::state;
pub use image::Image;

/// What the store knows of its images; a file.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Index {
    images: Vec<Image>,
    /// Layers of images that were removed: they go as soon as no container has them.
    #[serde(default)]
    leaving: Vec<String>,
    /// Their manifests and configurations, by digest, likewise.
    #[serde(default)]
    leaving_blobs: Vec<String>,
}

impl Index {
    fn has(&self, chain: &String) -> bool {
        self.images.iter().any(|image| image.chain.contains(chain))
    }
}

/// The configuration, as far as the store needs it.
#[derive(Deserialize)]
struct ConfigFile {
    config: Option<ImageConfig>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// An image that is about to become complete.
pub struct Incoming<'a> {
    /// The configuration's bytes.
    pub config: &'a [u8],
    /// The manifest's bytes and digest, where there is one.
    pub manifest: Option<(&'a [u8], &'a str)>,
    /// Under which names.
    pub names: &'a [Name],
}

/// Why the index is not known.
enum Unread {
    Io(io::Error),
    Malformed(String),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The images below one root.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    cache: Arc<Cache>,
}

/// A lock among processes; dropping it releases it.
pub struct Lock(#[expect(dead_code, reason = "holds the lock")] Flock<File>);

/// The digest of some bytes, with its algorithm.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether this is a SHA-256 as [`hex`] writes it.
fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Store {
    /// Opens (or begins) the store below a root, and clears away what an import left that was cut off.
    pub fn open(root: &Path) -> Result<Self, ImageError> {
        let store = Self { root: root.to_owned(), cache: Arc::default() };
        for folder in [store.blobs(), store.layers()] {
            fs::create_dir_all(&folder).map_err(ImageError::store(format!("making {}", folder.display())))?;
        }
        // While somebody unpacks, what looks left over may be theirs.
        if let Some(_alone) = store.try_lock_unpacking()? {
            layer::clear_leftovers(&store.layers()).map_err(ImageError::store("clearing leftovers"))?;
            store.note_unknown()?;
        }
        Ok(store)
    }

    /// Where all of it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("images/blobs/sha256")
    }

    /// Where layers are, by chain id.
    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    fn lock_file(&self, name: &str) -> Result<File, ImageError> {
        let path = self.root.join("images").join(name);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ImageError::store(format!("opening {}", path.display())))
    }

    fn lock(&self, name: &str, how: FlockArg) -> Result<Lock, ImageError> {
        Flock::lock(self.lock_file(name)?, how)
            .map(Lock)
            .map_err(|(_, errno)| ImageError::Store { what: format!("locking {name}"), source: errno.into() })
    }

    /// Held by everybody who unpacks.
    pub fn lock_unpacking(&self) -> Result<Lock, ImageError> {
        self.lock("unpack.lock", FlockArg::LockShared)
    }

    fn try_lock_unpacking(&self) -> Result<Option<Lock>, ImageError> {
        match Flock::lock(self.lock_file("unpack.lock")?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Lock(lock))),
            Err((_, nix::Error::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => {
                Err(ImageError::Store { what: "locking unpack.lock".into(), source: errno.into() })
            }
        }
    }

    fn index(&self) -> Result<Arc<Index>, ImageError> {
        let path = self.root.join("images/index.json");
        let failed = |source| ImageError::Store { what: format!("reading {}", path.display()), source };
        let file = match File::open(&path) {
            Ok(file) => file,
            // Without its folder it is not that there are no images: the disk is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.blobs().exists() => {
                return Ok(Arc::default());
            }
            Err(source) => return Err(failed(source)),
        };
        let parse =
            |bytes: &[u8]| serde_json::from_slice(bytes).map_err(|e| Unread::Malformed(e.to_string()));
        self.cache.index(file, parse).map_err(|error| match error {
            Unread::Io(source) => failed(source),
            Unread::Malformed(reason) => ImageError::Malformed { what: path.display().to_string(), reason },
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T, ImageError>) -> Result<T, ImageError> {
        let _lock = self.lock("index.lock", FlockArg::LockExclusive)?;
        let mut index = Index::clone(&*self.index()?);
        let result = change(&mut index)?;
        let json = serde_json::to_vec(&index)
            .map_err(|e| ImageError::Malformed { what: "index".into(), reason: e.to_string() })?;
        state::replace(&self.root.join("images/index.json"), &json)
            .map_err(ImageError::store("writing the index"))?;
        self.cache.forget_index();
        Ok(result)
    }

    /// Every image.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        Ok(self.index()?.images.clone())
    }

    /// The image that is meant; `None` when it is not there.
    pub fn find(&self, wanted: &Wanted) -> Result<Option<Image>, ImageError> {
        let index = self.index()?;
        Ok(find(&index, wanted).cloned())
    }

    /// An image's configuration.
    pub fn config(&self, image: &Image) -> Result<Arc<ImageConfig>, ImageError> {
        self.cache.config(&image.id, || {
            let bytes = self.blob(&image.id)?;
            Ok(parse_config(&image.id, &bytes)?.config.unwrap_or_default())
        })
    }

    /// An image's configuration whole, and the chain ids of its layers, as JSON.
    pub fn describe(&self, image: &Image) -> Result<String, ImageError> {
        let spec: serde_json::Value = serde_json::from_slice(&self.blob(&image.id)?)
            .map_err(|e| ImageError::Malformed { what: image.id.clone(), reason: e.to_string() })?;
        Ok(serde_json::json!({"chainIDs": image.chain, "imageSpec": spec}).to_string())
    }

    /// An image's layers as folders, the topmost first.
    pub fn layer_folders(&self, image: &Image) -> Vec<PathBuf> {
        image.chain.iter().rev().map(|chain| self.layer_folder(chain)).collect()
    }

    fn layer_folder(&self, chain: &str) -> PathBuf {
        self.layers().join(chain).join("fs")
    }

    /// The layers that a configuration asks for: their content's digest, and the chain id with all
    /// that is below.
    pub fn chain(config: &[u8]) -> Result<Vec<(String, String)>, ImageError> {
        let file = parse_config("image configuration", config)?;
        let mut below: Option<String> = None;
        let mut chain = Vec::new();
        for diff in file.rootfs.diff_ids {
            // It becomes the name of a folder.
            let Some(own) = diff.strip_prefix("sha256:").filter(|hex| is_hash(hex)) else {
                let reason = format!("{diff:?} is not the digest of a layer");
                return Err(ImageError::Malformed { what: digest(config), reason });
            };
            let id = match &below {
                None => own.to_owned(),
                Some(below) => hex(&Sha256::digest(format!("sha256:{below} {diff}"))),
            };
            below = Some(id.clone());
            chain.push((diff, id));
        }
        Ok(chain)
    }

    /// Whether a layer is there already.
    pub fn has_layer(&self, chain: &str) -> bool {
        self.layer_folder(chain).exists()
    }

    /// Unpacks one layer onto those below it. `digest` is what the bytes of `reader` must have,
    /// where that is known; `diff` what they must have once decompressed. Blocks.
    pub fn unpack(&self, layer: &Layer<'_>, content: Decompressing) -> Result<(), ImageError> {
        let below: Vec<PathBuf> = layer.below.iter().rev().map(|chain| self.layer_folder(chain)).collect();
        layer::unpack(&self.layers(), layer, &below, content)
    }

    /// Makes an image known whose layers are all there.
    pub fn add(&self, incoming: &Incoming<'_>) -> Result<Image, ImageError> {
        let id = digest(incoming.config);
        let file = parse_config(&id, incoming.config)?;
        let chain: Vec<String> = Self::chain(incoming.config)?.into_iter().map(|(_, id)| id).collect();
        let size = chain.iter().map(|id| layer::size(&self.layers().join(id))).sum::<Result<u64, _>>();
        let size = size.map_err(ImageError::store("reading the size of a layer"))?;
        self.sync()?;
        self.change(|index| {
            // Within the change: whoever removes blobs of other images sees either none of these or their image.
            self.write_blob(&id, incoming.config)?;
            if let Some((bytes, digest)) = incoming.manifest {
                self.write_blob(digest, bytes)?;
            }
            failpoint::hit("runtime.image.blobs_written");
            // The index must not outlive what it speaks of. Few bytes are left by now.
            self.sync()?;
            failpoint::hit("runtime.image.synced");
            let tags: Vec<String> = incoming.names.iter().filter_map(Name::by_tag).collect();
            for image in &mut index.images {
                image.tags.retain(|have| !tags.contains(have));
            }
            let at = match index.images.iter().position(|image| image.id == id) {
                Some(at) => at,
                None => {
                    let user = file.config.and_then(|config| config.user).unwrap_or_default();
                    let image =
                        Image { id: id.clone(), tags: Vec::new(), digests: Vec::new(), size, chain, user };
                    index.images.push(image);
                    index.images.len() - 1
                }
            };
            let Some(image) = index.images.get_mut(at) else {
                return Err(ImageError::NotFound(id.clone()));
            };
            image.tags.extend(tags);
            for name in incoming.names {
                let by_digest = incoming.manifest.map(|(_, digest)| name.by_digest(digest));
                for digest in by_digest.into_iter().chain(name.by_tag().is_none().then(|| name.to_string())) {
                    if !image.digests.contains(&digest) {
                        image.digests.push(digest);
                    }
                }
            }
            Ok(image.clone())
        })
    }

    fn sync(&self) -> Result<(), ImageError> {
        let folder = File::open(self.layers()).map_err(ImageError::store("opening layers"))?;
        nix::unistd::syncfs(&folder)
            .map_err(|e| ImageError::Store { what: "syncing".into(), source: e.into() })
    }

    /// Removes an image with all its names. The layers that no other image has go with [`Self::collect`]. An image that is
    /// not there is removed already.
    pub fn remove(&self, wanted: &Wanted) -> Result<(), ImageError> {
        self.change(|index| {
            let Some(id) = find(index, wanted).map(|image| image.id.clone()) else { return Ok(()) };
            let (mut removed, mut blobs) = (Vec::new(), Vec::new());
            index.images.retain_mut(|image| {
                let goes = image.id == id;
                if goes {
                    removed.append(&mut image.chain);
                    blobs.extend(blobs::of(image));
                }
                !goes
            });
            removed.retain(|chain| !index.has(chain) && !index.leaving.contains(chain));
            index.leaving.append(&mut removed);
            blobs.retain(|digest| !index.has_blob(digest) && !index.leaving_blobs.contains(digest));
            index.leaving_blobs.append(&mut blobs);
            Ok(())
        })?;
        failpoint::hit("runtime.image.unindexed");
        Ok(())
    }

    /// Removes the layers and blobs of removed images that nobody has any more, also those that a killed runtime did not get
    /// to. `in_use` are the ids of images that containers have.
    pub fn collect(&self, in_use: &[String]) -> Result<(), ImageError> {
        let index = self.index()?;
        if index.leaving.is_empty() && index.leaving_blobs.is_empty() {
            return Ok(());
        }
        let layers = self.layers_of(in_use)?;
        let goes = |chain: &&String| !layers.contains(chain) && !index.has(chain);
        let gone: Vec<String> = index.leaving.iter().filter(goes).cloned().collect();
        for chain in &gone {
            layer::remove(&self.layers(), chain)
                .map_err(ImageError::store(format!("removing layer {chain}")))?;
        }
        self.change(|index| {
            let mut leaving = std::mem::take(&mut index.leaving);
            leaving.retain(|chain| !gone.contains(chain) && !index.has(chain));
            index.leaving = leaving;
            self.remove_blobs(index, in_use)
        })
    }

    /// The layers of some images, which may have been removed since somebody began to use them.
    fn layers_of(&self, images: &[String]) -> Result<Vec<String>, ImageError> {
        let index = self.index()?;
        let mut layers = Vec::new();
        for id in images {
            match index.images.iter().find(|image| image.id == *id) {
                Some(image) => layers.extend(image.chain.iter().cloned()),
                None => layers.extend(Self::chain(&self.blob(id)?)?.into_iter().map(|(_, chain)| chain)),
            }
        }
        Ok(layers)
    }

    /// Bytes and inodes of all layers.
    pub fn usage(&self) -> Result<(u64, u64), ImageError> {
        layer::usage(&self.layers()).map_err(ImageError::store("reading the size of layers"))
    }
}

fn parse_config(what: &str, bytes: &[u8]) -> Result<ConfigFile, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|e| ImageError::Malformed { what: what.to_owned(), reason: e.to_string() })
}

fn find<'a>(index: &'a Index, wanted: &Wanted) -> Option<&'a Image> {
    match wanted {
        Wanted::Id(hex) => {
            let begins = |image: &&Image| {
                image.id.strip_prefix("sha256:").unwrap_or(&image.id).starts_with(hex.as_str())
            };
            let mut found = index.images.iter().filter(begins);
            // Two that begin alike are as good as none.
            found.next().filter(|_| found.next().is_none())
        }
        Wanted::Name(name) => {
            let text = name.to_string();
            index.images.iter().find(|image| image.tags.contains(&text) || image.digests.contains(&text))
        }
    }
}
