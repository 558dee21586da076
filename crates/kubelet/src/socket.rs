//! Sockets in the file system at which the kubelet serves.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use tokio_stream::Stream;

/// Why nobody can be served.
#[derive(Debug, thiserror::Error)]
#[error("listening at {}: {source}", path.display())]
pub struct SocketError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Listens, in the place of whoever did before. Plugins call the kubelet by the path of its socket.
///
/// # Errors
/// [`SocketError`].
pub fn listen(path: &Path) -> Result<impl Stream<Item = io::Result<cri::Lenient>> + use<>, SocketError> {
    let failed = |source| SocketError { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(failed)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    UnixListener::bind(path).map(cri::incoming).map_err(failed)
}
