//! The watch cache: every stored object once, in its storage encoding, and a window of recent changes.
//!
//! All reads are served from here. One [`Feeder`](feeder::Feeder) follows the whole store and keeps every cache at
//! the same revision, so that one confirmation by the store makes any read consistent. It knows nothing of
//! requests, users or versions.
//!
//! Invariants:
//! - An entry's bytes carry its resource version; entries are immutable and shared.
//! - A watcher sees every change after its first revision in order, or is cut off with an error.
//! - A revision is visible here only after the store said that it is durable.

mod entry;
pub mod feeder;
mod watcher;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc};

pub use entry::{Entry, Extract, Unreadable};
pub use watcher::{Change, ChangeKind, Cut, Watcher};

/// How many changes a cache remembers for watches that begin in the past.
const WINDOW: usize = 4096;
/// How many of them it remembers once nothing happens any more, as upstream does (`defaultLowerBoundCapacity`).
const RESTING: usize = 100;
/// How many of them, the newest, keep what was encoded of them for watchers.
const FRESH: usize = 512;
/// How far a watcher may lag behind before it is cut off.
const WATCHER_QUEUE: usize = 8192;

/// The newest revision that all caches of a cluster have reached; shared by them.
#[derive(Debug, Default)]
pub struct Progress {
    revision: AtomicU64,
    reached: Notify,
}

impl Progress {
    /// The newest revision reached.
    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Tells that everything up to `revision` has been applied.
    pub fn advance(&self, revision: u64) {
        self.revision.fetch_max(revision, Ordering::AcqRel);
        self.reached.notify_waiters();
    }

    /// Waits until `revision` is reached.
    pub async fn wait_for(&self, revision: u64) {
        loop {
            let notified = self.reached.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.revision() >= revision {
                return;
            }
            notified.await;
        }
    }
}

/// The objects stored below one prefix.
pub struct Cache {
    /// Where its keys begin, without the trailing slash.
    pub prefix: String,
    extract: Arc<dyn Extract>,
    state: RwLock<State>,
    watchers: Mutex<Vec<mpsc::Sender<Arc<Change>>>>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<Arc<str>, Arc<Entry>>,
    window: VecDeque<Arc<Change>>,
    /// Watches may begin right after this revision or later.
    window_start: u64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({})", self.prefix)
    }
}

impl Cache {
    /// An empty cache of what is stored below `prefix`.
    pub fn new(prefix: impl Into<String>, extract: Arc<dyn Extract>, progress: Arc<Progress>) -> Self {
        let window_start = progress.revision();
        Self {
            prefix: prefix.into(),
            extract,
            state: RwLock::new(State { window_start, ..State::default() }),
            watchers: Mutex::default(),
            progress,
        }
    }

    /// The revision that all caches have reached.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// The entry of a key, which is relative to the prefix: `NAMESPACE/NAME` or `NAME`.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().entries.get(key).cloned()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All entries of a namespace (`""`: of all), in key order, with the revision at which that was so.
    pub fn list(&self, namespace: &str) -> (u64, Vec<Arc<Entry>>) {
        let state = self.state.read();
        // Read under the lock: nothing newer than this can be among the entries of this cache unless it is
        // being announced at this moment, and then it is no older than what was asked for.
        let newest = state.window.back().map_or(0, |change| change.revision);
        let revision = self.progress.revision().max(newest);
        if namespace.is_empty() {
            return (revision, state.entries.values().cloned().collect());
        }
        let first = format!("{namespace}/");
        let entries = state
            .entries
            .range::<str, _>((Bound::Included(first.as_str()), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&first))
            .map(|(_, entry)| entry.clone())
            .collect();
        (revision, entries)
    }

    /// Begins a watch right after `from` (`None`: now). The changes of the window that are newer come first.
    ///
    /// # Errors
    /// [`Cut::TooOld`] when the window no longer reaches back to `from`.
    pub fn watch(&self, from: Option<u64>) -> Result<Watcher, Cut> {
        let (sender, receiver) = mpsc::channel(WATCHER_QUEUE);
        let state = self.state.read();
        let backlog = match from {
            None => Vec::new(),
            Some(from) if from < state.window_start => {
                return Err(Cut::TooOld { requested: from, oldest: state.window_start });
            }
            Some(from) => {
                let newer = state.window.partition_point(|change| change.revision <= from);
                state.window.range(newer..).cloned().collect()
            }
        };
        // Still under the lock: no change can fall between the backlog and the queue.
        self.watchers.lock().push(sender);
        Ok(Watcher::new(backlog, receiver))
    }

    /// All entries now and a watch of everything after them, without a gap between.
    pub fn list_and_watch(&self, namespace: &str) -> (u64, Vec<Arc<Entry>>, Watcher) {
        let (sender, receiver) = mpsc::channel(WATCHER_QUEUE);
        let state = self.state.read();
        self.watchers.lock().push(sender);
        let newest = state.window.back().map_or(0, |change| change.revision);
        let revision = self.progress.revision().max(newest);
        let first = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let entries = state
            .entries
            .range::<str, _>((Bound::Included(first.as_str()), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&first))
            .map(|(_, entry)| entry.clone())
            .collect();
        (revision, entries, Watcher::new(Vec::new(), receiver))
    }

    /// Applies a change that the store told: the bytes of `value` as stored, or `None` for a deletion.
    ///
    /// # Errors
    /// What [`Extract`] says of bytes that cannot be read; the change is then not applied.
    pub fn apply(&self, key: &str, revision: u64, value: Option<&[u8]>) -> Result<(), entry::Unreadable> {
        // What the cache was filled with included everything up to that revision.
        if revision <= self.state.read().window_start {
            return Ok(());
        }
        let previous = self.get(key);
        let change = match value {
            Some(bytes) => {
                let entry = Arc::new(self.extract.entry(&self.prefix, key, revision, bytes)?);
                let kind = if previous.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
                Change::new(revision, kind, entry, previous)
            }
            None => {
                let Some(previous) = previous else { return Ok(()) };
                // A deletion tells the last state with the resource version of the deletion.
                let entry = Arc::new(self.extract.at_revision(&previous, revision));
                Change::new(revision, ChangeKind::Deleted, entry, Some(previous))
            }
        };
        self.publish(Arc::new(change));
        Ok(())
    }

    fn publish(&self, change: Arc<Change>) {
        let mut state = self.state.write();
        match change.kind {
            ChangeKind::Deleted => {
                state.entries.remove(&*change.entry.key);
            }
            ChangeKind::Added | ChangeKind::Modified => {
                state.entries.insert(change.entry.key.clone(), change.entry.clone());
            }
        }
        if state.window.len() >= WINDOW {
            if let Some(dropped) = state.window.pop_front() {
                state.window_start = dropped.revision;
            }
        }
        state.window.push_back(change.clone());
        if let Some(old) = state.window.len().checked_sub(FRESH + 1).and_then(|at| state.window.get(at)) {
            old.grows_old();
        }
        // A watcher whose queue is full loses its sender: its stream then ends with an error, not with a gap.
        self.watchers.lock().retain(|watcher| watcher.try_send(change.clone()).is_ok());
    }

    /// Loads an object without telling watchers: only while the cache is filled for the first time.
    ///
    /// # Errors
    /// As [`Cache::apply`].
    pub fn load(&self, key: &str, revision: u64, value: &[u8]) -> Result<(), entry::Unreadable> {
        let entry = Arc::new(self.extract.entry(&self.prefix, key, revision, value)?);
        self.state.write().entries.insert(entry.key.clone(), entry);
        Ok(())
    }

    /// Lets go of all changes but the newest, and of what was encoded of these for watchers: who has not sent it yet
    /// encodes for itself. Only when nothing was written for longer than there is between two bookmarks, so that
    /// whoever has followed till now may go on.
    pub fn rest(&self) {
        let mut state = self.state.write();
        // All before one that is old are old.
        let _ = state.window.iter().rev().all(|change| change.grows_old());
        let surplus = state.window.len().saturating_sub(RESTING);
        let last = state.window.drain(..surplus).next_back();
        if let Some(last) = last {
            state.window_start = last.revision;
        }
        state.window.shrink_to_fit();
    }

    /// Forgets what was loaded: only before the cache is declared filled.
    pub fn empty(&self) {
        self.state.write().entries.clear();
    }

    /// Declares the cache filled as of `revision`: watches may begin there.
    pub fn loaded(&self, revision: u64) {
        let mut state = self.state.write();
        state.window_start = revision;
        state.window.clear();
    }
}

#[cfg(test)]
mod tests;
