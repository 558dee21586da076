//! A small client of a message bus (D-Bus), as far as logind and systemd need one: calls, answers with file descriptors,
//! signals.
//!
//! Why not a library: the one that is well kept, zbus, brings forty crates and code that runs at build time, for a
//! dozen messages.

#[cfg(test)]
pub mod daemon;
mod wire;

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

pub use wire::{Kind, Message, Value, WireError};

/// How long an answer is waited for: whoever is asked is a few milliseconds away, or hangs.
const PATIENCE: Duration = Duration::from_secs(25);
/// No line of the handshake is longer.
const LONGEST_LINE: usize = 1024;

/// Why the bus does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// There is none, or it does not let us in.
    #[error("connecting to the message bus {}: {source}", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection is lost.
    #[error("the message bus: {0}")]
    Io(#[from] io::Error),
    /// What came is no message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// Whoever was asked refuses.
    #[error("{call}: {name}: {message}")]
    Refused {
        /// What was asked.
        call: String,
        /// Such as `org.freedesktop.DBus.Error.ServiceUnknown`.
        name: String,
        /// In words.
        message: String,
    },
    /// The answer is not what such a call is answered with.
    #[error("{0} is answered with something else")]
    Answer(&'static str),
    /// There is no answer.
    #[error("{0} is not answered")]
    Silent(String),
}

/// A connection to a bus.
pub struct Bus {
    stream: UnixStream,
    unread: Vec<u8>,
    /// File descriptors that came with bytes that are not read yet, or whose message was.
    fds: VecDeque<OwnedFd>,
    serial: u32,
    /// What came while an answer was waited for.
    waiting: VecDeque<Message>,
}

impl Bus {
    /// Connects as this process's user.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn connect(path: &Path) -> Result<Self, BusError> {
        let failed = |source| BusError::Connect { path: path.to_owned(), source };
        let mut stream = UnixStream::connect(path).await.map_err(failed)?;
        tokio::time::timeout(PATIENCE, shake_hands(&mut stream))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        let (unread, fds, waiting) = (Vec::new(), VecDeque::new(), VecDeque::new());
        let mut bus = Self { stream, unread, fds, serial: 0, waiting };
        bus.of_bus("Hello", Vec::new()).await?;
        Ok(bus)
    }

    /// Asks the bus itself.
    pub async fn of_bus(&mut self, member: &str, body: Vec<Value>) -> Result<Message, BusError> {
        let name = "org.freedesktop.DBus";
        self.call(Message {
            path: "/org/freedesktop/DBus".to_owned(),
            interface: name.to_owned(),
            member: member.to_owned(),
            destination: name.to_owned(),
            body,
            ..Message::new(Kind::Call, 0)
        })
        .await
    }

    /// Asks somebody, and waits for the answer. Signals that come meanwhile are not lost.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn call(&mut self, message: Message) -> Result<Message, BusError> {
        let what = message.member.clone();
        let answered = tokio::time::timeout(PATIENCE, async {
            let serial = self.send(message).await?;
            loop {
                let message = self.read().await?;
                if message.reply_to == Some(serial) {
                    return Ok::<_, BusError>(message);
                }
                self.waiting.push_back(message);
            }
        });
        let answer: Message = match answered.await {
            Ok(answer) => answer?,
            Err(_) => return Err(BusError::Silent(what)),
        };
        if answer.kind != Kind::Error {
            return Ok(answer);
        }
        let message = match answer.body.into_iter().next() {
            Some(Value::Text(text)) => text,
            _ => String::new(),
        };
        Err(BusError::Refused { call: what, name: answer.error, message })
    }

    /// Sends a message under a new number.
    ///
    /// # Errors
    /// [`BusError`].
    pub async fn send(&mut self, message: Message) -> Result<u32, BusError> {
        self.serial += 1;
        let bytes = wire::encode(&Message { serial: self.serial, ..message });
        self.stream.write_all(&bytes).await?;
        Ok(self.serial)
    }

    /// Sends a message with a file descriptor.
    #[cfg(test)]
    pub async fn send_with(&mut self, message: Message, fd: Option<OwnedFd>) {
        use std::os::fd::AsFd;

        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

        self.serial += 1;
        let bytes = wire::encode(&Message { serial: self.serial, ..message });
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        }
        let parts = [io::IoSlice::new(&bytes)];
        let sent = sendmsg(&self.stream, &parts, &mut control, SendFlags::empty()).unwrap();
        assert_eq!(sent, bytes.len());
    }

    /// The next message that is no answer.
    ///
    /// # Errors
    /// [`BusError`], also when the bus is gone.
    pub async fn next(&mut self) -> Result<Message, BusError> {
        match self.waiting.pop_front() {
            Some(message) => Ok(message),
            None => self.read().await,
        }
    }

    /// The file descriptor of the last answer. Others' are closed.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        let last = self.fds.pop_back();
        self.fds.clear();
        last
    }

    /// Until a whole message is there. Bytes of half a message are kept if nobody waits for the rest.
    async fn read(&mut self) -> Result<Message, BusError> {
        loop {
            if let Some(head) = self.unread.get(..wire::HEAD) {
                let length = wire::length(head)?;
                if self.unread.len() >= length {
                    let bytes: Vec<u8> = self.unread.drain(..length).collect();
                    return Ok(wire::decode(&bytes)?);
                }
            }
            let Self { stream, unread, fds, .. } = self;
            if stream.async_io(Interest::READABLE, || receive(stream, unread, fds)).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

/// Reads what is there, with its file descriptors.
fn receive(stream: &UnixStream, unread: &mut Vec<u8>, fds: &mut VecDeque<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = [0; 4096];
    let mut parts = [io::IoSliceMut::new(&mut bytes)];
    let received = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    unread.extend(bytes.get(..received).unwrap_or_default());
    Ok(received)
}

/// Says who we are (the kernel vouches for it), and that file descriptors are welcome.
async fn shake_hands(stream: &mut UnixStream) -> io::Result<()> {
    let user = nix::unistd::geteuid().to_string();
    let hex: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
    stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes()).await?;
    expect(stream, "OK").await?;
    stream.write_all(b"NEGOTIATE_UNIX_FD\r\n").await?;
    expect(stream, "AGREE_UNIX_FD").await?;
    stream.write_all(b"BEGIN\r\n").await
}

async fn expect(stream: &mut UnixStream, word: &str) -> io::Result<()> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < LONGEST_LINE {
        line.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    match line.split(' ').next() == Some(word) {
        true => Ok(()),
        false => Err(io::Error::other(format!("it says {line:?} where {word} was expected"))),
    }
}
