//! Bringing images in from files, both ends: over the runtime's own socket.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::io::{StreamReader, SyncIoBridge};
use tonic::{Request, Response, Status, Streaming};

use crate::images::Source;
use crate::wire::images_client::ImagesClient;
use crate::wire::images_server::Images;
use crate::wire::{ImportChunk, ImportFile, ImportProgress};
use crate::{SharedCore, images};

/// What an import is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// For a person.
    pub step: String,
    /// Bytes of the archive that were read so far.
    pub read: u64,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The runtime cannot be reached.
    #[error(transparent)]
    Connect(#[from] cri::ConnectError),
    /// The archive cannot be read.
    #[error("reading {path}")]
    Read {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The runtime refused it.
    #[error("{}", .0.message())]
    Refused(#[from] Status),
}

/// Imports an archive through a running runtime, and gives the names of its images.
pub async fn import_client(
    socket: &Path,
    path: &Path,
    mut on_progress: impl FnMut(Progress),
) -> Result<Vec<String>, ImportError> {
    let failed = |source| ImportError::Read { path: path.display().to_string(), source };
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let place = place(path, &file.metadata().await.map_err(failed)?).map_err(failed)?;
    let channel = cri::channel(&format!("unix://{}", socket.display())).await?;
    let (sender, receiver) = mpsc::channel(4);
    // A file that cannot be read on ends the stream early; the error is kept for the caller.
    let reading = tokio::spawn(async move {
        let mut next = ImportChunk { data: Vec::new(), file: place };
        loop {
            if sender.send(next).await.is_err() {
                return Ok(());
            }
            let mut data = vec![0u8; 1 << 20];
            let n = file.read(&mut data).await?;
            data.truncate(n);
            if n == 0 {
                return Ok(());
            }
            next = ImportChunk { data, file: None };
        }
    });
    let mut answers = ImagesClient::new(channel).import(ReceiverStream::new(receiver)).await?.into_inner();
    let mut names = Vec::new();
    while let Some(progress) = answers.message().await? {
        if !progress.names.is_empty() {
            names = progress.names;
        } else {
            on_progress(Progress { step: progress.step, read: progress.read });
        }
    }
    // The runtime need not have wanted all of it.
    drop(answers);
    reading.await.map_err(|e| failed(io::Error::other(e)))?.map_err(failed)?;
    Ok(names)
}

/// Where a file lies, for a runtime that can read it itself; a pipe lies nowhere.
fn place(path: &Path, metadata: &std::fs::Metadata) -> io::Result<Option<ImportFile>> {
    if !metadata.is_file() {
        return Ok(None);
    }
    let path = std::path::absolute(path)?.display().to_string();
    Ok(Some(ImportFile { path, device: metadata.dev(), inode: metadata.ino() }))
}

/// The file that is meant, if it is here.
fn open(place: &ImportFile) -> Option<File> {
    let file = File::open(&place.path).ok()?;
    let metadata = file.metadata().ok()?;
    let same = (metadata.dev(), metadata.ino()) == (place.device, place.inode);
    (metadata.is_file() && same).then_some(file)
}

/// The serving end.
pub struct ImportCalls {
    core: SharedCore,
}

impl ImportCalls {
    pub fn new(core: SharedCore) -> Self {
        Self { core }
    }
}

#[tonic::async_trait]
impl Images for ImportCalls {
    type ImportStream = Pin<Box<dyn Stream<Item = Result<ImportProgress, Status>> + Send>>;

    async fn import(
        &self,
        request: Request<Streaming<ImportChunk>>,
    ) -> Result<Response<Self::ImportStream>, Status> {
        let mut chunks = request.into_inner();
        let first = chunks.message().await?;
        let first =
            first.ok_or_else(|| Status::invalid_argument("the archive is empty: nothing was sent"))?;
        let (sender, receiver) = mpsc::channel(16);
        let store = self.core.images.clone();
        tokio::task::spawn_blocking(move || {
            let mut progress = |step: &str, read: u64| {
                // Progress that nobody takes in time is superseded.
                let _ =
                    sender.try_send(Ok(ImportProgress { step: step.to_owned(), read, names: Vec::new() }));
            };
            let result = match first.file.as_ref().and_then(open) {
                Some(file) => images::import(&store, Source::File(file), &mut progress),
                None => {
                    let rest = chunks.map(|chunk| chunk.map(|c| Bytes::from(c.data)));
                    let all = tokio_stream::once(Ok(Bytes::from(first.data))).chain(rest);
                    let mut reader =
                        SyncIoBridge::new(StreamReader::new(all.map(|one| one.map_err(io::Error::other))));
                    images::import(&store, Source::Stream(&mut reader), &mut progress)
                }
            };
            let last = match result {
                Ok(names) => Ok(ImportProgress { step: "done".into(), read: 0, names }),
                Err(error) => Err(crate::service::image_status(&error)),
            };
            // The client may have left; the images are there all the same.
            let _ = sender.blocking_send(last);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
