//! HTTP/1.1 and HTTP/2 over TLS, and the in-process transport: both end in [`crate::pipeline::serve`].

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use auth::user::User;
use base::Shutdown;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::body::{Body, BoxError};
use crate::core::Core;
use crate::pipeline::authenticate::Peer;
use crate::pipeline::serve;

/// From where a request came, beside it; what comes from this process has none.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub IpAddr);

/// Accepts connections until the shutdown. Those that are open then end with their request.
pub async fn listen(core: Arc<Core>, listener: TcpListener, tls: TlsAcceptor, shutdown: Shutdown) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.wait() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, client)) => {
                let (core, tls, shutdown) = (core.clone(), tls.clone(), shutdown.clone());
                let client = Client(client.ip().to_canonical());
                tokio::spawn(async move { connection(core, (stream, client), tls, shutdown).await });
            }
            Err(error) => {
                // Out of file descriptors, most likely: it passes, and others still hold connections.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}

async fn connection(
    core: Arc<Core>,
    (stream, client): (TcpStream, Client),
    tls: TlsAcceptor,
    shutdown: Shutdown,
) {
    let _ = stream.set_nodelay(true);
    let limit = std::time::Duration::from_secs(10);
    let stream = match tokio::time::timeout(limit, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let user = certificates.and_then(|chain| chain.first()).and_then(|der| auth::user_of_certificate(der));
    let peer = Peer::Network(user.map(Arc::new));
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (core, peer) = (core.clone(), peer.clone());
        async move {
            let mut request = request.map(|body| body.map_err(BoxError::from).boxed_unsync());
            request.extensions_mut().insert(client);
            Ok::<_, Infallible>(serve(&core, &peer, request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_concurrent_streams(1000).initial_stream_window_size(256 * 1024);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            let limit = std::time::Duration::from_secs(2);
            tokio::time::timeout(limit, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The API server as a tower service for a component in this process, which is who it was made as. It passes the
/// same stages as everybody else.
#[derive(Clone)]
pub struct Local {
    core: Arc<Core>,
    peer: Peer,
}

impl Local {
    /// A service for the component `user`.
    pub fn new(core: Arc<Core>, user: User) -> Self {
        Self { core, peer: Peer::InProcess(Arc::new(user)) }
    }
}

impl<B> tower::Service<Request<B>> for Local
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (core, peer) = (self.core.clone(), self.peer.clone());
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        Box::pin(async move { Ok(serve(&core, &peer, request).await) })
    }
}
