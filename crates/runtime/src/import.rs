//! Bringing images in from files, both ends: over the runtime's own socket.

use std::io;
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::io::{StreamReader, SyncIoBridge};
use tonic::{Request, Response, Status, Streaming};

use crate::wire::images_client::ImagesClient;
use crate::wire::images_server::Images;
use crate::wire::{ImportChunk, ImportProgress};
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
    let channel = cri::channel(&format!("unix://{}", socket.display())).await?;
    let (sender, receiver) = mpsc::channel(4);
    // A file that cannot be read on ends the stream early; the error is kept for the caller.
    let reading = tokio::spawn(async move {
        loop {
            let mut data = vec![0u8; 1 << 20];
            let n = file.read(&mut data).await?;
            data.truncate(n);
            if n == 0 || sender.send(ImportChunk { data }).await.is_err() {
                return Ok(());
            }
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
    reading.await.map_err(|e| failed(io::Error::other(e)))?.map_err(failed)?;
    Ok(names)
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
        let chunks =
            request.into_inner().map(|chunk| chunk.map(|c| Bytes::from(c.data)).map_err(io::Error::other));
        let reader = StreamReader::new(chunks);
        let (sender, receiver) = mpsc::channel(16);
        let store = self.core.images.clone();
        tokio::task::spawn_blocking(move || {
            let mut reader = SyncIoBridge::new(reader);
            let mut progress = |step: &str, read: u64| {
                // Progress that nobody takes in time is superseded.
                let _ =
                    sender.try_send(Ok(ImportProgress { step: step.to_owned(), read, names: Vec::new() }));
            };
            let result = images::import(&store, &mut reader, &mut progress);
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
