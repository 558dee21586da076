//! A blob, brought to a file here and checked, however often the connection breaks.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::CONTENT_RANGE;
use sha2::{Digest, Sha256};

use super::ImageError;
use super::pull::Descriptor;
use super::registry::{Ask, Repository};
use super::store::hex;

/// How often in a row nothing may arrive before that is an error.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What has arrived so far.
struct Arriving<'a> {
    descriptor: &'a Descriptor,
    file: File,
    hash: Sha256,
    len: u64,
    /// The number of the host that answered last.
    from: Option<usize>,
}

/// Fetches a blob into a file in `folder` that has no name. The file is at its beginning, and its bytes are
/// those that the digest promises.
pub async fn fetch(
    repository: &Repository,
    descriptor: &Descriptor,
    folder: &Path,
) -> Result<File, ImageError> {
    let (mut first, mut before) = (0, None);
    loop {
        let file = tempfile::tempfile_in(folder)
            .map_err(ImageError::store(format!("making a file in {}", folder.display())))?;
        let mut arriving = Arriving { descriptor, file, hash: Sha256::new(), len: 0, from: None };
        let lie = match arriving.complete(repository, first).await {
            Ok(()) => {
                let actual = format!("sha256:{}", hex(&arriving.hash.finalize()));
                if actual == descriptor.digest {
                    arriving.file.rewind().map_err(ImageError::store("reading a downloaded layer"))?;
                    return Ok(arriving.file);
                }
                ImageError::Corrupt { what: "layer", expected: descriptor.digest.clone(), actual }
            }
            // Nobody else may be asked.
            Err(ImageError::NotFound(name)) => return Err(before.unwrap_or(ImageError::NotFound(name))),
            Err(error) => error,
        };
        // A mirror's lie is not the registry's.
        match arriving.from.filter(|at| at + 1 < repository.hosts() && is_its_own(&lie)) {
            Some(at) => first = at + 1,
            None => return Err(lie),
        }
        tracing::warn!(error = %lie, "a mirror's content is wrong; the next one is asked");
        before = Some(lie);
    }
}

impl Arriving<'_> {
    /// Fetches to the end.
    async fn complete(&mut self, repository: &Repository, first: usize) -> Result<(), ImageError> {
        let (mut failures, mut pause) = (0, FIRST_PAUSE);
        loop {
            let before = self.len;
            let error = match self.attempt(repository, first).await {
                Ok(()) => return Ok(()),
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error,
            };
            if self.len > before {
                (failures, pause) = (0, FIRST_PAUSE);
            }
            failures += 1;
            if failures == ATTEMPTS {
                return Err(error);
            }
            tracing::debug!(digest = self.descriptor.digest, at = self.len, %error, "a download goes on after a break");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn attempt(&mut self, repository: &Repository, first: usize) -> Result<(), ImageError> {
        let ask = Ask::Blob(&self.descriptor.digest, self.len);
        self.from = None;
        let (mut response, at) = repository.ask(ask, first).await?;
        self.from = Some(at);
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
                if !range.is_some_and(|range| range.starts_with(&format!("bytes {}-", self.len))) {
                    let text = format!("it was asked for bytes from {} on, and sent {range:?}", self.len);
                    return Err(repository.failed_at(at, text));
                }
                0
            }
            // It knows no ranges: what is here already comes again.
            _ => self.len,
        };
        let size = u64::try_from(self.descriptor.size).unwrap_or(0);
        loop {
            let chunk = response.chunk().await;
            let chunk = chunk.map_err(|e| repository.failed_at(at, super::text(&e)))?;
            let Some(chunk) = chunk else { break };
            let known = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= known as u64;
            let new = chunk.get(known..).unwrap_or_default();
            self.len += new.len() as u64;
            if self.len > size {
                let actual = format!("more than the {size} bytes that its manifest says");
                let expected = self.descriptor.digest.clone();
                return Err(ImageError::Corrupt { what: "layer", expected, actual });
            }
            self.hash.update(new);
            self.file
                .write_all(new)
                .map_err(ImageError::store(format!("writing layer {}", self.descriptor.digest)))?;
        }
        if self.len < size {
            let text = format!("{} ended after {} of {size} bytes", self.descriptor.digest, self.len);
            return Err(repository.failed_at(at, text));
        }
        Ok(())
    }
}

/// Whether another host may do better.
fn is_its_own(error: &ImageError) -> bool {
    matches!(error, ImageError::Registry { .. } | ImageError::Corrupt { .. })
}

/// Trying again changes nothing about it.
fn is_final(error: &ImageError) -> bool {
    !matches!(error, ImageError::Registry { .. })
}
