//! Sessions over WebSocket: each message begins with the number of its channel.

use futures::StreamExt;
use futures::stream::SplitStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_util::sync::CancellationToken;

use super::{Options, Outcome, Session, TerminalSize};
use crate::channels::{Format, next, pump, send};
use crate::{BUFFER, StreamError, websocket};

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
/// From v5 on: the channel that the next byte names has ended.
pub(super) const CLOSE: u8 = 255;

pub(super) const PROTOCOLS: &[&str] = &[
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

/// Whether a protocol tells how a session ended as a Status, or as text.
fn has_json_status(protocol: &str) -> bool {
    protocol.starts_with("v4.") || protocol.starts_with("v5.")
}

pub(super) async fn serve<S>(io: S, options: Options, protocol: &str) -> Session
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (format, has_json_status) = (Format::of(protocol), has_json_status(protocol));
    let (sink, stream) = websocket::wrap(io, Role::Server).await.split();
    let pair = |wanted: bool| if wanted { Some(tokio::io::duplex(BUFFER)) } else { None };
    let (stdin, stdin_far) = pair(options.stdin).unzip();
    let (stdout, stdout_far) = pair(options.stdout).unzip();
    let (stderr, stderr_far) = pair(options.stderr).unzip();
    let (sizes, resize) = mpsc::channel(8);
    let (finish, outcome) = oneshot::channel();
    let (finished, done) = oneshot::channel();
    let gone = CancellationToken::new();
    let (messages, queue) = mpsc::channel(16);

    // An empty message tells the client that the session stands.
    let hello = if options.stdout {
        STDOUT
    } else if options.stderr {
        STDERR
    } else {
        ERROR
    };
    let _ = messages.try_send(format.encode(hello, &[]));

    tokio::spawn({
        let (gone, messages) = (gone.clone(), messages.clone());
        async move {
            if let Err(error) = receive(stream, format, stdin_far, sizes, messages).await {
                tracing::debug!(%error, "remote command session ended");
            }
            gone.cancel();
        }
    });
    tokio::spawn({
        let gone = gone.clone();
        async move {
            let output = async {
                tokio::join!(
                    pump(stdout_far, STDOUT, format, messages.clone()),
                    pump(stderr_far, STDERR, format, messages.clone()),
                );
                let outcome =
                    outcome.await.unwrap_or_else(|_| Outcome::Failed("the session was abandoned".into()));
                let status = if has_json_status { outcome.to_status() } else { outcome.to_text() };
                if !status.is_empty() {
                    // A client that is gone does not need it.
                    let _ = messages.send(format.encode(ERROR, &status)).await;
                }
                // A close without a code reads as a broken connection to clients.
                let ended = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                drop(messages.send(Message::Close(Some(ended))).await);
            };
            let (_, sent) = tokio::join!(output, send(sink, queue));
            if let Err(error) = sent {
                tracing::debug!(%error, "remote command session broke");
            }
            gone.cancel();
            let _ = finished.send(());
        }
    });
    Session { stdin, stdout, stderr, resize, gone, finish, done }
}

async fn receive<S>(
    mut stream: SplitStream<WebSocketStream<S>>,
    format: Format,
    mut stdin: Option<DuplexStream>,
    sizes: mpsc::Sender<TerminalSize>,
    messages: mpsc::Sender<Message>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some((channel, data)) = next(&mut stream, format, &messages).await? {
        match (channel, data) {
            (STDIN, data) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    stdin = None;
                }
            }
            (RESIZE, data) => {
                if let Ok(size) = serde_json::from_slice(&data) {
                    // A size that nobody reads is superseded by the next one.
                    let _ = sizes.try_send(size);
                }
            }
            (CLOSE, data) if data.first() == Some(&STDIN) => stdin = None,
            _ => {}
        }
    }
    Ok(())
}
