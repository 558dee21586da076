//! Tells at once that something in a folder has changed, by inotify. What it was does not matter: whoever is told
//! looks again, and looks now and then in any case.

use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;

/// The changes of a folder, or of one file.
pub struct Changes(Option<Receiver>);

impl Changes {
    /// From now on. A folder that cannot be watched never tells of a change.
    pub fn of(folder: &Path) -> Self {
        match watch(folder) {
            Ok(watch) => Self(Some(watch)),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "it is not watched, and looked at now and then only");
                Self(None)
            }
        }
    }

    /// Until something happens.
    pub async fn next(&self) {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        if let Err(error) = watch.readable().await {
            tracing::warn!(%error, "a folder is not watched any more");
            return std::future::pending().await;
        }
        let mut events = [0; 4096];
        while watch.try_read(&mut events).is_ok_and(|read| read > 0) {}
    }
}

/// An inotify, read as the stream of bytes that it is.
fn watch(folder: &Path) -> std::io::Result<Receiver> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let events = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_CREATE;
    inotify.add_watch(folder, events)?;
    Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)
}
