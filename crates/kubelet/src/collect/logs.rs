//! Containers' logs are rotated when they have grown, and all but the newest of the old ones are compressed
//! (`pkg/kubelet/logs.ContainerLogManager`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::failpoint;
use jiff::Timestamp;

use crate::Shared;
use crate::pods::Pods;
use crate::pods::log_directory;
use crate::pods::observed::State;

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
    loop {
        tokio::time::sleep(shared.config.logs.period).await;
        for handle in pods.list() {
            let observed = handle.observed.lock().clone();
            let directory = log_directory(&shared, &handle.pod());
            for instance in observed.containers.iter().filter(|c| c.state == State::Running) {
                let path = directory.join(&instance.name).join(format!("{}.log", instance.restarts));
                if let Err(error) = look(&shared, &instance.id, &path).await {
                    tracing::warn!(path = %path.display(), %error, "a log is not rotated");
                }
            }
        }
    }
}

/// Rotates a log that has grown. One that is not there was moved away by a kubelet that died before the container was
/// told, as upstream knows: the container writes to the old file until it is.
async fn look(shared: &Shared, id: &str, path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(file) if file.len() > shared.config.logs.max_size => rotate(shared, id, path).await,
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reopened = shared.runtime.reopen_log(id).await;
            reopened.map_err(|status| io::Error::other(status.message().to_owned()))
        }
        Err(error) => Err(error),
    }
}

async fn rotate(shared: &Shared, id: &str, path: &Path) -> io::Result<()> {
    let now = shared.config.clock.now();
    let keep = shared.config.logs.max_files.saturating_sub(2);
    let (owned, moved) = (path.to_owned(), rotated(path, now));
    let target = moved.clone();
    tokio::task::spawn_blocking(move || {
        clean(&owned, keep)?;
        fs::rename(&owned, &target)
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

/// Such as `0.log.20260102-150405`.
fn rotated(path: &Path, now: Timestamp) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(now.strftime(".%Y%m%d-%H%M%S").to_string());
    PathBuf::from(name)
}

/// Compresses old logs and removes all but the newest `keep`. What an earlier run left half done is removed.
fn clean(path: &Path, keep: usize) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut old = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.starts_with(&prefix) {
            continue;
        }
        if file.ends_with(".tmp") {
            fs::remove_file(entry.path())?;
        } else {
            old.push(entry.path());
        }
    }
    old.sort();
    let surplus = old.len().saturating_sub(keep);
    for path in old.drain(..surplus) {
        fs::remove_file(path)?;
    }
    for path in old.iter().filter(|path| path.extension().is_none_or(|extension| extension != "gz")) {
        compress(path)?;
    }
    Ok(())
}

fn compress(path: &Path) -> io::Result<()> {
    let with = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let temporary = with(".tmp");
    let mut out =
        flate2::write::GzEncoder::new(fs::File::create(&temporary)?, flate2::Compression::default());
    io::copy(&mut fs::File::open(path)?, &mut out)?;
    out.finish()?.sync_all()?;
    fs::rename(&temporary, with(".gz"))?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn old_logs_are_compressed_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for (suffix, text) in [
            ("", "now"),
            (".20260101-000000", "a"),
            (".20260102-000000", "b"),
            (".20260103-000000", "c"),
            (".20260104-000000.tmp", ""),
        ] {
            fs::write(dir.path().join(format!("0.log{suffix}")), text).unwrap();
        }
        clean(&log, 2).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["0.log", "0.log.20260102-000000.gz", "0.log.20260103-000000.gz"]);
        let mut text = String::new();
        let file = fs::File::open(dir.path().join("0.log.20260103-000000.gz")).unwrap();
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "c");
        assert_eq!(rotated(&log, Timestamp::UNIX_EPOCH).file_name().unwrap(), "0.log.19700101-000000");
    }
}
