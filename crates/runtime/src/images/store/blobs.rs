//! Manifests and configurations, by digest. One may be of several images, and whoever runs a container of an image that
//! was removed still reads its configuration: each goes with the last who has it.

use std::fs;
use std::io;
use std::path::PathBuf;

use base::failpoint;

use super::{Image, ImageError, Index, Store};
use crate::state;

/// The digests of an image's configuration and manifests.
pub(super) fn of(image: &Image) -> impl Iterator<Item = String> {
    let manifests = image.digests.iter().filter_map(|name| name.rsplit_once('@'));
    std::iter::once(image.id.clone()).chain(manifests.map(|(_, digest)| digest.to_owned()))
}

impl Index {
    /// Whether any image has it.
    pub(super) fn has_blob(&self, digest: &str) -> bool {
        self.images.iter().any(|image| of(image).any(|own| own == digest))
    }
}

impl Store {
    pub(super) fn blob_path(&self, digest: &str) -> PathBuf {
        self.blobs().join(digest.strip_prefix("sha256:").unwrap_or(digest))
    }

    pub(super) fn blob(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let path = self.blob_path(digest);
        fs::read(&path).map_err(ImageError::store(format!("reading {}", path.display())))
    }

    pub(super) fn write_blob(&self, digest: &str, bytes: &[u8]) -> Result<(), ImageError> {
        let path = self.blob_path(digest);
        state::replace(&path, bytes).map_err(ImageError::store(format!("writing {}", path.display())))
    }

    /// Removes the blobs that are to go and that neither an image nor a container has, while nobody else changes the index.
    pub(super) fn remove_blobs(&self, index: &mut Index, in_use: &[String]) -> Result<(), ImageError> {
        let mut kept = std::mem::take(&mut index.leaving_blobs);
        kept.retain(|digest| !index.has_blob(digest));
        for digest in kept.extract_if(.., |digest| !in_use.contains(digest)) {
            let path = self.blob_path(&digest);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ImageError::store(format!("removing {}", path.display()))(error));
                }
                _ => {}
            }
            failpoint::hit("runtime.image.blob_removed");
        }
        index.leaving_blobs = kept;
        Ok(())
    }

    /// The digests of all blobs that are here and of which no image knows.
    pub(super) fn unknown_blobs(&self, index: &Index) -> Result<Vec<String>, ImageError> {
        let failed = || ImageError::store(format!("listing {}", self.blobs().display()));
        let mut unknown = Vec::new();
        for entry in fs::read_dir(self.blobs()).map_err(failed())? {
            let digest = format!("sha256:{}", entry.map_err(failed())?.file_name().to_string_lossy());
            if !index.has_blob(&digest) && !index.leaving_blobs.contains(&digest) {
                unknown.push(digest);
            }
        }
        Ok(unknown)
    }
}
