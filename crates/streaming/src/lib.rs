//! Remote commands and port forwarding: the protocols that `kubectl exec`, `attach`, `cp` and
//! `port-forward` speak, at both ends, and the tunnel that API server and kubelet are in between.
//!
//! - [`remotecommand`]: exec and attach, over WebSocket (`v5.channel.k8s.io` down to
//!   `channel.k8s.io`) and SPDY/3.1.
//! - [`portforward`]: over SPDY/3.1, plain or inside a WebSocket, and as the channels of a WebSocket.
//! - [`proxy`]: passes an upgrade on without looking inside.
//!
//! The crate knows nothing of pods, containers or who may do what: it turns an upgraded connection
//! into byte streams and back. A connection that breaks ends its streams; nothing here blocks a
//! thread, and nothing is buffered beyond [`BUFFER`] per stream.

mod channels;
pub mod oneway;
pub mod portforward;
pub mod proxy;
pub mod remotecommand;
pub mod spdy;
pub mod upgrade;
pub mod websocket;

pub use upgrade::{Refusal, Upgraded, is_upgrade};

/// The answer to an upgrade request, and what the connection becomes once that answer is out.
pub type Answer<T> = (
    http::Response<http_body_util::Full<bytes::Bytes>>,
    futures::future::BoxFuture<'static, Result<T, StreamError>>,
);

/// The most bytes that wait between the two ends of one stream.
pub const BUFFER: usize = 64 * 1024;

/// Why a session broke off.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The HTTP connection did not become a raw one.
    #[error("the connection was not upgraded")]
    Upgrade(#[source] hyper::Error),
    /// The other end broke a protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The WebSocket failed.
    #[error("websocket")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The connection failed.
    #[error("connection")]
    Io(#[from] std::io::Error),
    /// The other end did not open its streams in time.
    #[error("timed out waiting for the client to create its streams")]
    StreamsMissing,
}

impl From<tokio_tungstenite::tungstenite::Error> for StreamError {
    fn from(error: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::WebSocket(Box::new(error))
    }
}
