//! Tells at once that something in a folder has changed, by inotify. Whoever is told looks again, and looks now and then
//! in any case.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The changes of a folder, or of one file.
pub struct Changes(Option<AsyncFd<Watch>>);

struct Watch(Inotify);

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

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

    /// Until something happens. What was removed from the folder, or moved out of it; it may be there again.
    pub async fn next(&self) -> BTreeSet<OsString> {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        let mut events = match watch.async_io(Interest::READABLE, |watch| Ok(watch.0.read_events()?)).await {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "a folder is not watched any more");
                return std::future::pending().await;
            }
        };
        while let Ok(more) = watch.get_ref().0.read_events() {
            events.extend(more);
        }
        let left = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
        events
            .into_iter()
            .filter(|event| event.mask.intersects(left))
            .filter_map(|event| event.name)
            .collect()
    }
}

fn watch(folder: &Path) -> std::io::Result<AsyncFd<Watch>> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let events = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_CREATE;
    inotify.add_watch(folder, events)?;
    AsyncFd::with_interest(Watch(inotify), Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn what_was_removed_is_named_also_when_it_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("stays"), "").unwrap();
        fs::write(path("goes"), "").unwrap();
        let changes = Changes::of(dir.path());
        fs::write(path("stays"), "a").unwrap();
        fs::write(path("new"), "").unwrap();
        fs::rename(path("new"), path("stays")).unwrap();
        assert_eq!(changes.next().await, BTreeSet::from(["new".into()]));
        fs::remove_file(path("goes")).unwrap();
        fs::write(path("goes"), "").unwrap();
        assert_eq!(changes.next().await, BTreeSet::from(["goes".into()]));
        fs::write(path("goes"), "b").unwrap();
        assert_eq!(changes.next().await, BTreeSet::new());
    }
}
