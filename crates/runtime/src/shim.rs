//! The runtime's end of a pod's shim: starting one, finding it again, asking it things.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::embedded::Programs;
use crate::proto::{self, Header, event, op};
use crate::sys::packet::{self, Packet};
use crate::sys::pipe;

/// How long a shim may take to answer; launching a container is the longest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a shim did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    /// It said so.
    #[error("{0}")]
    Refused(String),
    /// It is gone.
    #[error("the pod's shim is gone")]
    Gone,
    /// It does not answer.
    #[error("the pod's shim did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    /// It is of another version, which says how its packets look.
    #[error(
        "the pod's shim speaks version {0} of the protocol, this runtime {ours}: it stays until its pod is gone", ours = proto::VERSION)]
    Version(i64),
    /// Starting or reaching it failed.
    #[error("the pod's shim")]
    Io(#[from] io::Error),
}

/// News that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A process ended.
    Exited { handle: u64, status: i32 },
    /// The shim is gone.
    Gone,
}

/// An answer.
pub struct Reply {
    /// Its header.
    pub header: Header,
    /// What came along, by `HAS_*` bit.
    pub fds: Descriptors,
}

/// Descriptors by their `HAS_*` bit.
#[derive(Default)]
pub struct Descriptors(Vec<(u64, OwnedFd)>);

impl Descriptors {
    fn new(flags: u64, fds: Vec<OwnedFd>) -> Self {
        let bits = (0..proto::HAS_COUNT).map(|i| 1 << i).filter(|bit| flags & bit != 0);
        Self(bits.zip(fds).collect())
    }

    /// Takes one out.
    pub fn take(&mut self, bit: u64) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(b, _)| *b == bit)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// Descriptors to send, by their `HAS_*` bit.
#[derive(Default)]
pub struct Enclosed<'a>(Vec<(u64, BorrowedFd<'a>)>);

impl<'a> Enclosed<'a> {
    /// Adds one.
    pub fn with(mut self, bit: u64, fd: &'a impl AsFd) -> Self {
        self.0.push((bit, fd.as_fd()));
        self
    }

    /// Adds one, if there is one.
    pub fn maybe(self, bit: u64, fd: Option<&'a OwnedFd>) -> Self {
        match fd {
            Some(fd) => self.with(bit, fd),
            None => self,
        }
    }

    fn into_parts(mut self) -> (u64, Vec<BorrowedFd<'a>>) {
        self.0.sort_by_key(|(bit, _)| *bit);
        (self.0.iter().fold(0, |flags, (bit, _)| flags | bit), self.0.into_iter().map(|(_, fd)| fd).collect())
    }
}

/// A connection to a shim.
#[derive(Clone)]
pub struct Shim {
    inner: Arc<Inner>,
}

struct Inner {
    socket: AsyncFd<OwnedFd>,
    pid: i32,
    next: AtomicU32,
    waiting: Mutex<Waiting>,
    sending: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    gone: bool,
    one: HashMap<u32, oneshot::Sender<Result<Reply, ShimError>>>,
    slots: HashMap<u32, Vec<Reply>>,
}

/// Starts a shim that listens at `socket` and leaves exit records in `records`.
pub fn spawn(programs: &Programs, socket: &Path, records: &Path) -> Result<i32, ShimError> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = packet::listen(socket)?;
    let records = File::open(records)?;
    let mut command = tokio::process::Command::new(&programs.shim);
    // With nothing of ours between fork and exec, no page of this process is copied or marked to be.
    command.stdin(listener).stdout(records).stderr(Stdio::null()).env_clear().current_dir("/");
    let mut child = command.spawn()?;
    let pid = child.id().ok_or(ShimError::Gone)? as i32;
    // It is no longer ours to end, only to reap, should it end before we do.
    tokio::spawn(async move {
        if let Err(error) = child.wait().await {
            tracing::debug!(%error, "a shim was reaped by somebody else");
        }
    });
    Ok(pid)
}

impl Shim {
    /// Connects to a shim. News arrive through `news` from then on.
    pub async fn connect(socket: &Path, news: mpsc::UnboundedSender<News>) -> Result<Self, ShimError> {
        let socket = match packet::connect(socket) {
            Ok(socket) => pipe::watch(socket, Interest::READABLE | Interest::WRITABLE)?,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Err(ShimError::Gone);
            }
            Err(error) => return Err(error.into()),
        };
        let hello =
            tokio::time::timeout(PATIENCE, next_packet(&socket)).await.map_err(|_| ShimError::Silent)??;
        let header = Header::decode(&hello.bytes).ok_or(ShimError::Gone)?;
        if header.kind != event::HELLO || header.a != proto::VERSION {
            return Err(ShimError::Version(header.a));
        }
        let inner = Arc::new(Inner {
            socket,
            pid: header.b as i32,
            next: AtomicU32::new(1),
            waiting: Mutex::default(),
            sending: tokio::sync::Mutex::default(),
        });
        let weak = Arc::downgrade(&inner);
        // The task holds the socket, not the shim: dropping the last handle ends it.
        let reader = inner.clone();
        drop(inner);
        let shim = Self { inner: weak.upgrade().ok_or(ShimError::Gone)? };
        tokio::spawn(async move { reader.listen(news).await });
        Ok(shim)
    }

    /// Its process, as it says itself.
    pub fn pid(&self) -> i32 {
        self.inner.pid
    }

    /// Whether its connection still stands.
    pub fn is_connected(&self) -> bool {
        !self.inner.waiting.lock().gone
    }

    /// Asks for something and waits for the answer.
    pub async fn ask(&self, header: Header, text: &[u8], enclosed: Enclosed<'_>) -> Result<Reply, ShimError> {
        let (seq, answer) = self.prepare()?;
        let (flags, fds) = enclosed.into_parts();
        let header = Header { seq, flags: header.flags | flags, ..header };
        self.inner.send(&header.encode(), text, &fds).await?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(ShimError::Gone),
            Err(_) => {
                self.inner.waiting.lock().one.remove(&seq);
                Err(ShimError::Silent)
            }
        }
    }

    /// All that the shim knows: one reply per process.
    pub async fn list(&self) -> Result<Vec<Reply>, ShimError> {
        let done = self.ask(Header { kind: op::LIST, ..Header::default() }, &[], Enclosed::default()).await?;
        Ok(self.inner.waiting.lock().slots.remove(&done.header.seq).unwrap_or_default())
    }

    fn prepare(&self) -> Result<(u32, oneshot::Receiver<Result<Reply, ShimError>>), ShimError> {
        let seq = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.inner.waiting.lock();
        if waiting.gone {
            return Err(ShimError::Gone);
        }
        waiting.one.insert(seq, sender);
        Ok((seq, receiver))
    }
}

async fn next_packet(socket: &AsyncFd<OwnedFd>) -> io::Result<Packet> {
    socket.async_io(Interest::READABLE, |fd| packet::receive(fd.as_fd())).await
}

impl Inner {
    async fn send(&self, header: &[u8], text: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ShimError> {
        let _turn = self.sending.lock().await;
        let sent = self
            .socket
            .async_io(Interest::WRITABLE, |fd| packet::send(fd.as_fd(), [header, text], fds))
            .await;
        match sent {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                Err(ShimError::Gone)
            }
            other => other.map_err(Into::into),
        }
    }

    async fn listen(self: Arc<Self>, news: mpsc::UnboundedSender<News>) {
        loop {
            tokio::select! {
                packet = next_packet(&self.socket) => match packet {
                    Ok(packet) if !packet.bytes.is_empty() => self.take(packet, &news),
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, pid = self.pid, "reading from a shim");
                        break;
                    }
                },
                // Nobody wants to hear any more.
                () = news.closed() => return,
            }
        }
        let unanswered: Vec<_> = {
            let mut waiting = self.waiting.lock();
            waiting.gone = true;
            waiting.one.drain().collect()
        };
        for (_, sender) in unanswered {
            // Whoever asked may have given up.
            let _ = sender.send(Err(ShimError::Gone));
        }
        let _ = news.send(News::Gone);
    }

    fn take(&self, packet: Packet, news: &mpsc::UnboundedSender<News>) {
        let Some(header) = Header::decode(&packet.bytes) else { return };
        let reply = Reply { header, fds: Descriptors::new(header.flags, packet.fds) };
        match header.kind {
            event::EXITED => {
                // The receiver is gone only when the pod is.
                let _ = news.send(News::Exited { handle: header.handle, status: header.b as i32 });
            }
            event::SLOT => self.waiting.lock().slots.entry(header.seq).or_default().push(reply),
            _ => {
                let answer = self.waiting.lock().one.remove(&header.seq);
                let Some(answer) = answer else { return };
                let result = if header.kind == event::ERROR {
                    let text = packet.bytes.get(proto::HEADER..).unwrap_or_default();
                    Err(ShimError::Refused(String::from_utf8_lossy(text).into_owned()))
                } else {
                    Ok(reply)
                };
                // Whoever asked may have given up.
                let _ = answer.send(result);
            }
        }
    }
}
