//! A small HTTPS client for what the API server itself calls: webhooks and kubelets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

/// How long a connection may take, as upstream's.
const DIAL: Duration = Duration::from_secs(30);

/// Why a call did not come to an answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody answered there.
    #[error("dial tcp {address}: {}", told(source))]
    Dial {
        /// `HOST:PORT`
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The name is no host name.
    #[error("{0:?} is not a host name")]
    Name(String),
    /// The handshake failed.
    #[error("tls: {}", told(.0))]
    Tls(std::io::Error),
    /// The exchange broke.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The answer is too long or broke off.
    #[error("reading the answer: {0}")]
    Body(String),
    /// It took too long.
    #[error("context deadline exceeded")]
    Timeout(Duration),
}

/// The commonest failures in upstream's words, which people search for.
fn told(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (error.kind(), inner) {
        (std::io::ErrorKind::ConnectionRefused, _) => "connect: connection refused".to_owned(),
        (std::io::ErrorKind::HostUnreachable, _) => "connect: no route to host".to_owned(),
        (std::io::ErrorKind::NetworkUnreachable, _) => "connect: network is unreachable".to_owned(),
        (_, Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))) => {
            "failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A connection that one request is sent on.
pub struct Connection {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

/// Connects to `address` (`HOST:PORT`) and expects a certificate for `name`.
///
/// # Errors
/// [`CallError`].
pub async fn connect(address: &str, name: &str, tls: Arc<ClientConfig>) -> Result<Connection, CallError> {
    let stream = dial(address).await?;
    let server = ServerName::try_from(name.to_owned()).map_err(|_| CallError::Name(name.to_owned()))?;
    let stream =
        tokio_rustls::TlsConnector::from(tls).connect(server, stream).await.map_err(CallError::Tls)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection that we opened ended");
        }
    });
    Ok(Connection { sender })
}

/// Connects to `HOST:PORT`. A machine that is off says nothing, and nobody waits for it for ever.
///
/// # Errors
/// [`CallError::Dial`].
pub async fn dial(address: &str) -> Result<TcpStream, CallError> {
    let failed = |source| CallError::Dial { address: address.to_owned(), source };
    let late = |_| std::io::Error::new(std::io::ErrorKind::TimedOut, "i/o timeout");
    let dialled = tokio::time::timeout(DIAL, TcpStream::connect(address)).await;
    let stream = dialled.map_err(late).and_then(|stream| stream).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

impl Connection {
    /// Sends the request; the answer's body streams.
    ///
    /// # Errors
    /// [`CallError::Http`].
    pub async fn send(mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, CallError> {
        Ok(self.sender.send_request(request).await?)
    }
}

/// Reads a whole answer of at most `limit` bytes.
///
/// # Errors
/// [`CallError::Body`].
pub async fn read(body: Incoming, limit: usize) -> Result<Bytes, CallError> {
    let collected = Limited::new(body, limit).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| CallError::Body(error.to_string()))
}
