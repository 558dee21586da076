//! A stream that goes one way, from the server to the client, as the messages of a WebSocket: logs and watches are
//! served so to browsers. What the client sends is not looked at.

use std::fmt::Display;

use base64::Engine;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::StreamError;
use crate::websocket::wrap;

/// Subprotocols of a stream of bytes; a client that names none gets the first.
pub const PROTOCOLS: &[&str] = &["", "binary.k8s.io", BASE64];
const BASE64: &str = "base64.binary.k8s.io";

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Binary,
    /// As text that stands for them.
    Base64,
    /// They are text.
    Text,
}

impl Form {
    /// By the subprotocol that was chosen.
    pub fn of(protocol: &str) -> Self {
        if protocol == BASE64 { Self::Base64 } else { Self::Binary }
    }

    fn message(self, bytes: Bytes) -> Message {
        match self {
            Self::Binary => Message::Binary(bytes),
            Self::Base64 => Message::Text(base64::engine::general_purpose::STANDARD.encode(&bytes).into()),
            Self::Text => Message::Text(String::from_utf8_lossy(&bytes).into_owned().into()),
        }
    }
}

/// Sends each item as a message, until there are no more or the client goes. `greets` sends an empty message first, by
/// which the client knows that the stream has begun.
///
/// # Errors
/// When the connection breaks.
pub async fn carry<S, E>(
    io: S,
    form: Form,
    greets: bool,
    items: impl Stream<Item = Result<Bytes, E>>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
    E: Display,
{
    let (mut sink, mut client) = wrap(io, Role::Server).await.split();
    if greets {
        sink.send(form.message(Bytes::new())).await?;
    }
    futures::pin_mut!(items);
    loop {
        tokio::select! {
            item = items.next() => match item {
                Some(Ok(bytes)) => sink.send(form.message(bytes)).await?,
                Some(Err(error)) => {
                    tracing::debug!(%error, "a stream broke off");
                    break;
                }
                None => break,
            },
            said = client.next() => match said {
                None | Some(Ok(Message::Close(_))) => break,
                // The library has queued its pong; only a flush sends it.
                Some(Ok(Message::Ping(_))) => sink.flush().await?,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            },
        }
    }
    sink.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn received(form: Form, greets: bool) -> Vec<Message> {
        let (near, far) = tokio::io::duplex(1024);
        let items =
            futures::stream::iter([Ok::<_, StreamError>(Bytes::from_static(b"one")), Ok("two".into())]);
        let server = tokio::spawn(carry(near, form, greets, items));
        let client = wrap(far, Role::Client).await;
        let messages: Vec<_> =
            client.map(Result::unwrap).take_while(|m| futures::future::ready(!m.is_close())).collect().await;
        server.await.unwrap().unwrap();
        messages
    }

    #[tokio::test]
    async fn items_are_messages() {
        let binary = |text: &'static str| Message::Binary(Bytes::from_static(text.as_bytes()));
        assert_eq!(received(Form::of(""), true).await, [binary(""), binary("one"), binary("two")]);
        let text = |text: &str| Message::Text(text.to_owned().into());
        assert_eq!(received(Form::of(BASE64), true).await, [text(""), text("b25l"), text("dHdv")]);
        assert_eq!(received(Form::Text, false).await, [text("one"), text("two")]);
    }

    #[tokio::test]
    async fn a_client_that_goes_ends_it() {
        let (near, far) = tokio::io::duplex(1024);
        let never = futures::stream::pending::<Result<Bytes, StreamError>>();
        let server = tokio::spawn(carry(near, Form::Binary, false, never));
        let mut client = wrap(far, Role::Client).await;
        client.close(None).await.unwrap();
        server.await.unwrap().unwrap();
    }
}
