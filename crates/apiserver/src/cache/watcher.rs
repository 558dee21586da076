use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Entry;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was made.
    Added,
    /// It was written again.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change of one object, with its encodings once somebody asked for them.
#[derive(Debug)]
pub struct Change {
    /// The revision of the change.
    pub revision: u64,
    /// What happened.
    pub kind: ChangeKind,
    /// The object now; of a deleted one its last state, with the revision of the deletion.
    pub entry: Arc<Entry>,
    /// The object before.
    pub previous: Option<Arc<Entry>>,
    json: OnceLock<Bytes>,
    protobuf: OnceLock<Bytes>,
}

impl Change {
    /// A change that nobody encoded yet.
    pub fn new(revision: u64, kind: ChangeKind, entry: Arc<Entry>, previous: Option<Arc<Entry>>) -> Self {
        Self { revision, kind, entry, previous, json: OnceLock::new(), protobuf: OnceLock::new() }
    }

    /// The JSON frame of this change in the storage version, encoded by the first who needs it.
    pub fn json_frame(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.json.get_or_init(encode).clone()
    }

    /// The protobuf frame of this change in the storage version, encoded by the first who needs it.
    pub fn protobuf_frame(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.protobuf.get_or_init(encode).clone()
    }
}

/// Why a watch cannot begin or go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The changes after this revision are no longer known.
    #[error("too old resource version: {requested} ({oldest})")]
    TooOld {
        /// The revision asked for.
        requested: u64,
        /// The oldest one from which on changes are known.
        oldest: u64,
    },
    /// The watcher did not keep up.
    #[error("the watch fell too far behind")]
    Lagged,
}

/// A stream of changes.
#[derive(Debug)]
pub struct Watcher {
    backlog: VecDeque<Arc<Change>>,
    queue: mpsc::Receiver<Arc<Change>>,
}

impl Watcher {
    pub(super) fn new(backlog: Vec<Arc<Change>>, queue: mpsc::Receiver<Arc<Change>>) -> Self {
        Self { backlog: backlog.into(), queue }
    }

    /// The next change.
    ///
    /// # Errors
    /// [`Cut::Lagged`] once this watcher was cut off and has read what was queued before.
    pub async fn next(&mut self) -> Result<Arc<Change>, Cut> {
        match self.backlog.pop_front() {
            Some(change) => Ok(change),
            None => self.queue.recv().await.ok_or(Cut::Lagged),
        }
    }

    /// The next change if there is one now.
    pub fn try_next(&mut self) -> Option<Arc<Change>> {
        self.backlog.pop_front().or_else(|| self.queue.try_recv().ok())
    }

    /// Whether nothing waits to be read.
    pub fn is_drained(&self) -> bool {
        self.backlog.is_empty() && self.queue.is_empty()
    }
}
