//! Which sockets there are: looked for at once when anything changes in the folder.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::TaskGroup;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;
use tokio::task::AbortHandle;

use super::Handlers;
use super::register::{Registration, keep};

/// Where nothing tells of changes.
const AGAIN: Duration = Duration::from_secs(10);

/// What tells one socket from another of the same path: its inode, and when it was made.
type Identity = (u64, i64, i64);

/// The folder, as it tells of its changes.
struct Folder {
    path: PathBuf,
    inotify: Inotify,
    events: Receiver,
}

impl Folder {
    fn open(path: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o750).create(&path)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let events = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
        Ok(Self { path, inotify, events })
    }

    /// The sockets that are there, folders below included, names that begin with a dot excluded.
    fn sockets(&self) -> io::Result<BTreeMap<PathBuf, Identity>> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![self.path.clone()]);
        while let Some(folder) = folders.pop() {
            // Watched before it is read: what comes between is told. Watching again changes nothing.
            let events = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVE;
            self.inotify.add_watch(&folder, events | AddWatchFlags::IN_ONLYDIR)?;
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if entry.file_name().to_string_lossy().starts_with('.') {
                    continue;
                }
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_socket() {
                    let metadata = entry.metadata()?;
                    let identity = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
                    found.insert(entry.path(), identity);
                }
            }
        }
        Ok(found)
    }

    /// Until something changes.
    async fn changed(&self) {
        let mut buffer = [0; 4096];
        loop {
            if let Err(error) = self.events.readable().await {
                tracing::warn!(folder = %self.path.display(), %error, "plugins are looked for now and then only");
                return tokio::time::sleep(AGAIN).await;
            }
            match self.events.try_read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

/// A socket and the task that keeps its plugin registered.
struct Known {
    identity: Identity,
    task: AbortHandle,
    registration: Arc<Registration>,
}

/// Registers the plugins of a folder until the group stops.
pub async fn follow(path: PathBuf, handlers: Handlers, tasks: TaskGroup) {
    let folder = match Folder::open(path.clone()) {
        Ok(folder) => folder,
        Err(error) => {
            return tracing::error!(folder = %path.display(), %error, "plugins cannot register: the folder is not watched");
        }
    };
    let handlers = Arc::new(handlers);
    let mut known: BTreeMap<PathBuf, Known> = BTreeMap::new();
    loop {
        match folder.sockets() {
            Ok(found) => reconcile(&mut known, &found, &handlers),
            // What cannot be read is not empty: whoever is registered stays so.
            Err(error) => {
                tracing::warn!(folder = %path.display(), %error, "plugins cannot be looked for");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        }
        tokio::select! {
            () = folder.changed() => {}
            () = tasks.shutdown().wait() => break,
        }
    }
    known.values().for_each(|known| known.task.abort());
}

fn reconcile(
    known: &mut BTreeMap<PathBuf, Known>,
    found: &BTreeMap<PathBuf, Identity>,
    handlers: &Arc<Handlers>,
) {
    known.retain(|path, known| {
        let stays = found.get(path) == Some(&known.identity);
        if !stays {
            known.task.abort();
            known.registration.end();
        }
        stays
    });
    for (path, identity) in found {
        if known.contains_key(path) {
            continue;
        }
        let registration = Arc::new(Registration::default());
        let task = tokio::spawn(keep(path.clone(), handlers.clone(), registration.clone()));
        known.insert(path.clone(), Known { identity: *identity, task: task.abort_handle(), registration });
    }
}
