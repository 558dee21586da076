use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
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
    frames: Mutex<Frames>,
}

/// The encodings of a change for those who watch, while it is new.
#[derive(Debug, Default)]
struct Frames {
    json: Option<Bytes>,
    protobuf: Option<Bytes>,
    /// Nothing is kept any more: who is so far behind encodes for itself.
    old: bool,
}

impl Change {
    /// A change that nobody encoded yet.
    pub fn new(revision: u64, kind: ChangeKind, entry: Arc<Entry>, previous: Option<Arc<Entry>>) -> Self {
        Self { revision, kind, entry, previous, frames: Mutex::default() }
    }

    /// The JSON frame of this change in the storage version, encoded by the first who needs it.
    pub fn json_frame(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.frame(|frames| &mut frames.json, encode)
    }

    /// The protobuf frame of this change in the storage version, encoded by the first who needs it.
    pub fn protobuf_frame(&self, encode: impl FnOnce() -> Bytes) -> Bytes {
        self.frame(|frames| &mut frames.protobuf, encode)
    }

    fn frame(
        &self,
        of: impl FnOnce(&mut Frames) -> &mut Option<Bytes>,
        encode: impl FnOnce() -> Bytes,
    ) -> Bytes {
        let mut frames = self.frames.lock();
        if frames.old {
            drop(frames);
            return encode();
        }
        of(&mut frames).get_or_insert_with(encode).clone()
    }

    /// Keeps its encodings no longer. Whether it had not been told so before.
    pub(super) fn grows_old(&self) -> bool {
        let before = std::mem::replace(&mut *self.frames.lock(), Frames { old: true, ..Frames::default() });
        !before.old
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
