//! Streams that share a WebSocket: each message begins with the number of its channel.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::StreamError;

/// How a negotiated protocol writes its messages.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    base64: bool,
}

impl Format {
    pub(crate) fn of(protocol: &str) -> Self {
        Self { base64: protocol.contains("base64") }
    }

    /// A message that carries bytes of a channel.
    pub(crate) fn encode(self, channel: u8, data: &[u8]) -> Message {
        if self.base64 {
            let mut text = String::from(char::from(b'0' + channel));
            STANDARD.encode_string(data, &mut text);
            return Message::text(text);
        }
        let mut message = BytesMut::with_capacity(data.len() + 1);
        message.extend_from_slice(&[channel]);
        message.extend_from_slice(data);
        Message::Binary(message.freeze())
    }

    /// The channel of a message, and its bytes; none of one that says nothing.
    fn decode(self, message: Message) -> Result<Option<(u8, Bytes)>, StreamError> {
        match message {
            Message::Binary(mut bytes) if !bytes.is_empty() => {
                let rest = bytes.split_off(1);
                Ok(bytes.first().map(|channel| (*channel, rest)))
            }
            Message::Text(text) if self.base64 && !text.is_empty() => {
                let bytes = text.as_str().as_bytes();
                let (channel, rest) = bytes.split_first().unwrap_or((&b'0', &[]));
                let data = STANDARD.decode(rest).map_err(|e| StreamError::Protocol(e.to_string()))?;
                Ok(Some((channel.wrapping_sub(b'0'), data.into())))
            }
            Message::Text(text) if !self.base64 && !text.is_empty() => {
                let mut bytes = Bytes::copy_from_slice(text.as_str().as_bytes());
                let rest = bytes.split_off(1);
                Ok(bytes.first().map(|channel| (*channel, rest)))
            }
            _ => Ok(None),
        }
    }
}

/// Sends messages until the first that closes the connection.
pub(crate) async fn send<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut queue: mpsc::Receiver<Message>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = queue.recv().await {
        let last = matches!(message, Message::Close(_));
        sink.send(message).await?;
        if last {
            break;
        }
    }
    Ok(())
}

/// The next bytes of a channel that the client sends; none when it goes.
pub(crate) async fn next<S>(
    stream: &mut SplitStream<WebSocketStream<S>>,
    format: Format,
    messages: &mpsc::Sender<Message>,
) -> Result<Option<(u8, Bytes)>, StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = stream.next().await {
        let message = message?;
        if message.is_ping() {
            // The library has queued its pong; only a send flushes it.
            drop(messages.try_send(Message::Pong(Bytes::new())));
            continue;
        }
        if message.is_close() {
            break;
        }
        if let Some(said) = format.decode(message)? {
            return Ok(Some(said));
        }
    }
    Ok(None)
}

/// Makes messages of a channel out of what is read, until that ends.
pub(crate) async fn pump(
    from: Option<impl AsyncRead + Unpin>,
    channel: u8,
    format: Format,
    to: mpsc::Sender<Message>,
) {
    let Some(mut from) = from else { return };
    let mut buf = vec![0u8; 32 * 1024];
    while let Ok(n) = from.read(&mut buf).await
        && n > 0
    {
        if to.send(format.encode(channel, buf.get(..n).unwrap_or_default())).await.is_err() {
            return;
        }
    }
}
