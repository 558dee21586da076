//! Hears at once that a log grows fast, without being woken by one that does not.
//!
//! Whoever writes a log sets its times anew after each further megabyte, which nothing else does to it: the kernel tells
//! of that (`IN_ATTRIB`), and not of the writing itself. A writer that does not (another runtime's) is looked at now and
//! then only.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use parking_lot::Mutex;
use tokio::net::unix::pipe::Receiver;

/// A pod's uid, and the name of a container.
type Whose = (String, String);

/// The folders of logs, which are told apart by whose they are.
pub struct Grown(Option<Watch>);

struct Watch {
    inotify: Inotify,
    ready: Receiver,
    folders: Mutex<HashMap<WatchDescriptor, Whose>>,
}

impl Grown {
    /// Where folders cannot be watched, nothing is ever heard.
    pub fn new() -> Self {
        match open() {
            Ok(watch) => Self(Some(watch)),
            Err(error) => {
                tracing::warn!(%error, "logs are not watched, and looked at now and then only");
                Self(None)
            }
        }
    }

    /// Hears of a container's log from now on. The folder's end ends this.
    pub fn watch(&self, uid: &str, container: &str, folder: &Path) {
        let Some(watch) = &self.0 else { return };
        let mut folders = watch.folders.lock();
        match watch.inotify.add_watch(folder, AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_ONLYDIR) {
            Ok(descriptor) => {
                folders.entry(descriptor).or_insert_with(|| (uid.to_owned(), container.to_owned()));
            }
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "a log is looked at now and then only");
            }
        }
    }

    /// Waits until logs have grown, and tells whose.
    pub async fn next(&self) -> BTreeSet<Whose> {
        let Some(watch) = &self.0 else { return std::future::pending().await };
        loop {
            match watch.heard().await {
                Ok(grown) if grown.is_empty() => {}
                Ok(grown) => return grown,
                Err(error) => {
                    tracing::warn!(%error, "logs are not watched any more, and looked at now and then only");
                    return std::future::pending().await;
                }
            }
        }
    }
}

impl Watch {
    /// Waits for events, and tells whose logs they are about, if any.
    async fn heard(&self) -> io::Result<BTreeSet<Whose>> {
        self.ready.readable().await?;
        let events = match self.inotify.read_events() {
            Ok(events) => events,
            Err(Errno::EAGAIN) => {
                // Only who reads through it finds out that there is nothing more. What comes right now is taken with
                // it, and may be about anybody.
                let read = self.ready.try_read(&mut [0; 4096]);
                return match read {
                    Ok(_) => Ok(self.folders.lock().values().cloned().collect()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(BTreeSet::new()),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error.into()),
        };
        let mut folders = self.folders.lock();
        let mut grown = BTreeSet::new();
        for event in events {
            if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                folders.remove(&event.wd);
            } else if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                grown.extend(folders.values().cloned());
            } else if event.name.is_some() {
                grown.extend(folders.get(&event.wd).cloned());
            }
        }
        Ok(grown)
    }
}

fn open() -> io::Result<Watch> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let ready = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
    Ok(Watch { inotify, ready, folders: Mutex::default() })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[tokio::test]
    async fn only_what_is_said_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["a", "b"].map(|name| dir.path().join(name));
        let grown = Grown::new();
        for (folder, name) in folders.iter().zip(["a", "b"]) {
            fs::create_dir(folder).unwrap();
            grown.watch("uid", name, folder);
        }
        let mut logs = folders.each_ref().map(|folder| fs::File::create(folder.join("0.log")).unwrap());
        for log in &mut logs {
            log.write_all(b"text").unwrap();
        }
        let [_, log] = &logs;
        log.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(50), grown.next()).await;
        assert!(nothing.is_err(), "a time of its own is not both: {nothing:?}");
        let now = SystemTime::UNIX_EPOCH;
        log.set_times(fs::FileTimes::new().set_modified(now).set_accessed(now)).unwrap();
        assert_eq!(grown.next().await, BTreeSet::from([("uid".to_owned(), "b".to_owned())]));
        drop(logs);
        fs::remove_dir_all(&folders[1]).unwrap();
        let nothing = tokio::time::timeout(Duration::from_millis(50), grown.next()).await;
        assert!(nothing.is_err());
        assert_eq!(grown.0.unwrap().folders.lock().len(), 1, "whose folder is gone is forgotten");
    }
}
