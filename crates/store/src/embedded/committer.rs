//! The one thread that writes: it takes what waits, evaluates it in order as one group, makes it durable
//! with one fsync, hands the events out, and only then answers. Its first failure is its last act.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use base::SharedClock;
use tokio::sync::oneshot;

use super::group::Group;
use super::leases::Leases;
use super::room::Purpose;
use super::tables::Tables;
use super::{Fault, Shared};
use crate::{Commit, LeaseId, Op, Result, Revision, StoreError};

pub(super) enum Message {
    Work(Request),
    /// Finish what came before, then end.
    Close,
}

pub(super) enum Request {
    Commit { ops: Vec<Op>, reply: oneshot::Sender<Result<Commit>> },
    Grant { ttl_seconds: u64, reply: oneshot::Sender<Result<LeaseId>> },
    Compact { revision: Revision, reply: oneshot::Sender<Result<()>> },
}

impl Request {
    pub fn refuse(self, reason: StoreError) {
        // A caller that went away no longer wants to know.
        match self {
            Self::Commit { reply, .. } => drop(reply.send(Err(reason))),
            Self::Grant { reply, .. } => drop(reply.send(Err(reason))),
            Self::Compact { reply, .. } => drop(reply.send(Err(reason))),
        }
    }
}

/// An answer that waits for the group to be durable.
enum Answer {
    Commit(oneshot::Sender<Result<Commit>>, Result<Commit>),
    Grant(oneshot::Sender<Result<LeaseId>>, Result<LeaseId>),
    Compact(oneshot::Sender<Result<()>>, Result<()>),
}

impl Answer {
    fn send(self) {
        match self {
            Self::Commit(reply, result) => drop(reply.send(result)),
            Self::Grant(reply, result) => drop(reply.send(result)),
            Self::Compact(reply, result) => drop(reply.send(result)),
        }
    }

    fn fail(self, error: StoreError) {
        match self {
            Self::Commit(reply, _) => drop(reply.send(Err(error))),
            Self::Grant(reply, _) => drop(reply.send(Err(error))),
            Self::Compact(reply, _) => drop(reply.send(Err(error))),
        }
    }
}

/// Requests and bytes that one group takes at most.
const GROUP_REQUESTS: usize = 1024;
const GROUP_BYTES: usize = 8 << 20;
/// How long a group waits at most for clients that were in the last one.
const LINGER: Duration = Duration::from_micros(200);
/// The longest sleep while a lease runs, so that a clock that was moved is noticed.
const LEASE_CHECK: Duration = Duration::from_secs(1);

pub(super) struct Committer {
    pub shared: Arc<Shared>,
    pub tables: Arc<Tables>,
    pub requests: Receiver<Message>,
    pub leases: Leases,
    pub clock: SharedClock,
    pub fault: Option<Fault>,
    pub revision: Revision,
    pub compacted: Revision,
    /// Whether there was too little room to end leases.
    pub full: bool,
}

impl Committer {
    /// Runs until it is told to close, every sender is gone, or a commit fails.
    pub fn run(mut self) {
        let mut last_group = 0;
        loop {
            let (requests, close) = match self.wait() {
                Some(first) => self.gather(first, last_group),
                None => (VecDeque::new(), false),
            };
            last_group = requests.len();
            if let Err(reason) = self.expire_leases().and_then(|()| self.commit(requests)) {
                tracing::error!(%reason, "the store stopped");
                self.shared.poison(reason);
                break;
            }
            if close {
                break;
            }
        }
        let reason = self.shared.refusal();
        for message in self.requests.try_iter() {
            if let Message::Work(request) = message {
                request.refuse(reason.clone());
            }
        }
    }

    /// The next request; `None` when a lease may have ended first.
    fn wait(&self) -> Option<Message> {
        let received = match self.leases.next_end(self.clock.monotonic()) {
            None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            // Leases that end while there is no room wait for it.
            Some(_) if self.full => self.requests.recv_timeout(LEASE_CHECK),
            Some(left) => self.requests.recv_timeout(left.min(LEASE_CHECK)),
        };
        match received {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
        }
    }

    /// Everything that waits already; and if the last group had several clients, those that are about to
    /// come back, since an fsync for one of them would make all others wait for the next.
    fn gather(&self, first: Message, last_group: usize) -> (VecDeque<Request>, bool) {
        let mut group = VecDeque::with_capacity(last_group.max(1));
        let mut bytes = 0;
        let mut next = Some(first);
        let mut deadline = None;
        loop {
            match next.take() {
                Some(Message::Close) => return (group, true),
                Some(Message::Work(request)) => {
                    bytes += weight(&request);
                    group.push_back(request);
                }
                None => return (group, false),
            }
            if group.len() >= GROUP_REQUESTS || bytes >= GROUP_BYTES {
                return (group, false);
            }
            next = match self.requests.try_recv() {
                Ok(message) => Some(message),
                Err(TryRecvError::Disconnected) => Some(Message::Close),
                Err(TryRecvError::Empty) if group.len() < last_group => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + LINGER);
                    self.requests.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
                }
                Err(TryRecvError::Empty) => None,
            };
        }
    }

    fn expire_leases(&mut self) -> std::result::Result<(), Failure> {
        let ended = self.leases.ended(self.clock.monotonic());
        if ended.is_empty() {
            return Ok(());
        }
        let room = &self.shared.room;
        self.full = room.check(room.free(), Purpose::Free).is_err();
        if self.full {
            return Ok(());
        }
        let tables = Arc::clone(&self.tables);
        let mut group = Group::new(&tables, self.revision, self.compacted);
        for id in ended {
            group.expire(id).map_err(Failure::from)?;
            self.leases.remove(id);
        }
        self.write(group)
    }

    fn commit(&mut self, requests: VecDeque<Request>) -> std::result::Result<(), Failure> {
        let tables = Arc::clone(&self.tables);
        let mut group = Group::new(&tables, self.revision, self.compacted);
        let mut answers = Vec::with_capacity(requests.len());
        let mut outcome = Ok(());
        let mut free = self.shared.room.free();
        for request in requests {
            if let Err(full) = self.shared.room.check(free, purpose(&request)) {
                request.refuse(full);
                continue;
            }
            free = free.saturating_sub(weight(&request) as u64);
            let answer = self.evaluate(&mut group, request);
            if let Answer::Commit(_, Err(error @ StoreError::Io { .. })) = &answer {
                // A read failed half way through the transaction, so the group cannot be used.
                outcome = Err(Failure::from(error.clone()));
            }
            answers.push(answer);
        }
        let outcome = outcome.and_then(|()| self.write(group));
        match outcome {
            Ok(()) => answers.into_iter().for_each(Answer::send),
            Err(failure) => {
                // Before anybody hears of it, so that no caller can find the store still accepting.
                self.shared.poison(failure.clone());
                let error = StoreError::Unknown(failure.0.clone());
                answers.into_iter().for_each(|answer| answer.fail(error.clone()));
                return Err(failure);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, group: &mut Group<'_>, request: Request) -> Answer {
        match request {
            Request::Commit { ops, reply } => {
                let result = group.transact(ops, &self.leases).map(|revision| Commit { revision });
                Answer::Commit(reply, result)
            }
            Request::Grant { ttl_seconds, reply } => {
                let id = self.leases.next_id();
                group.grant(id, ttl_seconds);
                self.leases.insert(id, ttl_seconds, self.clock.monotonic());
                Answer::Grant(reply, Ok(id))
            }
            Request::Compact { revision, reply } => Answer::Compact(reply, group.compact(revision)),
        }
    }

    /// Makes a group durable, then visible.
    fn write(&mut self, group: Group<'_>) -> std::result::Result<(), Failure> {
        let (revision, compacted) = (group.revision, group.compacted);
        let (batch, committed) = group.into_batch();
        let Some(batch) = batch else { return Ok(()) };
        self.inject("before-write")?;
        batch
            .durability(Some(fjall::PersistMode::SyncAll))
            .commit()
            .map_err(|e| Failure::from(self.tables.error("writing", e)))?;
        self.inject("after-write")?;
        self.revision = revision;
        if compacted != self.compacted {
            self.compacted = compacted;
            self.shared.set_compacted(compacted);
        }
        let tables = &self.tables;
        self.shared
            .hub
            .dispatch(&committed, |key, revision| tables.version(key, revision))
            .map_err(Failure::from)?;
        self.shared.set_revision(revision);
        Ok(())
    }

    fn inject(&self, point: &str) -> std::result::Result<(), Failure> {
        let error: Option<io::Error> = self.fault.as_ref().and_then(|fault| fault(point));
        error.map_or(Ok(()), |error| Err(Failure::from(self.tables.error("writing", error))))
    }
}

/// Why the store stops.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failure(pub String);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

fn purpose(request: &Request) -> Purpose {
    match request {
        Request::Commit { ops, .. } => Purpose::of(ops),
        Request::Grant { .. } => Purpose::Keep,
        Request::Compact { .. } => Purpose::Free,
    }
}

fn weight(request: &Request) -> usize {
    let Request::Commit { ops, .. } = request else { return 0 };
    let value = |op: &Op| if let crate::Change::Put { value, .. } = &op.change { value.len() } else { 0 };
    ops.iter().map(|op| op.key.len() + value(op)).sum()
}
