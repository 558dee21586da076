//! Containers' logs are rotated when they have grown, and all but the newest of the old ones are compressed
//! (`pkg/kubelet/logs.ContainerLogManager`).
//!
//! A log is looked at now and then, and at once when its writer says that it grows fast ([`grown`]). What cannot wait is
//! a rename; what takes long, the compression, is done by one thread that nobody waits for.

mod files;
pub mod grown;
pub mod links;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use tokio::task::JoinHandle;

pub use files::{follows, forget, is_compressed};

use crate::Shared;
use crate::pods::observed::State;
use crate::pods::spec::PodExt;
use crate::pods::{Handle, Pods, log_directory};

/// When a log is rotated, and how many files there are of it, the one that is written included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes.
    pub max_size: u64,
    pub max_files: usize,
    /// How often it is looked at.
    pub period: Duration,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { max_size: 10 << 20, max_files: 5, period: Duration::from_secs(10) }
    }
}

/// Looks again and again at the logs of containers that run.
pub async fn run(shared: Arc<Shared>, pods: Pods) {
    let mut old = Old::default();
    let period = shared.config.logs.period;
    let mut next = tokio::time::Instant::now() + period;
    loop {
        tokio::select! {
            grown = shared.grown.next() => {
                for (uid, container) in grown {
                    if let Some(handle) = pods.get(&uid) {
                        look_at(&shared, &handle, Some(&container), &mut old).await;
                    }
                }
            }
            () = tokio::time::sleep_until(next) => {
                for handle in pods.list() {
                    look_at(&shared, &handle, None, &mut old).await;
                }
                old.compress();
                next = tokio::time::Instant::now() + period;
            }
        }
    }
}

/// Looks at the logs of a pod, or of one of its containers.
async fn look_at(shared: &Shared, handle: &Handle, only: Option<&str>, old: &mut Old) {
    let observed = handle.observed.lock().clone();
    let pod = handle.pod();
    let directory = log_directory(shared, &pod);
    let running = observed.containers.iter().filter(|one| one.state == State::Running);
    for instance in running.filter(|one| only.is_none_or(|only| one.name == only)) {
        let folder = directory.join(&instance.name);
        if only.is_none() {
            // Watching again changes nothing; one that an earlier kubelet started is not watched yet.
            shared.grown.watch(pod.uid(), &instance.name, &folder);
        }
        let path = folder.join(format!("{}.log", instance.restarts));
        match look(shared, &instance.id, &path).await {
            Ok(true) => drop(old.logs.insert(path)),
            Ok(false) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "a log is not rotated"),
        }
    }
}

/// Rotates a log that has grown. One that is not there was moved away by a kubelet that died before the container was
/// told, as upstream knows: the container writes to the old file until it is. Whether there is another old one now.
async fn look(shared: &Shared, id: &str, path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(file) if file.len() > shared.config.logs.max_size => rotate(shared, id, path).await.map(|()| true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reopened = shared.runtime.reopen_log(id).await;
            reopened.map(|()| true).map_err(|status| io::Error::other(status.message().to_owned()))
        }
        Err(error) => Err(error),
    }
}

async fn rotate(shared: &Shared, id: &str, path: &Path) -> io::Result<()> {
    let now = shared.config.clock.now();
    let keep = shared.config.logs.max_files.saturating_sub(2);
    let owned = path.to_owned();
    let moved = tokio::task::spawn_blocking(move || {
        files::retain(&owned, keep)?;
        let moved = files::rotated(&owned, now);
        fs::rename(&owned, &moved).map(|()| moved)
    })
    .await
    .map_err(io::Error::other)??;
    failpoint::hit("kubelet.log.moved");
    if let Err(status) = shared.runtime.reopen_log(id).await {
        // The container goes on writing to the file that it has: it gets its name back.
        fs::rename(&moved, path)?;
        return Err(io::Error::other(status.message().to_owned()));
    }
    Ok(())
}

/// The logs of which there are old ones that may not be compressed yet, and whoever compresses them.
#[derive(Default)]
struct Old {
    logs: BTreeSet<PathBuf>,
    work: Option<JoinHandle<()>>,
}

impl Old {
    /// Begins with what there is, if nobody is at it still.
    fn compress(&mut self) {
        if self.logs.is_empty() || self.work.as_ref().is_some_and(|work| !work.is_finished()) {
            return;
        }
        let logs = std::mem::take(&mut self.logs);
        self.work = Some(tokio::task::spawn_blocking(move || {
            for path in logs {
                match files::compress_old(&path) {
                    // Its pod is gone.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "an old log is not compressed")
                    }
                    Ok(()) => {}
                }
            }
        }));
    }
}
