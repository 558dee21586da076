//! SPDY/3.1 as Kubernetes uses it: many byte streams, each with headers, over one connection.
//!
//! There is no flow control, because upstream's implementation has none: what a stream's reader
//! leaves unread holds the connection back, all other streams with it, once [`crate::BUFFER`] is full.
//! With upstream's it does so once fifty frames wait, and its clients open no window that would say more.

mod frame;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use frame::Headers;
use frame::{Decoder, Encoder, Frame};

use crate::{BUFFER, StreamError};

const PROTOCOL_ERROR: u32 = 1;
const CANCEL: u32 = 5;
/// The largest piece of data in a frame.
const PIECE: usize = 16 * 1024;

/// The connection, as its owner sees it. When it and all streams are gone, so is the connection.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    outgoing: mpsc::Sender<Frame>,
    /// Where what the other end sends goes, until it has sent everything.
    streams: Mutex<HashMap<u32, WriteHalf<DuplexStream>>>,
    /// Ends what is sent to the other end, which wants no more of it.
    sending: Mutex<HashMap<u32, CancellationToken>>,
    next_id: AtomicU32,
    server: bool,
}

/// One stream of a session.
pub struct Stream {
    /// Its number; a client's are odd.
    pub id: u32,
    /// What it was opened with. Names are in lower case.
    pub headers: Headers,
    io: DuplexStream,
    outgoing: mpsc::Sender<Frame>,
}

impl Stream {
    /// The first header of that name, without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The bytes of both directions. Shutting the writing side down ends that direction.
    pub fn io(&mut self) -> &mut DuplexStream {
        &mut self.io
    }

    /// Keeps the bytes and forgets the headers.
    pub fn into_io(self) -> DuplexStream {
        self.io
    }

    /// Breaks the stream off.
    pub async fn reset(self) {
        // A connection that is gone has reset it already.
        let _ = self.outgoing.send(Frame::Rst { id: self.id, status: CANCEL }).await;
    }
}

impl Session {
    /// The accepting end. Streams that the client opens come out of the receiver, answered already.
    pub fn server<S>(io: S) -> (Self, mpsc::Receiver<Stream>)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::new(io, true)
    }

    /// The end that opens streams.
    pub fn client<S>(io: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::new(io, false).0
    }

    fn new<S>(io: S, server: bool) -> (Self, mpsc::Receiver<Stream>)
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reader, writer) = tokio::io::split(io);
        let (outgoing, frames) = mpsc::channel(64);
        let (opened, streams) = mpsc::channel(16);
        let first = if server { 2 } else { 1 };
        let shared = Arc::new(Shared {
            outgoing,
            streams: Mutex::default(),
            sending: Mutex::default(),
            next_id: AtomicU32::new(first),
            server,
        });
        let weak = Arc::downgrade(&shared);
        tokio::spawn(write_frames(writer, frames));
        tokio::spawn(async move {
            if let Err(error) = read_frames(reader, &weak, opened).await {
                tracing::debug!(%error, "SPDY connection ended");
            }
            if let Some(shared) = weak.upgrade() {
                let halves: Vec<_> = shared.streams.lock().drain().collect();
                for (_, mut half) in halves {
                    // A reader that is gone needs no end.
                    let _ = half.shutdown().await;
                }
                shared.sending.lock().drain().for_each(|(_, sending)| sending.cancel());
            }
        });
        (Self { shared }, streams)
    }

    /// Opens a stream. It may be used before the other end has agreed.
    pub async fn open(&self, headers: Headers) -> Result<Stream, StreamError> {
        let id = self.shared.next_id.fetch_add(2, Ordering::Relaxed);
        let stream = self.shared.register(id, headers.clone());
        self.send(Frame::SynStream { id, fin: false, headers }).await?;
        Ok(stream)
    }

    /// Says goodbye; streams that are open go on.
    pub async fn go_away(&self) -> Result<(), StreamError> {
        self.send(Frame::GoAway { last: 0, status: 0 }).await
    }

    async fn send(&self, frame: Frame) -> Result<(), StreamError> {
        self.shared.outgoing.send(frame).await.map_err(|_| closed())
    }
}

fn closed() -> StreamError {
    StreamError::Io(std::io::ErrorKind::BrokenPipe.into())
}

impl Shared {
    /// Makes the near end of a stream and pumps what is written there into frames.
    fn register(self: &Arc<Self>, id: u32, headers: Headers) -> Stream {
        let (near, far) = tokio::io::duplex(BUFFER);
        let (from_near, to_near) = tokio::io::split(far);
        self.streams.lock().insert(id, to_near);
        let unwanted = CancellationToken::new();
        self.sending.lock().insert(id, unwanted.clone());
        let (outgoing, shared) = (self.outgoing.clone(), Arc::downgrade(self));
        tokio::spawn(async move {
            tokio::select! {
                () = pump(id, from_near, outgoing) => {}
                () = unwanted.cancelled() => {}
            }
            if let Some(shared) = Weak::upgrade(&shared) {
                shared.sending.lock().remove(&id);
            }
        });
        Stream { id, headers, io: near, outgoing: self.outgoing.clone() }
    }
}

async fn pump(id: u32, mut from: ReadHalf<DuplexStream>, outgoing: mpsc::Sender<Frame>) {
    let mut buf = BytesMut::with_capacity(PIECE);
    loop {
        buf.reserve(PIECE);
        let fin = !matches!(from.read_buf(&mut buf).await, Ok(n) if n > 0);
        let bytes: Bytes = buf.split().freeze();
        if outgoing.send(Frame::Data { id, fin, bytes }).await.is_err() || fin {
            return;
        }
    }
}

async fn write_frames<W: AsyncWrite>(writer: WriteHalf<W>, mut frames: mpsc::Receiver<Frame>) {
    let mut writer = writer;
    let mut encoder = Encoder::default();
    while let Some(frame) = frames.recv().await {
        let mut bytes = encoder.encode(&frame);
        while let Ok(frame) = frames.try_recv() {
            bytes.extend_from_slice(&encoder.encode(&frame));
            if bytes.len() > BUFFER {
                break;
            }
        }
        if let Err(error) = writer.write_all(&bytes).await {
            tracing::debug!(%error, "SPDY connection broke");
            return;
        }
    }
    // The other end may have closed first.
    let _ = writer.shutdown().await;
}

async fn read_frames<R: AsyncRead>(
    mut reader: ReadHalf<R>,
    shared: &Weak<Shared>,
    opened: mpsc::Sender<Stream>,
) -> Result<(), StreamError> {
    let mut decoder = Decoder::default();
    let mut buf = BytesMut::with_capacity(BUFFER);
    loop {
        while let Some(frame) = decoder.decode(&mut buf)? {
            let Some(shared) = shared.upgrade() else { return Ok(()) };
            handle(frame, &shared, &opened).await?;
        }
        if reader.read_buf(&mut buf).await? == 0 {
            return Ok(());
        }
    }
}

async fn handle(
    frame: Frame,
    shared: &Arc<Shared>,
    opened: &mpsc::Sender<Stream>,
) -> Result<(), StreamError> {
    match frame {
        Frame::SynStream { id, fin, headers } => {
            let theirs = id % 2 == u32::from(shared.server);
            if !theirs || shared.streams.lock().contains_key(&id) {
                return send(shared, Frame::Rst { id, status: PROTOCOL_ERROR }).await;
            }
            let stream = shared.register(id, headers);
            if fin {
                end(shared, id).await;
            }
            send(shared, Frame::SynReply { id, fin: false, headers: Headers::new() }).await?;
            // Nobody accepts streams any more: refuse it.
            if opened.send(stream).await.is_err() {
                send(shared, Frame::Rst { id, status: CANCEL }).await?;
            }
        }
        Frame::Data { id, fin, bytes } => {
            let half = shared.streams.lock().remove(&id);
            if let Some(mut half) = half {
                // A reader that is gone loses its data; the connection goes on.
                let alive = half.write_all(&bytes).await.is_ok();
                if fin {
                    let _ = half.shutdown().await;
                } else if alive {
                    shared.streams.lock().insert(id, half);
                }
            }
        }
        Frame::SynReply { id, fin: true, .. } | Frame::Headers { id, fin: true, .. } => end(shared, id).await,
        Frame::Rst { id, .. } => {
            end(shared, id).await;
            let sending = shared.sending.lock().remove(&id);
            if let Some(sending) = sending {
                sending.cancel();
            }
        }
        Frame::Ping { id } => {
            // Answer the other end's pings; ours carry our parity.
            if id % 2 == u32::from(shared.server) {
                send(shared, Frame::Ping { id }).await?;
            }
        }
        Frame::SynReply { .. } | Frame::Headers { .. } | Frame::GoAway { .. } | Frame::Ignored => {}
    }
    Ok(())
}

async fn send(shared: &Shared, frame: Frame) -> Result<(), StreamError> {
    shared.outgoing.send(frame).await.map_err(|_| closed())
}

async fn end(shared: &Shared, id: u32) {
    let half = shared.streams.lock().remove(&id);
    if let Some(mut half) = half {
        // A reader that is gone needs no end.
        let _ = half.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_carry_bytes_both_ways_and_end() {
        let (a, b) = tokio::io::duplex(1024);
        let client = Session::client(a);
        let (_server, mut incoming) = Session::server(b);
        let mut ours = client.open(vec![("streamType".into(), "data".into())]).await.unwrap();
        let mut theirs = incoming.recv().await.unwrap();
        assert_eq!(theirs.header("streamType"), Some("data"));
        let sent = vec![7u8; 200_000];
        let echo = tokio::spawn(async move {
            let mut all = Vec::new();
            theirs.io().read_to_end(&mut all).await.unwrap();
            theirs.io().write_all(&all).await.unwrap();
            theirs.io().shutdown().await.unwrap();
            all.len()
        });
        ours.io().write_all(&sent).await.unwrap();
        ours.io().shutdown().await.unwrap();
        let mut back = Vec::new();
        ours.io().read_to_end(&mut back).await.unwrap();
        assert_eq!((back.len(), echo.await.unwrap()), (200_000, 200_000));
    }

    #[tokio::test]
    async fn what_was_broken_off_cannot_be_written_to() {
        let (a, b) = tokio::io::duplex(1024);
        let client = Session::client(a);
        let (_server, mut incoming) = Session::server(b);
        // Whether the client has sent everything before or not.
        for ended in [false, true] {
            let mut ours = client.open(Headers::new()).await.unwrap();
            let mut theirs = incoming.recv().await.unwrap();
            if ended {
                ours.io().shutdown().await.unwrap();
            }
            ours.reset().await;
            let mut rest = Vec::new();
            assert_eq!(theirs.io().read_to_end(&mut rest).await.unwrap(), 0);
            let written = async { while theirs.io().write_all(&[0; 1024]).await.is_ok() {} };
            tokio::time::timeout(std::time::Duration::from_secs(10), written).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_broken_connection_ends_its_streams() {
        let (a, b) = tokio::io::duplex(1024);
        let client = Session::client(a);
        let mut stream = client.open(Headers::new()).await.unwrap();
        drop(b);
        let mut rest = Vec::new();
        assert_eq!(stream.io().read_to_end(&mut rest).await.unwrap(), 0);
    }
}
