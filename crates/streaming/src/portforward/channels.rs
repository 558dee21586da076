//! Connections as channels of a WebSocket: two for each port, data and an error's text, in the order in which the
//! ports were named. The first message of each channel is its port, in two bytes, the low one first.

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::SplitStream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, WriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::Forward;
use crate::channels::{Format, next, pump, send};
use crate::{BUFFER, StreamError};

/// Serves a connection to each port, until all have ended or the client goes.
pub(super) fn serve<S>(socket: WebSocketStream<S>, protocol: &str, ports: &[u16]) -> mpsc::Receiver<Forward>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let format = Format::of(protocol);
    let (to_make, forwards) = mpsc::channel(ports.len().max(1));
    let (messages, queue) = mpsc::channel::<Message>(16);
    let (mut greetings, mut from_pod, mut to_pod) = (Vec::new(), Vec::new(), Vec::new());
    // A channel's number is one byte.
    for (&port, channel) in ports.iter().zip((0..=u8::MAX - 1).step_by(2)) {
        let (data, data_far) = tokio::io::duplex(BUFFER);
        let (error, error_far) = tokio::io::duplex(BUFFER);
        let (reader, writer) = tokio::io::split(data_far);
        greetings.extend([channel, channel + 1].map(|channel| format.encode(channel, &port.to_le_bytes())));
        to_pod.push(Some(writer));
        from_pod.push((reader, error_far, channel));
        // There is room for all of them.
        let _ = to_make.try_send(Forward { port, data, error });
    }
    let (sink, stream) = socket.split();
    tokio::spawn(async move {
        let pumps = from_pod.into_iter().map(|(data, error, channel)| {
            let messages = messages.clone();
            async move {
                pump(Some(data), channel, format, messages.clone()).await;
                pump(Some(error), channel + 1, format, messages).await;
            }
        });
        let output = async {
            for greeting in greetings {
                // One that cannot be sent ends the sending below.
                let _ = messages.send(greeting).await;
            }
            join_all(pumps).await;
            let ended = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            let _ = messages.send(Message::Close(Some(ended))).await;
        };
        let ended = tokio::select! {
            ended = receive(stream, format, to_pod, messages.clone()) => ended,
            (_, ended) = async { tokio::join!(output, send(sink, queue)) } => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "port forwarding ended");
        }
    });
    forwards
}

async fn receive<S>(
    mut stream: SplitStream<WebSocketStream<S>>,
    format: Format,
    mut to_pod: Vec<Option<WriteHalf<DuplexStream>>>,
    messages: mpsc::Sender<Message>,
) -> Result<(), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some((channel, data)) = next(&mut stream, format, &messages).await? {
        // Only data comes from a client, and it has the even numbers.
        let connection = (channel % 2 == 0).then(|| to_pod.get_mut(usize::from(channel / 2))).flatten();
        if let Some(connection) = connection
            && let Some(writer) = connection
            && writer.write_all(&data).await.is_err()
        {
            *connection = None;
        }
    }
    Ok(())
}
