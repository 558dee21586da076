//! What is written down about sandboxes and containers, so that a runtime that starts later knows
//! what an earlier one did, or was about to do.
//!
//! Each has a folder below the root with two files: `config.pb`, the CRI's message as it came,
//! written once; and `state.json`, whose first line is written over as a whole. Neither is synced to disk: they have to
//! survive the runtime's death, not the machine's, after which nothing runs anyway.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base::failpoint;
use prost::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::process::Process;

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Reading or writing failed.
    #[error("record {path}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("record {path} cannot be understood: move it away to go on without it ({reason})")]
    Malformed {
        /// Which file.
        path: String,
        /// Why.
        reason: String,
    },
}

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxState {
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// Which handler runs it.
    pub runtime_handler: String,
    /// Its cgroup, complete.
    pub cgroup: String,
    /// Whether it has namespaces of its own.
    pub own_network: bool,
    /// See [`Self::own_network`].
    pub own_ipc: bool,
    /// Its addresses.
    pub ips: Vec<String>,
    /// Where it is.
    pub phase: SandboxPhase,
    /// Its shim.
    pub shim: Option<Process>,
    /// The first process of its own pid namespace, where containers share one.
    pub pid_init: Option<Process>,
}

/// Where a sandbox is between its making and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxPhase {
    /// It is being made: what exists of it has to be cleared away.
    Creating,
    /// Containers can run in it.
    Ready,
    /// It is being stopped: whatever is left of it has to be stopped too.
    Stopping,
    /// It was stopped, or lost to a restart of the machine.
    Stopped,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerState {
    /// Its sandbox.
    pub sandbox: String,
    /// Nanoseconds since 1970.
    pub created_at: i64,
    /// The image's id.
    pub image_id: String,
    /// The image as it was asked for, or its digest where it has one.
    pub image_ref: String,
    /// The image's name with its tag; empty where it has none, or was not written down.
    #[serde(default)]
    pub image_name: String,
    /// Its name within its shim.
    pub handle: u64,
    /// Its cgroup, complete.
    pub cgroup: String,
    /// The log file, complete; empty for none.
    pub log_path: String,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// Its user, as the process has it.
    pub user: (u32, u32, Vec<u32>),
    /// The shim that its sandbox had when it was started: that one knows whether it came to run.
    #[serde(default)]
    pub shim: Option<Process>,
    /// Where it is.
    pub phase: ContainerPhase,
}

/// Where a container is between its making and its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerPhase {
    /// Made, not started.
    Created,
    /// About to be started: whether it runs, its shim knows.
    Starting,
    /// It runs.
    Running {
        /// Its first process.
        process: Process,
        /// Nanoseconds since 1970.
        started_at: i64,
    },
    /// It ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Nanoseconds since 1970; 0 when it never ran.
    pub started_at: i64,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
    /// 128 and the signal, for a process that a signal ended; 255 when nobody could see it.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `Unknown`, `StartError`.
    pub reason: String,
    /// More, for a person.
    pub message: String,
}

/// What the kernel writes to a file in one piece, whatever happens to the writer: a page.
const ONE_PIECE: usize = 4096;

/// Writes a state, so that a reader sees the old one or the new one. It is the file's first line: what an earlier and
/// longer one left behind it means nothing, and a file that is there already needs no more room on its disk.
pub fn save<T: Serialize>(folder: &Path, state: &T) -> Result<(), RecordError> {
    let path = folder.join("state.json");
    let mut line = serde_json::to_vec(state)
        .map_err(|e| RecordError::Malformed { path: path.display().to_string(), reason: e.to_string() })?;
    line.push(b'\n');
    let written = if line.len() <= ONE_PIECE { overwrite(&path, &line) } else { replace(&path, &line) };
    written.map_err(|source| RecordError::Io { path: path.display().to_string(), source })
}

fn overwrite(path: &Path, line: &[u8]) -> io::Result<()> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.write_at(line, 0)? {
        written if written == line.len() => Ok(()),
        // A disk that is full took a part of a first record.
        _ => replace(path, line),
    }
}

/// Reads a state; `None` when there is none.
pub fn load<T: DeserializeOwned>(folder: &Path) -> Result<Option<T>, RecordError> {
    let path = folder.join("state.json");
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.is_empty() {
        // Its writer was ended before its first record.
        return Ok(None);
    }
    serde_json::from_slice(line)
        .map(Some)
        .map_err(|e| RecordError::Malformed { path: path.display().to_string(), reason: e.to_string() })
}

/// Writes a CRI message.
pub fn save_config<T: Message>(folder: &Path, config: &T) -> Result<(), RecordError> {
    let path = folder.join("config.pb");
    replace(&path, &config.encode_to_vec())
        .map_err(|source| RecordError::Io { path: path.display().to_string(), source })
}

/// Reads a CRI message; `None` when there is none.
pub fn load_config<T: Message + Default>(folder: &Path) -> Result<Option<T>, RecordError> {
    let path = folder.join("config.pb");
    let Some(bytes) = read(&path)? else { return Ok(None) };
    T::decode(bytes.as_slice())
        .map(Some)
        .map_err(|e| RecordError::Malformed { path: path.display().to_string(), reason: e.to_string() })
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, RecordError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecordError::Io { path: path.display().to_string(), source }),
    }
}

/// Replaces a file's content as a whole.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, bytes)?;
    failpoint::hit("runtime.record.written");
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shorter_state_is_read_whole_after_a_longer_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load::<String>(folder.path()).unwrap(), None);
        for text in
            ["a rather long state", "short", &"x".repeat(2 * ONE_PIECE), "after one in two pieces", ""]
        {
            save(folder.path(), &text).unwrap();
            assert_eq!(load::<String>(folder.path()).unwrap().as_deref(), Some(text));
        }
    }

    #[test]
    fn a_state_that_was_never_written_is_none_and_a_broken_one_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("state.json"), "").unwrap();
        assert_eq!(load::<String>(folder.path()).unwrap(), None);
        fs::write(folder.path().join("state.json"), "\"half").unwrap();
        load::<String>(folder.path()).unwrap_err();
    }
}
