//! The asking end, over WebSocket with `v5.channel.k8s.io`.

use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::socket::{CLOSE, ERROR, RESIZE, STDERR, STDIN, STDOUT};
use super::{Outcome, TerminalSize};
use crate::{BUFFER, websocket};

/// What to ask for in `Sec-WebSocket-Protocol`, best first.
pub const PROTOCOLS: &[&str] = &["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// A session as the user's side sees it.
pub struct ClientSession {
    /// Input for the command; shutting it down closes the command's stdin.
    pub stdin: DuplexStream,
    /// Output of the command.
    pub stdout: DuplexStream,
    /// Errors of the command.
    pub stderr: DuplexStream,
    /// Sizes of the user's terminal.
    pub resize: mpsc::Sender<TerminalSize>,
    /// How the command ended.
    pub outcome: oneshot::Receiver<Outcome>,
}

/// Runs a session over a connection that was upgraded with one of [`PROTOCOLS`].
pub async fn client<S>(io: S) -> ClientSession
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = websocket::wrap(io, Role::Client).await.split();
    let (stdin, mut stdin_far) = tokio::io::duplex(BUFFER);
    let (stdout, mut stdout_far) = tokio::io::duplex(BUFFER);
    let (stderr, mut stderr_far) = tokio::io::duplex(BUFFER);
    let (resize, mut sizes) = mpsc::channel::<TerminalSize>(8);
    let (ended, outcome) = oneshot::channel();
    let (pongs, mut pong) = mpsc::channel(4);
    tokio::spawn(async move {
        let mut buf = vec![0u8; 32 * 1024];
        let mut open = true;
        loop {
            let message = tokio::select! {
                read = stdin_far.read(&mut buf), if open => match read {
                    Ok(n) if n > 0 => frame(STDIN, buf.get(..n).unwrap_or_default()),
                    _ => { open = false; frame(CLOSE, &[STDIN]) }
                },
                Some(size) = sizes.recv() => match serde_json::to_vec(&size) {
                    Ok(json) => frame(RESIZE, &json),
                    Err(_) => continue,
                },
                answer = pong.recv() => match answer {
                    Some(answer) => answer,
                    None => break,
                },
            };
            if sink.send(message).await.is_err() {
                break;
            }
        }
    });
    tokio::spawn(async move {
        let mut ended = Some(ended);
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(mut bytes) if !bytes.is_empty() => {
                    let data = bytes.split_off(1);
                    let written = match bytes.first() {
                        Some(&STDOUT) => stdout_far.write_all(&data).await,
                        Some(&STDERR) => stderr_far.write_all(&data).await,
                        Some(&ERROR) if !data.is_empty() => {
                            if let Some(ended) = ended.take() {
                                // A caller that does not wait for the end does not need it.
                                let _ = ended.send(Outcome::from_status(&data));
                            }
                            Ok(())
                        }
                        _ => Ok(()),
                    };
                    if let Err(error) = written {
                        tracing::debug!(%error, "output is not read");
                    }
                }
                Message::Ping(_) => drop(pongs.try_send(Message::Pong(Bytes::new()))),
                Message::Close(_) => break,
                _ => {}
            }
        }
        if let Some(ended) = ended.take() {
            let _ = ended.send(Outcome::Failed("the connection ended before the command did".into()));
        }
    });
    ClientSession { stdin, stdout, stderr, resize, outcome }
}

fn frame(channel: u8, data: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.extend_from_slice(&[channel]);
    message.extend_from_slice(data);
    Message::Binary(message.freeze())
}
