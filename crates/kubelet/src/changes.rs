//! Tells at once that something in a folder has changed, by inotify. Whoever is told looks again, and looks now and then
//! in any case.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
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

    /// Until something happens. What was removed from the folder, or moved out of it; it may be there again.
    pub async fn next(&self) -> BTreeSet<OsString> {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        if let Err(error) = watch.readable().await {
            tracing::warn!(%error, "a folder is not watched any more");
            return std::future::pending().await;
        }
        let (mut events, mut removed) = ([0; 4096], BTreeSet::new());
        while let Ok(read @ 1..) = watch.try_read(&mut events) {
            note_removed(events.get(..read).unwrap_or_default(), &mut removed);
        }
        removed
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

/// The names in whole events (inotify(7)): four numbers, of which the second is the kind and the last the length of the
/// name that follows, with zeros at its end.
fn note_removed(mut events: &[u8], removed: &mut BTreeSet<OsString>) {
    let left = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM;
    while let Some((head, rest)) = events.split_first_chunk::<16>() {
        let [_, kind, _, length] = [0, 4, 8, 12].map(|at| number(head, at));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some((name, rest)) = rest.split_at_checked(length) else { return };
        if let (true, Ok(name)) = (kind & left.bits() != 0, CStr::from_bytes_until_nul(name)) {
            removed.insert(OsStr::from_bytes(name.to_bytes()).to_owned());
        }
        events = rest;
    }
}

fn number(head: &[u8; 16], at: usize) -> u32 {
    let bytes = head.get(at..).and_then(|rest| rest.first_chunk());
    u32::from_ne_bytes(bytes.copied().unwrap_or_default())
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
