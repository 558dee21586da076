//! Passing an upgrade on, without looking inside.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Why a request could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The backend did not take part in HTTP.
    #[error("the streaming backend")]
    Backend(#[source] hyper::Error),
    /// A header or address was impossible.
    #[error("the forwarded request")]
    Request(#[source] http::Error),
}

/// Copies between two raw connections until both directions have ended.
pub async fn proxy_upgrade<A, B>(mut client: A, mut backend: B) -> std::io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    tokio::io::copy_bidirectional(&mut client, &mut backend).await.map(drop)
}

/// Sends an upgrade request to a backend that is connected already, and gives its answer back. If
/// the backend switches protocols, the two connections are joined as soon as the answer is out.
/// `path_and_query` and `host` replace the request's own; hop-by-hop headers of the upgrade stay.
/// A refusal's body is passed on whole.
pub async fn forward_upgrade<B, I>(
    mut request: Request<B>,
    backend: I,
    host: &str,
    path_and_query: &str,
) -> Result<Response<Full<Bytes>>, ProxyError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = hyper::upgrade::on(&mut request);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(backend)).await.map_err(ProxyError::Backend)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "streaming backend connection ended");
        }
    });
    let outgoing = outgoing(request.method().clone(), request.headers(), host, path_and_query)?;
    let mut response = sender.send_request(outgoing).await.map_err(ProxyError::Backend)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let backend = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            match tokio::try_join!(client, backend) {
                Ok((client, backend)) => {
                    if let Err(error) = proxy_upgrade(TokioIo::new(client), TokioIo::new(backend)).await {
                        tracing::debug!(%error, "tunnel ended");
                    }
                }
                Err(error) => tracing::debug!(%error, "upgrade for a tunnel failed"),
            }
        });
        return Ok(response.map(|_| Full::default()));
    }
    collect(response).await
}

fn outgoing(
    method: http::Method,
    headers: &HeaderMap,
    host: &str,
    path_and_query: &str,
) -> Result<Request<Full<Bytes>>, ProxyError> {
    let mut outgoing = Request::builder().method(method).uri(path_and_query);
    if let Some(target) = outgoing.headers_mut() {
        target.extend(headers.clone());
        // Credentials are for us, not for what is behind us, and bodies are not passed on.
        for ours in [
            http::header::AUTHORIZATION,
            http::header::HOST,
            http::header::CONTENT_LENGTH,
            http::header::TRANSFER_ENCODING,
        ] {
            target.remove(ours);
        }
    }
    outgoing.header(http::header::HOST, host).body(Full::default()).map_err(ProxyError::Request)
}

async fn collect(response: Response<Incoming>) -> Result<Response<Full<Bytes>>, ProxyError> {
    let (mut parts, body) = response.into_parts();
    let body = body.collect().await.map_err(ProxyError::Backend)?.to_bytes();
    parts.headers.remove(http::header::TRANSFER_ENCODING);
    Ok(Response::from_parts(parts, Full::new(body)))
}
