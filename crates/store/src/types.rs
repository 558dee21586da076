use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// A point in the store's history, as etcd's revision. The first commit of an empty store makes 2, as etcd's does.
pub type Revision = u64;

/// A lease that keys can be bound to; they go when it ends.
pub type LeaseId = i64;

/// A key with its value and history, as etcd's `mvccpb.KeyValue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The whole key.
    pub key: Bytes,
    /// The stored bytes.
    pub value: Bytes,
    /// The revision that made this key (this time).
    pub create_revision: Revision,
    /// The revision of the last write.
    pub mod_revision: Revision,
    /// Writes since the key was made, beginning with 1.
    pub version: u64,
}

/// What must be true of a key for a write to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and was last written at this revision.
    Revision(Revision),
}

/// One change of a transaction.
#[derive(Debug, Clone)]
pub enum Change {
    /// Writes `value`.
    Put {
        /// The new bytes.
        value: Bytes,
        /// The lease that the key is bound to from now on, if any.
        lease: Option<LeaseId>,
    },
    /// Removes the key.
    Delete,
    /// Changes nothing; only the expectation counts.
    Check,
}

/// One key's part in a transaction.
#[derive(Debug, Clone)]
pub struct Op {
    /// The whole key.
    pub key: Bytes,
    /// What must be true of it.
    pub expect: Expect,
    /// What happens to it if everything expected is true.
    pub change: Change,
}

/// The outcome of a transaction whose expectations all held.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The revision at which its changes are visible.
    pub revision: Revision,
}

/// Keys that begin with a prefix, or a half-open range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// The first key that no longer belongs; empty means no end.
    pub end: Bytes,
}

impl KeyRange {
    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let mut end = start.to_vec();
        while let Some(last) = end.pop() {
            if last < u8::MAX {
                end.push(last + 1);
                break;
            }
        }
        Self { start, end: end.into() }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && (self.end.is_empty() || key < &self.end[..])
    }
}

/// How a range is read.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeOptions {
    /// At most so many keys; `None` is no limit.
    pub limit: Option<usize>,
    /// The revision to read at; `None` is the newest confirmed one (a linearizable read).
    pub at: Option<Revision>,
    /// Leave the values empty.
    pub keys_only: bool,
}

/// A consistent read of a range.
#[derive(Debug, Clone)]
pub struct RangeResult {
    /// The revision it was read at.
    pub revision: Revision,
    /// In key order.
    pub kvs: Vec<KeyValue>,
    /// Whether `limit` left some out.
    pub more: bool,
    /// How many keys the range has, those left out included.
    pub count: usize,
}

/// One change of one key, as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The key.
    pub key: Bytes,
    /// The revision of the change. Several events of one transaction share it.
    pub revision: Revision,
    /// What the key holds now; `None` when it was deleted.
    pub current: Option<KeyValue>,
    /// What it held before; `None` when it was made by this change.
    pub previous: Option<KeyValue>,
}

/// What a watch delivers.
#[derive(Debug, Clone)]
pub enum WatchItem {
    /// All events of one revision in this range, in key order.
    Events(Vec<Event>),
    /// Nothing at or below this revision is still to come.
    Progress(Revision),
}

/// Why the store refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The key is not as expected; `current` is what it is.
    #[error("key {} is not as expected", String::from_utf8_lossy(key))]
    Conflict {
        /// The first key whose expectation failed.
        key: Bytes,
        /// What it holds.
        current: Option<KeyValue>,
    },
    /// The revision is older than the oldest kept.
    #[error("revision {requested} was compacted: the oldest kept is {oldest}")]
    Compacted {
        /// The revision asked for.
        requested: Revision,
        /// The oldest that can still be read.
        oldest: Revision,
    },
    /// The revision does not exist yet.
    #[error("revision {requested} is in the future: the store is at {current}")]
    Future {
        /// The revision asked for.
        requested: Revision,
        /// The newest revision.
        current: Revision,
    },
    /// The lease does not exist or has ended.
    #[error("no lease {0}")]
    NoLease(LeaseId),
    /// A watcher that did not keep up was cut off.
    #[error("the watcher fell behind and was cut off at revision {0}")]
    Lagged(Revision),
    /// A commit failed on disk: nothing is accepted until the store is opened again.
    #[error("the store stopped after a failed commit ({0}): free the disk or mend it, then restart")]
    Poisoned(String),
    /// The disk has too little room: nothing was changed, reads go on, and so do writes when there is room again.
    #[error(
        "the disk of {path} is full ({free} MiB are free, and {needed} MiB are kept for what was accepted already): free some of it"
    )]
    NoSpace {
        /// The store's directory.
        path: String,
        /// MiB.
        free: u64,
        /// MiB.
        needed: u64,
    },
    /// The directory was written by a newer format.
    #[error("{path} has store format {found}, and this program knows up to {known}: use a newer knarr")]
    NewerFormat {
        /// The store's directory.
        path: String,
        /// The format found there.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// The outcome of the commit is unknown: it may or may not have happened.
    #[error("the outcome of the commit is unknown: {0}")]
    Unknown(String),
    /// The back end cannot be reached now; nothing was changed.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk or the back end failed.
    #[error("{context}: {message}")]
    Io {
        /// What was being done, to which file or address.
        context: String,
        /// What went wrong.
        message: String,
    },
}

/// A result of the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A stream of what happens in a range. It ends after its first error.
pub type WatchStream = BoxStream<'static, Result<WatchItem>>;

/// What the API server needs of a store. Every method can be called by many tasks at once.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// One key, at a revision (`None`: linearizable). Also tells the revision of the read.
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Revision, Option<KeyValue>)>;

    /// Many keys at one revision.
    async fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult>;

    /// Applies all of `ops` at one new revision, or none: `Conflict` names the first key that is not as
    /// expected. Returns once the commit is durable and visible.
    async fn commit(&self, ops: Vec<Op>) -> Result<Commit>;

    /// Everything that happens in `range` from revision `from` on (that one included).
    /// `Compacted` when history no longer reaches back that far.
    async fn watch(&self, range: &KeyRange, from: Revision) -> Result<WatchStream>;

    /// A revision that was the newest at some moment after this call began. Calls that wait at the same
    /// time share one confirmation. Every open watch that is behind it goes on to tell events or
    /// progress up to it.
    async fn confirm(&self) -> Result<Revision>;

    /// Why it will answer nothing any more until it is opened anew, if that is so.
    fn lost(&self) -> Option<String> {
        None
    }

    /// Forgets history below `revision`: reads at older revisions and watches from there fail from now on.
    async fn compact(&self, revision: Revision) -> Result<()>;

    /// Begins a lease of so many seconds.
    async fn grant_lease(&self, ttl_seconds: i64) -> Result<LeaseId>;

    /// Bytes on disk, as far as the back end knows.
    async fn size(&self) -> Result<u64>;

    /// Lets go of memory that was wanted for a busy time. What was acknowledged is as durable before as afterwards.
    async fn rest(&self) {}

    /// Makes everything durable and lets go of files and connections.
    async fn close(&self) -> Result<()>;
}
