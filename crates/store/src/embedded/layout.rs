//! The store's directory: its lock, its format record and the database in it.
//!
//! ```text
//! <dir>/lock      held exclusively as long as the store is open
//! <dir>/format    "format = 1", "uuid = …": read before anything else is touched
//! <dir>/data      the database; made as data.new and renamed once it is whole
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use base::Random;

use crate::{Result, StoreError};

/// How long a lock is waited for: a process that was just killed holds it until its last thread is gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// The newest format known here.
pub(super) const FORMAT: u32 = 1;

/// What the format record says.
pub(super) struct Record {
    pub uuid: String,
    /// Kept open: closing it gives the lock up.
    pub lock: File,
}

pub(super) fn io_error(doing: &str, path: &Path, error: impl std::fmt::Display) -> StoreError {
    StoreError::Io { context: format!("{doing} {}", path.display()), message: error.to_string() }
}

/// Makes the directory if need be, locks it, and reads its format record or writes a first one.
pub(super) fn prepare(dir: &Path, random: &dyn Random) -> Result<Record> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| io_error("making the store's directory", dir, e))?;
    let lock = lock(dir)?;
    let path = dir.join("format");
    let uuid = match fs::read_to_string(&path) {
        Ok(text) => parse(&text, dir, &path)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let uuid = random.uuid();
            write_record(dir, &uuid).map_err(|e| io_error("writing the format record", &path, e))?;
            uuid
        }
        Err(e) => return Err(io_error("reading the format record", &path, e)),
    };
    Ok(Record { uuid, lock })
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| io_error("opening the lock file", &path, e))?;
    let since = Instant::now();
    let locked = loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if since.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => break other,
        }
    };
    match locked {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Io {
            context: format!("opening the store in {}", dir.display()),
            message: "another process has it open: stop that one, or use another directory".into(),
        }),
        Err(TryLockError::Error(e)) => Err(io_error("locking", &path, e)),
    }
}

fn parse(text: &str, dir: &Path, path: &Path) -> Result<String> {
    let field = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim())
        })
    };
    let format: u32 = field("format")
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| io_error("reading the format record", path, "it names no format"))?;
    if format > FORMAT {
        return Err(StoreError::NewerFormat {
            path: dir.display().to_string(),
            found: format,
            known: FORMAT,
        });
    }
    field("uuid")
        .map(str::to_owned)
        .ok_or_else(|| io_error("reading the format record", path, "it names no uuid"))
}

fn write_record(dir: &Path, uuid: &str) -> io::Result<()> {
    let new = dir.join("format.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    write!(file, "format = {FORMAT}\nuuid = {uuid}\n")?;
    file.sync_all()?;
    fs::rename(&new, dir.join("format"))?;
    sync_dir(dir)
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
