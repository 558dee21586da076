//! The database's tables, and consistent views of them.
//!
//! A view is a snapshot together with the revision that was written in the same batches as its rows,
//! so whatever it shows is durable and belongs to exactly that revision.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fjall::config::PinningPolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, Readable, Snapshot};

use super::layout;
use super::record::{self, Logged, Meta, Version};
use crate::{KeyRange, KeyValue, RangeOptions, RangeResult, Result, Revision, StoreError};

pub(super) const REVISION: &str = "revision";
pub(super) const COMPACTED: &str = "compacted";
pub(super) const SCRUBBED: &str = "scrubbed";

const MIB: u64 = 1 << 20;
/// What opening reads again at most, about; the engine takes no less.
const JOURNAL_BYTES: u64 = 64 * MIB;
/// How long tables may take to be written before nobody waits for them any more.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// Every table of the store. Dropping it closes the database, then gives the directory's lock up.
pub(super) struct Tables {
    pub data: Keyspace,
    pub current: Keyspace,
    pub log: Keyspace,
    pub leases: Keyspace,
    pub lease_keys: Keyspace,
    pub meta: Keyspace,
    pub db: Database,
    path: PathBuf,
    _lock: File,
}

impl Tables {
    /// Opens the database of a prepared directory; makes it first if it is missing.
    pub fn open(dir: &Path, lock: File, cache_bytes: u64) -> Result<Self> {
        let path = dir.join("data");
        let failed = |doing: &str, e: &dyn std::fmt::Display| layout::io_error(doing, &path, e);
        if !path.try_exists().map_err(|e| failed("looking for", &e))? {
            // A database that a crash left half made cannot be opened, hence the second name.
            let new = dir.join("data.new");
            match fs::remove_dir_all(&new) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed("making", &e)),
                _ => {}
            }
            let (db, keyspaces) = open_database(&new, cache_bytes).map_err(|e| failed("making", &e))?;
            db.persist(fjall::PersistMode::SyncAll).map_err(|e| failed("making", &e))?;
            drop(keyspaces);
            drop(db);
            fs::rename(&new, &path).map_err(|e| failed("making", &e))?;
            layout::sync_dir(dir).map_err(|e| failed("making", &e))?;
        }
        let (db, [data, current, log, leases, lease_keys, meta]) =
            open_database(&path, cache_bytes).map_err(|e| failed("opening", &e))?;
        Ok(Self { data, current, log, leases, lease_keys, meta, db, path, _lock: lock })
    }

    pub fn error(&self, doing: &str, error: impl std::fmt::Display) -> StoreError {
        layout::io_error(doing, &self.path, error)
    }

    fn corrupt(&self, what: impl std::fmt::Display) -> StoreError {
        self.error("reading", format!("the row of {what} is damaged: restore a backup"))
    }

    /// Writes what was written last, and is in memory beside the journal, into tables of its own, and waits for that.
    pub fn rest(&self) -> Result<()> {
        let large = [&self.data, &self.current, &self.log];
        for keyspace in large {
            keyspace.rotate_memtable().map_err(|e| self.error("writing", e))?;
        }
        let since = Instant::now();
        while large.iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) && since.elapsed() < PATIENCE
        {
            std::thread::sleep(LOOK);
        }
        if large.iter().any(|keyspace| keyspace.sealed_memtable_count() > 0) {
            return Err(self.error("writing", format!("tables are not written after {PATIENCE:?}")));
        }
        Ok(())
    }

    /// The newest durable state.
    pub fn view(&self) -> Result<View<'_>> {
        let snapshot = self.db.snapshot();
        let mut view = View { tables: self, snapshot, revision: 1 };
        view.revision = view.number(REVISION)?.unwrap_or(1);
        Ok(view)
    }

    /// What the newest version of a key is, for the committer, which is the only writer.
    pub fn meta_of(&self, key: &[u8]) -> Result<Option<Meta>> {
        let row = self.current.get(key).map_err(|e| self.error("reading", e))?;
        row.map(|row| Meta::decode(&row).ok_or_else(|| self.corrupt(String::from_utf8_lossy(key))))
            .transpose()
    }

    /// The version of `key` that was made at `revision`.
    pub fn version(&self, key: &Bytes, revision: Revision) -> Result<Option<KeyValue>> {
        let row = self.data.get(record::data_key(key, revision)).map_err(|e| self.error("reading", e))?;
        self.decode_version(key, revision, row)
    }

    fn decode_version(
        &self,
        key: &Bytes,
        revision: Revision,
        row: Option<fjall::Slice>,
    ) -> Result<Option<KeyValue>> {
        let version = row
            .and_then(|row| Version::decode(row.into()))
            .ok_or_else(|| self.corrupt(format!("{} at {revision}", String::from_utf8_lossy(key))))?;
        Ok(version.into_key_value(key.clone(), revision))
    }
}

type SixKeyspaces = [Keyspace; 6];

fn open_database(path: &Path, cache_bytes: u64) -> fjall::Result<(Database, SixKeyspaces)> {
    let db = Database::builder(path)
        .cache_size(cache_bytes)
        .max_journaling_size(JOURNAL_BYTES)
        .worker_threads(2)
        .open()?;
    // Whole index and filter blocks of large tables are megabytes that a small cache would load again and
    // again for single keys, so they are cut into parts.
    let values = || {
        KeyspaceCreateOptions::default()
            .max_memtable_size(16 * MIB)
            .index_block_partitioning_policy(PinningPolicy::all(true))
            .filter_block_partitioning_policy(PinningPolicy::all(true))
    };
    let small = || KeyspaceCreateOptions::default().max_memtable_size(4 * MIB);
    let keyspaces = [
        db.keyspace("data", values)?,
        db.keyspace("current", small)?,
        db.keyspace("log", small)?,
        db.keyspace("leases", small)?,
        db.keyspace("lease_keys", small)?,
        db.keyspace("meta", small)?,
    ];
    Ok((db, keyspaces))
}

/// One consistent state of the store.
pub(super) struct View<'a> {
    tables: &'a Tables,
    snapshot: Snapshot,
    pub revision: Revision,
}

impl View<'_> {
    fn failed(&self, error: impl std::fmt::Display) -> StoreError {
        self.tables.error("reading", error)
    }

    /// A number of the meta table.
    pub fn number(&self, name: &str) -> Result<Option<u64>> {
        let row = self.snapshot.get(&self.tables.meta, name).map_err(|e| self.failed(e))?;
        row.map(|row| record::decode_u64(&row).ok_or_else(|| self.tables.corrupt(name))).transpose()
    }

    fn meta_of(&self, key: &[u8]) -> Result<Option<Meta>> {
        let row = self.snapshot.get(&self.tables.current, key).map_err(|e| self.failed(e))?;
        row.map(|row| Meta::decode(&row).ok_or_else(|| self.tables.corrupt(String::from_utf8_lossy(key))))
            .transpose()
    }

    /// The key as of this view.
    pub fn newest(&self, key: &[u8]) -> Result<Option<KeyValue>> {
        let Some(meta) = self.meta_of(key)? else { return Ok(None) };
        self.version(&Bytes::copy_from_slice(key), meta.modified)
    }

    /// The version of `key` that was made at `revision`.
    pub fn version(&self, key: &Bytes, revision: Revision) -> Result<Option<KeyValue>> {
        let row = self
            .snapshot
            .get(&self.tables.data, record::data_key(key, revision))
            .map_err(|e| self.failed(e))?;
        self.tables.decode_version(key, revision, row)
    }

    /// The key as of `revision`.
    pub fn at(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>> {
        let rows = record::data_key(key, 0)..=record::data_key(key, revision);
        let Some(row) = self.snapshot.range(&self.tables.data, rows).next_back() else { return Ok(None) };
        let (row, value) = row.into_inner().map_err(|e| self.failed(e))?;
        let (key, revision) = record::split_data_key(&row).ok_or_else(|| self.tables.corrupt("a key"))?;
        self.tables.decode_version(&key, revision, Some(value))
    }

    /// The range as of this view.
    pub fn range_newest(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult> {
        // Values lie in the order of keys, so reading all of them is one pass over the history, while a
        // few of them, or none, are found faster by the keys that exist.
        if options.limit.is_none() && !options.keys_only {
            return self.range_at(range, self.revision, options);
        }
        self.range_by_keys(range, options)
    }

    fn range_by_keys(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult> {
        let limit = options.limit.unwrap_or(usize::MAX);
        let mut result = RangeResult { revision: self.revision, kvs: Vec::new(), more: false, count: 0 };
        for row in self.keys(range) {
            result.count += 1;
            if result.kvs.len() >= limit {
                result.more = true;
                continue;
            }
            let (key, meta) = row.into_inner().map_err(|e| self.failed(e))?;
            let key = Bytes::from(key);
            let meta =
                Meta::decode(&meta).ok_or_else(|| self.tables.corrupt(String::from_utf8_lossy(&key)))?;
            if options.keys_only {
                result.kvs.push(KeyValue {
                    key,
                    value: Bytes::new(),
                    create_revision: meta.created,
                    mod_revision: meta.modified,
                    version: meta.version,
                });
            } else {
                result.kvs.extend(self.version(&key, meta.modified)?);
            }
        }
        Ok(result)
    }

    fn keys(&self, range: &KeyRange) -> fjall::Iter {
        if range.end.is_empty() {
            self.snapshot.range(&self.tables.current, &range.start[..]..)
        } else {
            self.snapshot.range(&self.tables.current, &range.start[..]..&range.end[..])
        }
    }

    /// The range as of `revision`, found by its history.
    pub fn range_at(
        &self,
        range: &KeyRange,
        revision: Revision,
        options: RangeOptions,
    ) -> Result<RangeResult> {
        let limit = options.limit.unwrap_or(usize::MAX);
        let mut result = RangeResult { revision, kvs: Vec::new(), more: false, count: 0 };
        let mut newest: Option<(Bytes, Revision, Bytes)> = None;
        let mut take = |newest: Option<(Bytes, Revision, Bytes)>| -> Result<()> {
            let Some((key, revision, value)) = newest else { return Ok(()) };
            if let Some(mut kv) = self.tables.decode_version(&key, revision, Some(value.into()))? {
                result.count += 1;
                if result.kvs.len() < limit {
                    if options.keys_only {
                        kv.value = Bytes::new();
                    }
                    result.kvs.push(kv);
                } else {
                    result.more = true;
                }
            }
            Ok(())
        };
        for row in self.history(range) {
            let (row, value) = row.into_inner().map_err(|e| self.failed(e))?;
            let (key, modified) = record::split_data_key(&row).ok_or_else(|| self.tables.corrupt("a key"))?;
            if modified > revision {
                continue;
            }
            if newest.as_ref().is_some_and(|(last, ..)| *last != key) {
                take(newest.take())?;
            }
            newest = Some((key, modified, value.into()));
        }
        take(newest)?;
        Ok(result)
    }

    fn history(&self, range: &KeyRange) -> fjall::Iter {
        let start = record::escape(&range.start);
        if range.end.is_empty() {
            self.snapshot.range(&self.tables.data, start..)
        } else {
            self.snapshot.range(&self.tables.data, start..record::escape(&range.end))
        }
    }

    /// What the revisions from `from` on changed, oldest first, until `more` says that it is enough.
    pub fn logged(
        &self,
        from: Revision,
        mut more: impl FnMut(Revision, Vec<Logged>) -> Result<bool>,
    ) -> Result<()> {
        for row in self.snapshot.range(&self.tables.log, from.to_be_bytes()..) {
            let (key, value) = row.into_inner().map_err(|e| self.failed(e))?;
            let revision = record::decode_u64(&key).ok_or_else(|| self.tables.corrupt("a revision"))?;
            let changes = record::decode_log(value.into()).ok_or_else(|| self.tables.corrupt(revision))?;
            if !more(revision, changes)? {
                break;
            }
        }
        Ok(())
    }
}
