//! Sessions over SPDY/3.1: one stream for each purpose, told apart by the header `streamType`.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Options, Outcome, Session, TerminalSize};
use crate::spdy::{Session as Connection, Stream};
use crate::{BUFFER, StreamError};

pub(super) const PROTOCOLS: &[&str] =
    &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Streams {
    async fn wait(
        incoming: &mut mpsc::Receiver<Stream>,
        options: Options,
        resizes: bool,
    ) -> Result<Self, StreamError> {
        let wanted = [true, options.stdin, options.stdout, options.stderr, options.tty && resizes];
        let mut missing = wanted.iter().filter(|wanted| **wanted).count();
        let mut streams = Self::default();
        while missing > 0 {
            let stream = incoming.recv().await.ok_or_else(|| {
                StreamError::Protocol("the client left before its streams were open".into())
            })?;
            let slot = match stream.header("streamType") {
                Some("error") => &mut streams.error,
                Some("stdin") => &mut streams.stdin,
                Some("stdout") => &mut streams.stdout,
                Some("stderr") => &mut streams.stderr,
                Some("resize") => &mut streams.resize,
                other => return Err(StreamError::Protocol(format!("unexpected stream type: {other:?}"))),
            };
            if slot.replace(stream).is_none() {
                missing -= 1;
            }
        }
        Ok(streams)
    }
}

pub(super) async fn serve<S>(io: S, options: Options, protocol: &str) -> Result<Session, StreamError>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (connection, mut incoming) = Connection::server(io);
    let resizes = protocol.starts_with("v4.") || protocol.starts_with("v3.");
    let streams = Streams::wait(&mut incoming, options, resizes).await?;
    let json_status = protocol.starts_with("v4.");

    let (sizes, resize) = mpsc::channel(8);
    if let Some(stream) = streams.resize {
        tokio::spawn(read_sizes(stream, sizes));
    }
    let gone = CancellationToken::new();
    tokio::spawn({
        let gone = gone.clone();
        // The receiver ends with the connection; streams beyond the expected ones are dropped.
        async move {
            while incoming.recv().await.is_some() {}
            gone.cancel();
        }
    });
    // Output goes through a pipe of its own, so that the end of it is known before the status is sent.
    let (stdout, stdout_task) = outgoing(streams.stdout).unzip();
    let (stderr, stderr_task) = outgoing(streams.stderr).unzip();
    let (finish, outcome) = oneshot::channel();
    let (finished, done) = oneshot::channel();
    let error = streams.error;
    tokio::spawn(async move {
        let outcome: Outcome =
            outcome.await.unwrap_or_else(|_| Outcome::Failed("the session was abandoned".into()));
        for task in [stdout_task, stderr_task].into_iter().flatten() {
            // A pump that failed has nothing more to send.
            let _ = task.await;
        }
        if let Some(mut stream) = error {
            let status = if json_status { outcome.to_status() } else { outcome.to_text() };
            let sent = async {
                stream.io().write_all(&status).await?;
                stream.io().shutdown().await?;
                // The client closes the stream, or the connection, when it has read the status.
                let mut rest = Vec::new();
                stream.io().read_to_end(&mut rest).await
            };
            if let Ok(Err(error)) = tokio::time::timeout(std::time::Duration::from_secs(5), sent).await {
                tracing::debug!(%error, "status not sent");
            }
        }
        drop(connection);
        let _ = finished.send(());
    });
    let stdin = if options.stdin { streams.stdin.map(Stream::into_io) } else { None };
    Ok(Session { stdin, stdout, stderr, resize, gone, finish, done })
}

fn outgoing(stream: Option<Stream>) -> Option<(DuplexStream, tokio::task::JoinHandle<()>)> {
    let mut stream = stream?;
    let (near, mut far) = tokio::io::duplex(BUFFER);
    let task = tokio::spawn(async move {
        if let Err(error) = tokio::io::copy(&mut far, stream.io()).await {
            tracing::debug!(%error, "output stream broke");
        }
        // The other end may have closed it.
        let _ = stream.io().shutdown().await;
    });
    Some((near, task))
}

async fn read_sizes(mut stream: Stream, sizes: mpsc::Sender<TerminalSize>) {
    let mut buf = Vec::new();
    while let Ok(n) = stream.io().read_buf(&mut buf).await
        && n > 0
    {
        let mut values = serde_json::Deserializer::from_slice(&buf).into_iter::<TerminalSize>();
        while let Some(Ok(size)) = values.next() {
            // A size that nobody reads is superseded by the next one.
            let _ = sizes.try_send(size);
        }
        let used = values.byte_offset();
        buf.drain(..used.min(buf.len()));
        if buf.len() > BUFFER {
            return;
        }
    }
}
