//! A WebSocket as a plain stream of bytes, which is how SPDY travels inside one.

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::{BUFFER, StreamError};

/// Either end of a connection that has been upgraded to a WebSocket.
pub async fn wrap<S>(io: S, role: Role) -> WebSocketStream<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default().max_message_size(Some(16 << 20)).max_frame_size(Some(16 << 20));
    WebSocketStream::from_raw_socket(io, role, Some(config)).await
}

/// A stream whose bytes travel as the WebSocket's binary messages. The tunnel ends when either
/// side does.
pub fn tunnel<S>(socket: WebSocketStream<S>) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (near, far) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        let (sink, stream) = socket.split();
        let (from, to) = tokio::io::split(far);
        let (answers, pongs) = tokio::sync::mpsc::channel(4);
        tokio::select! {
            result = outward(from, sink, pongs) => trace(result),
            result = inward(stream, to, answers) => trace(result),
        }
    });
    near
}

fn trace(result: Result<(), StreamError>) {
    if let Err(error) = result {
        tracing::debug!(%error, "websocket tunnel ended");
    }
}

async fn outward<S>(
    mut from: impl AsyncRead + Unpin,
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut pongs: tokio::sync::mpsc::Receiver<Message>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut buf = vec![0u8; 32 * 1024];
    loop {
        tokio::select! {
            read = from.read(&mut buf) => match read? {
                0 => break,
                n => {
                    let bytes = Bytes::copy_from_slice(buf.get(..n).unwrap_or_default());
                    sink.send(Message::Binary(bytes)).await?;
                }
            },
            Some(pong) = pongs.recv() => sink.send(pong).await?,
        }
    }
    sink.close().await?;
    Ok(())
}

async fn inward<S>(
    mut stream: SplitStream<WebSocketStream<S>>,
    mut to: impl AsyncWrite + Unpin,
    pongs: tokio::sync::mpsc::Sender<Message>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = stream.next().await {
        match message? {
            Message::Binary(bytes) => to.write_all(&bytes).await?,
            Message::Close(_) => break,
            // The library has queued its pong; only a send flushes it.
            Message::Ping(_) => drop(pongs.try_send(Message::Pong(Bytes::new()))),
            Message::Pong(_) | Message::Frame(_) => {}
            Message::Text(_) => return Err(StreamError::Protocol("text in a binary tunnel".into())),
        }
    }
    Ok(())
}
