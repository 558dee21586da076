//! What was read from the store's files, kept for as long as they are the same files.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::store::Index;
use crate::plan::ImageConfig;

/// How many configurations are kept: as many as a node has images in use, about.
const CONFIGS: usize = 64;

/// A file as it was: one that takes its place is another inode, changed at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    changed: (i64, i64),
    size: u64,
}

impl Version {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            changed: (file.ctime(), file.ctime_nsec()),
            size: file.size(),
        }
    }
}

/// The index, and images' configurations.
#[derive(Debug, Default)]
pub(super) struct Cache {
    index: Mutex<Option<(Version, Arc<Index>)>>,
    configs: Mutex<HashMap<String, Arc<ImageConfig>>>,
}

impl Cache {
    /// The index in `file`, read only if it is another one than last time.
    pub(super) fn index<E: From<io::Error>>(
        &self,
        mut file: File,
        parse: impl FnOnce(&[u8]) -> Result<Index, E>,
    ) -> Result<Arc<Index>, E> {
        let version = Version::of(&file.metadata()?);
        if let Some((known, index)) = self.index.lock().as_ref()
            && *known == version
        {
            return Ok(index.clone());
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let index = Arc::new(parse(&bytes)?);
        *self.index.lock() = Some((version, index.clone()));
        Ok(index)
    }

    /// Has the index be read again.
    pub(super) fn forget_index(&self) {
        *self.index.lock() = None;
    }

    /// The configuration of that digest; what a digest names never changes.
    pub(super) fn config<E>(
        &self,
        digest: &str,
        read: impl FnOnce() -> Result<ImageConfig, E>,
    ) -> Result<Arc<ImageConfig>, E> {
        if let Some(known) = self.configs.lock().get(digest) {
            return Ok(known.clone());
        }
        let config = Arc::new(read()?);
        let mut configs = self.configs.lock();
        if configs.len() >= CONFIGS {
            configs.clear();
        }
        configs.insert(digest.to_owned(), config.clone());
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_read_again_when_another_took_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.json");
        let cache = Cache::default();
        let mut reads = 0;
        let mut read = |text: &str| {
            crate::state::replace(&path, text.as_bytes()).unwrap();
            for _ in 0..3 {
                let parse = |bytes: &[u8]| {
                    reads += 1;
                    assert_eq!(bytes, text.as_bytes());
                    Ok::<_, io::Error>(Index::default())
                };
                cache.index(File::open(&path).unwrap(), parse).unwrap();
            }
        };
        read("one");
        read("another");
        assert_eq!(reads, 2);
    }

    #[test]
    fn a_configuration_is_read_once() {
        let cache = Cache::default();
        let config = ImageConfig { user: Some("me".into()), ..ImageConfig::default() };
        let first = cache.config("sha256:a", || Ok::<_, io::Error>(config.clone())).unwrap();
        let second = cache.config("sha256:a", || Err(io::Error::other("asked again"))).unwrap();
        assert_eq!((&*first, &*second), (&config, &config));
    }
}
