//! Port forwarding: pairs of streams, one for data and one for an error's text, for each
//! connection to a port. They travel over SPDY/3.1, which itself may travel inside a WebSocket; a
//! client that speaks no SPDY gets one connection to each port that it names, as channels of its WebSocket.

mod channels;
mod pairs;

use http::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Role;

use self::pairs::Pairs;
use crate::spdy::Session;
use crate::upgrade::{self, Kind};
use crate::{Answer, Refusal, StreamError, websocket};

/// What to ask for in `Sec-WebSocket-Protocol`.
pub const WEBSOCKET_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";
const PROTOCOL: &str = "portforward.k8s.io";
const WEBSOCKET_PROTOCOLS: &[&str] =
    &[WEBSOCKET_PROTOCOL, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""];

/// The accepting end: connections that the client wants made.
pub struct Forwards(Asked);

enum Asked {
    Pairs(Pairs),
    Channels(mpsc::Receiver<Forward>),
}

/// One connection to make.
pub struct Forward {
    /// The port in the pod.
    pub port: u16,
    /// What the client sends and receives.
    pub data: DuplexStream,
    error: DuplexStream,
}

impl Forward {
    /// Ends it. An error's text reaches the user's terminal.
    pub async fn finish(self, error: Option<String>) {
        let Self { mut data, error: mut stream, .. } = self;
        // The client may have gone first; there is nobody else to tell.
        let _ = data.shutdown().await;
        if let Some(text) = error {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        let _ = stream.shutdown().await;
    }
}

/// Answers a request for port forwarding. The future gives the connections once the answer is out. `ports` are those
/// that the request names, which only a client of channels must.
pub fn accept<B>(mut request: Request<B>, ports: &[u16]) -> Result<Answer<Forwards>, Refusal> {
    let kind = upgrade::kind(request.headers())?;
    let (response, protocol) = match kind {
        Kind::WebSocket => upgrade::websocket(request.headers(), WEBSOCKET_PROTOCOLS)?,
        Kind::Spdy => upgrade::spdy(request.headers(), &[PROTOCOL])?,
    };
    let is_tunnel = protocol == WEBSOCKET_PROTOCOL;
    if kind == Kind::WebSocket && !is_tunnel && ports.is_empty() {
        return Err(Refusal::bad_request("query parameter \"port\" is required"));
    }
    let (upgraded, ports) = (hyper::upgrade::on(&mut request), ports.to_vec());
    let forwards = async move {
        let io = TokioIo::new(upgraded.await.map_err(StreamError::Upgrade)?);
        Ok(match kind {
            Kind::WebSocket => {
                let socket = websocket::wrap(io, Role::Server).await;
                match is_tunnel {
                    true => Forwards::new(websocket::tunnel(socket)),
                    false => Forwards(Asked::Channels(channels::serve(socket, protocol, &ports))),
                }
            }
            Kind::Spdy => Forwards::new(io),
        })
    };
    Ok((response, Box::pin(forwards)))
}

impl Forwards {
    /// The accepting end of a connection that speaks SPDY already.
    pub fn new<S>(io: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self(Asked::Pairs(Pairs::new(io)))
    }

    /// The next connection to make; `None` when there are no more.
    pub async fn next(&mut self) -> Option<Forward> {
        match &mut self.0 {
            Asked::Pairs(pairs) => pairs.next().await,
            Asked::Channels(channels) => channels.recv().await,
        }
    }
}

/// The asking end.
pub struct Forwarder {
    connection: Session,
    next: u64,
}

impl Forwarder {
    /// Over a connection that was upgraded to a WebSocket with [`WEBSOCKET_PROTOCOL`].
    pub async fn over_websocket<S>(io: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tunnel = websocket::tunnel(websocket::wrap(io, Role::Client).await);
        Self { connection: Session::client(tunnel), next: 0 }
    }

    /// Over a connection that was upgraded to SPDY/3.1.
    pub fn over_spdy<S>(io: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self { connection: Session::client(io), next: 0 }
    }

    /// Opens a connection to a port: its data, and the stream on which an error's text may come.
    pub async fn open(&mut self, port: u16) -> Result<(DuplexStream, DuplexStream), StreamError> {
        let id = self.next.to_string();
        self.next += 1;
        let headers = |kind: &str| {
            vec![
                ("streamtype".to_owned(), kind.to_owned()),
                ("port".to_owned(), port.to_string()),
                ("requestid".to_owned(), id.clone()),
            ]
        };
        let mut error = self.connection.open(headers("error")).await?;
        // Nothing is ever sent on it from this side.
        error.io().shutdown().await?;
        let data = self.connection.open(headers("data")).await?;
        Ok((data.into_io(), error.into_io()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn an_error_reaches_the_user_and_the_next_connection_still_works() {
        let (a, b) = tokio::io::duplex(4096);
        let mut forwarder = Forwarder::over_spdy(a);
        let mut forwards = Forwards::new(b);
        let (_data, mut error) = forwarder.open(81).await.unwrap();
        let refused = forwards.next().await.unwrap();
        assert_eq!(refused.port, 81);
        refused.finish(Some("connection refused".into())).await;
        let mut text = String::new();
        error.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "connection refused");

        let (mut data, _error) = forwarder.open(80).await.unwrap();
        let mut forward = forwards.next().await.unwrap();
        data.write_all(b"ping").await.unwrap();
        let mut four = [0; 4];
        forward.data.read_exact(&mut four).await.unwrap();
        assert_eq!((&four, forward.port), (b"ping", 80));
    }
}
