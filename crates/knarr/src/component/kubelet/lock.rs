//! `--lock-file`: only one kubelet runs, and with `--exit-on-lock-contention` it makes way for the next.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _held: Flock<File>,
    watch: Option<Receiver>,
}

impl Lock {
    /// Waits until nobody else holds it.
    ///
    /// # Errors
    /// When the file cannot be opened, locked or watched.
    pub async fn acquire(path: &Path, makes_way: bool) -> Result<Self> {
        let failed = || format!("locking {}", path.display());
        let file =
            File::options().create(true).truncate(false).write(true).open(path).with_context(failed)?;
        let locked = tokio::task::spawn_blocking(|| Flock::lock(file, FlockArg::LockExclusive)).await?;
        let held = locked.map_err(|(_, error)| error).with_context(failed)?;
        let watch = makes_way.then(|| watch(path)).transpose().with_context(failed)?;
        Ok(Self { _held: held, watch })
    }

    /// Until another one opens or removes the file, and this one is to make way; never, where it is not.
    pub async fn contended(&self) {
        match &self.watch {
            None => std::future::pending().await,
            Some(watch) => drop(watch.readable().await),
        }
    }
}

/// Until a lock is wanted by another one; never, where there is none.
pub async fn contended(lock: Option<&Lock>) {
    match lock {
        Some(lock) => lock.contended().await,
        None => std::future::pending().await,
    }
}

/// An inotify, read as the stream of bytes that it is.
fn watch(path: &Path) -> Result<Receiver> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(path, AddWatchFlags::IN_OPEN | AddWatchFlags::IN_DELETE_SELF)?;
    Ok(Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_makes_way_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubelet.lock");
        let first = Lock::acquire(&path, true).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), first.contended()).await.is_err());
        let second = Lock::acquire(&path, false);
        tokio::pin!(second);
        tokio::select! {
            () = first.contended() => {}
            _ = &mut second => panic!("two have it"),
        }
        drop(first);
        second.await.unwrap();
    }
}
