//! Connections to sockets in the file system, however deep they lie: an address holds no more than 107 bytes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::net::UnixStream;

/// The longest path that an address holds.
const LONGEST: usize = 107;

/// Connects to the socket at a path.
///
/// # Errors
/// As [`UnixStream::connect`], and when its folder cannot be opened.
pub async fn reach(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().as_bytes().len() <= LONGEST {
        return UnixStream::connect(path).await;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return UnixStream::connect(path).await;
    };
    // By way of the open folder the path is short.
    let folder = File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    UnixStream::connect(short).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_reached_at_any_depth() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        // Bound by a shorter way, as from a container.
        let short = root.path().join("s");
        std::os::unix::fs::symlink(&deep, &short).unwrap();
        let _listener = tokio::net::UnixListener::bind(short.join("plugin.sock")).unwrap();
        assert!(UnixStream::connect(deep.join("plugin.sock")).await.is_err());
        reach(&deep.join("plugin.sock")).await.unwrap();
        reach(&short.join("plugin.sock")).await.unwrap();
        assert_eq!(reach(&deep.join("none")).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
