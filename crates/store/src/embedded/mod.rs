//! The embedded back end: multi-version storage on fjall, for one process.
//!
//! ```text
//! commit → committer (group, one fsync) → hub → watchers
//!                                       ↘ answers
//! get, range → view (snapshot with its revision)
//! watch      → log until caught up → hub
//! compact    → committer (durable), then scrub in the background
//! ```
//!
//! Knows nothing of what keys mean. Its invariants, beside the store's:
//! - The committer is the only writer of keys; scrub only removes what is already unreadable.
//! - A view is taken before the compacted revision is looked at, so it never lacks what it may show.
//! - No row is kept in memory: opening costs the same whatever the number of keys.

mod committer;
mod group;
mod history;
mod hub;
mod layout;
mod leases;
mod record;
mod room;
mod scrub;
mod tables;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base::{SharedClock, SharedRandom, SystemClock, SystemRandom};
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use self::committer::{Committer, Failure, Message, Request};
use self::hub::Hub;
use self::leases::Leases;
use self::room::Room;
use self::tables::{COMPACTED, Tables};
use crate::{
    Change, Commit, KeyRange, KeyValue, LeaseId, Op, RangeOptions, RangeResult, Result, Revision, Store,
    StoreError, WatchStream,
};

/// Asked at each named point of a commit (`before-write`, `after-write`) whether it shall fail: for tests.
pub type Fault = Arc<dyn Fn(&str) -> Option<io::Error> + Send + Sync>;

/// How an embedded store is opened.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// Leases end by its monotonic time.
    pub clock: SharedClock,
    /// A new store gets its uuid from here.
    pub random: SharedRandom,
    /// Events that a watcher may leave untaken before it is cut off.
    pub watch_queue: usize,
    /// Memory for blocks that were read from disk.
    pub cache_bytes: u64,
    /// Bytes of the disk that are left free for what was accepted already. A quarter of them is for what makes room.
    pub reserve_bytes: u64,
    /// Makes commits fail.
    pub fault: Option<Fault>,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            clock: SystemClock::shared(),
            random: SystemRandom::shared(),
            watch_queue: 16_384,
            cache_bytes: 16 << 20,
            reserve_bytes: 32 << 20,
            fault: None,
        }
    }
}

/// A store in a directory of its own, opened by this process alone.
pub struct Embedded {
    shared: Arc<Shared>,
    uuid: String,
    requests: Sender<Message>,
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    committer: Option<JoinHandle<()>>,
    scrub: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What the store's threads, reads and watches share.
struct Shared {
    tables: RwLock<Option<Arc<Tables>>>,
    hub: Arc<Hub>,
    revision: AtomicU64,
    compacted: AtomicU64,
    poisoned: RwLock<Option<String>>,
    room: Room,
}

impl Shared {
    fn tables(&self) -> Result<Arc<Tables>> {
        if let Some(reason) = &*self.poisoned.read() {
            return Err(StoreError::Poisoned(reason.clone()));
        }
        self.tables.read().clone().ok_or_else(closed)
    }

    fn is_open(&self) -> bool {
        self.tables().is_ok()
    }

    /// Why a request is refused once the committer has ended.
    fn refusal(&self) -> StoreError {
        match &*self.poisoned.read() {
            Some(reason) => StoreError::Poisoned(reason.clone()),
            None => closed(),
        }
    }

    fn poison(&self, Failure(reason): Failure) {
        self.poisoned.write().get_or_insert_with(|| reason);
        self.hub.close(&self.refusal());
    }

    fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    fn set_revision(&self, revision: Revision) {
        self.revision.store(revision, Ordering::Release);
    }

    fn compacted(&self) -> Revision {
        self.compacted.load(Ordering::Acquire)
    }

    fn set_compacted(&self, revision: Revision) {
        self.compacted.store(revision, Ordering::Release);
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it was closed".into())
}

/// Runs disk work off the runtime's workers.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| {
        Err(StoreError::Io { context: "reading the store".into(), message: e.to_string() })
    })
}

impl Embedded {
    /// Opens the store in `dir`, which is made if it does not exist.
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<Self> {
        let record = layout::prepare(dir, &*options.random)?;
        let tables = Arc::new(Tables::open(dir, record.lock, options.cache_bytes)?);
        let view = tables.view()?;
        let revision = view.revision;
        let compacted = view.number(COMPACTED)?.unwrap_or(0);
        drop(view);
        let leases = read_leases(&tables, options.clock.monotonic())?;
        let shared = Arc::new(Shared {
            tables: RwLock::new(Some(Arc::clone(&tables))),
            hub: Arc::new(Hub::new(revision, options.watch_queue)),
            revision: AtomicU64::new(revision),
            compacted: AtomicU64::new(compacted),
            poisoned: RwLock::new(None),
            room: Room::new(dir, options.reserve_bytes),
        });
        let (requests, receiver) = mpsc::channel();
        let committer = Committer {
            shared: Arc::clone(&shared),
            tables,
            requests: receiver,
            leases,
            clock: options.clock,
            fault: options.fault,
            revision,
            compacted,
            full: false,
        };
        let spawned = |e: io::Error| layout::io_error("starting the threads of", dir, e);
        let committer = thread("store-commit", move || committer.run()).map_err(spawned)?;
        let (wake, woken) = mpsc::channel();
        let scrubbed = Arc::clone(&shared);
        let scrub = thread("store-scrub", move || scrub::run(&scrubbed, &woken)).map_err(spawned)?;
        // A scrub that the last process left unfinished goes on; the receiver lives as long as the thread.
        let _ = wake.send(());
        let threads = Threads { committer: Some(committer), scrub: Some((wake, scrub)) };
        Ok(Self { shared, uuid: record.uuid, requests, threads: Mutex::new(threads) })
    }

    /// What tells this store from every other one.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.shared.revision()
    }

    /// The oldest revision that can be read; 0 when nothing was compacted yet.
    pub fn compacted(&self) -> Revision {
        self.shared.compacted()
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.tables()?;
        self.requests.send(Message::Work(request(reply))).map_err(|_| self.shared.refusal())?;
        answer.await.unwrap_or_else(|_| Err(self.shared.refusal()))
    }

    /// Ends the threads after what they were asked already, and lets go of the directory.
    fn shut(shared: &Shared, threads: Threads, requests: &Sender<Message>) {
        // A committer that failed has ended already and takes no message.
        drop(requests.send(Message::Close));
        if let Some(committer) = threads.committer {
            drop(committer.join());
        }
        shared.hub.close(&shared.refusal());
        let tables = shared.tables.write().take();
        if let Some((wake, scrub)) = threads.scrub {
            drop(wake);
            drop(scrub.join());
        }
        let Some(tables) = tables else { return };
        let remaining = Arc::downgrade(&tables);
        drop(tables);
        // Reads that are under way finish first; they are short.
        let deadline = Instant::now() + Duration::from_secs(10);
        while remaining.strong_count() > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work)
}

fn read_leases(tables: &Tables, now: Duration) -> Result<Leases> {
    let mut leases = Leases::default();
    for row in tables.leases.iter() {
        let (id, ttl) = row.into_inner().map_err(|e| tables.error("reading", e))?;
        let (Some(id), Some(ttl)) = (record::decode_u64(&id), record::decode_u64(&ttl)) else {
            return Err(tables.error("reading", "the row of a lease is damaged: restore a backup"));
        };
        leases.insert(id.cast_signed(), ttl, now);
    }
    Ok(leases)
}

fn check_ops(ops: &[Op]) -> Result<()> {
    let refused =
        |message: &str| StoreError::Io { context: "checking a transaction".into(), message: message.into() };
    let mut keys: Vec<_> = ops.iter().map(|op| &op.key).collect();
    keys.sort_unstable();
    if keys.first().is_some_and(|key| key.is_empty()) {
        return Err(refused("a key is empty"));
    }
    if keys.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(refused("a key stands in it twice"));
    }
    // The engine's limit is 65,535 bytes, of which escaping and the revision take some.
    if keys.iter().any(|key| key.len() > 16_384) {
        return Err(refused("a key is longer than 16,384 bytes"));
    }
    if ops.iter().any(|op| matches!(&op.change, Change::Put { value, .. } if value.len() > 64 << 20)) {
        return Err(refused("a value is larger than 64 MiB"));
    }
    Ok(())
}

fn check_revision(requested: Revision, oldest: Revision, current: Revision) -> Result<()> {
    if requested < oldest {
        return Err(StoreError::Compacted { requested, oldest });
    }
    if requested > current {
        return Err(StoreError::Future { requested, current });
    }
    Ok(())
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Revision, Option<KeyValue>)> {
        let tables = self.shared.tables()?;
        let view = tables.view()?;
        match at.filter(|revision| *revision != 0) {
            None => Ok((view.revision, view.newest(key)?)),
            Some(revision) => {
                check_revision(revision, self.shared.compacted(), view.revision)?;
                Ok((revision, view.at(key, revision)?))
            }
        }
    }

    async fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult> {
        let (shared, range) = (Arc::clone(&self.shared), range.clone());
        blocking(move || {
            let tables = shared.tables()?;
            let view = tables.view()?;
            if !range.end.is_empty() && range.start >= range.end {
                return Ok(RangeResult { revision: view.revision, kvs: Vec::new(), more: false, count: 0 });
            }
            match options.at.filter(|revision| *revision != 0) {
                Some(revision) if revision != view.revision => {
                    check_revision(revision, shared.compacted(), view.revision)?;
                    view.range_at(&range, revision, options)
                }
                _ => view.range_newest(&range, options),
            }
        })
        .await
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<Commit> {
        check_ops(&ops)?;
        self.ask(|reply| Request::Commit { ops, reply }).await
    }

    async fn watch(&self, range: &KeyRange, from: Revision) -> Result<WatchStream> {
        self.shared.tables()?;
        let from = from.max(1);
        let oldest = self.shared.compacted();
        if oldest != 0 && from <= oldest {
            return Err(StoreError::Compacted { requested: from, oldest });
        }
        history::watch(Arc::clone(&self.shared), range, from)
    }

    fn lost(&self) -> Option<String> {
        self.shared.poisoned.read().clone()
    }

    async fn confirm(&self) -> Result<Revision> {
        self.shared.tables()?;
        self.shared.hub.progress();
        Ok(self.shared.revision())
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.ask(|reply| Request::Compact { revision, reply }).await?;
        if let Some((wake, _)) = &self.threads.lock().scrub {
            // The thread ends only when the store closes, and then there is nothing to wake.
            let _ = wake.send(());
        }
        Ok(())
    }

    async fn grant_lease(&self, ttl_seconds: i64) -> Result<LeaseId> {
        let ttl_seconds =
            u64::try_from(ttl_seconds).ok().filter(|ttl| *ttl > 0).ok_or_else(|| StoreError::Io {
                context: format!("granting a lease of {ttl_seconds} seconds"),
                message: "its length must be positive".into(),
            })?;
        self.ask(|reply| Request::Grant { ttl_seconds, reply }).await
    }

    async fn size(&self) -> Result<u64> {
        let tables = self.shared.tables()?;
        tables.db.disk_space().map_err(|e| tables.error("measuring", e))
    }

    async fn rest(&self) {
        let shared = Arc::clone(&self.shared);
        if let Err(error) = blocking(move || shared.tables()?.rest()).await {
            tracing::warn!(%error, "what was written last stays in memory");
        }
    }

    async fn close(&self) -> Result<()> {
        let threads = std::mem::take(&mut *self.threads.lock());
        let (shared, requests) = (Arc::clone(&self.shared), self.requests.clone());
        blocking(move || {
            Self::shut(&shared, threads, &requests);
            Ok(())
        })
        .await
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        let threads = std::mem::take(self.threads.get_mut());
        Self::shut(&self.shared, threads, &self.requests);
    }
}
