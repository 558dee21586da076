//! The gRPC health checking protocol (`grpc.health.v1.Health/Check`), as a probe asks it: in the clear, or by TLS with
//! whoever answers (KEP-4939).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::blind;
use super::check::Answer;
use crate::configuration::duration::shown;

/// Whose health is asked for.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// How it is: 0 unknown, 1 serving, 2 not serving, 3 no such service.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

/// How long after a failed try to connect the next one is made, as Go's library has it.
const AGAIN: Duration = Duration::from_secs(1);

/// A connection that notices when a server of HTTP/2 greets: its first frame says what it can.
struct Greeted<S> {
    stream: S,
    /// Of the first frame: length, type and flags, as much of it as there is.
    head: Vec<u8>,
    /// Closed with the connection.
    greeted: watch::Sender<bool>,
}

const HEAD: usize = 9;
const SETTINGS: u8 = 4;

impl<S> Greeted<S> {
    fn heard(&mut self, bytes: &[u8]) {
        if self.head.len() < HEAD {
            self.head.extend(bytes.iter().take(HEAD - self.head.len()));
            if self.head.len() == HEAD && self.head.get(3) == Some(&SETTINGS) {
                self.greeted.send_replace(true);
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Greeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.heard(buf.filled().get(before..).unwrap_or_default());
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Greeted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A stream of either kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Asks once, by TLS if it is to be `secret`.
pub async fn ask((host, port): (&str, i32), service: &str, secret: bool, limit: Duration) -> Answer {
    let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let endpoint = Endpoint::try_from(format!("http://{authority}"))
        .and_then(|endpoint| endpoint.user_agent("kube-probe/1.37"));
    let endpoint = match endpoint {
        Ok(endpoint) if secret => match format!("https://{authority}").parse() {
            Ok(origin) => endpoint.origin(origin),
            Err(error) => return Answer::unknown(format!("{error}")),
        },
        Ok(endpoint) => endpoint,
        Err(error) => return Answer::unknown(error.to_string()),
    };
    let to = To { endpoint: &endpoint, authority: &authority, host: secret.then_some(host) };
    let deadline = Instant::now() + limit;
    let Ok(client) = timeout_at(deadline, connect(&to)).await else {
        return Answer::Failure(format!(
            "timeout: failed to connect service {authority:?} within {}: context deadline exceeded",
            shown(limit)
        ));
    };
    let late = || Answer::Failure(format!("timeout: health rpc did not complete within {}", shown(limit)));
    match timeout_at(deadline, check(client, service)).await {
        Ok(Ok(SERVING)) => Answer::Success,
        Ok(Ok(status)) => Answer::Failure(format!("service unhealthy (responded with {:?})", name(status))),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Answer::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Ok(Err(status)) if status.code() == Code::DeadlineExceeded => late(),
        Ok(Err(status)) => Answer::Failure(format!("error: health rpc probe failed: {}", told(&status))),
        Err(_) => late(),
    }
}

fn name(status: i32) -> String {
    match status {
        0 => "UNKNOWN".to_owned(),
        2 => "NOT_SERVING".to_owned(),
        3 => "SERVICE_UNKNOWN".to_owned(),
        other => other.to_string(),
    }
}

/// An error in the words of Go's library.
fn told(status: &Status) -> String {
    // Whoever broke off the connection said nothing at all.
    let (code, why) = match std::error::Error::source(status) {
        Some(_) => ("Unavailable".to_owned(), "error reading from server: EOF"),
        None if status.code() == Code::Cancelled => ("Canceled".to_owned(), status.message()),
        None => (format!("{:?}", status.code()), status.message()),
    };
    format!("rpc error: code = {code} desc = {why}")
}

/// Whom to connect to.
struct To<'a> {
    endpoint: &'a Endpoint,
    /// As `HOST:PORT`.
    authority: &'a str,
    /// Who is to show a certificate, whichever.
    host: Option<&'a str>,
}

/// Who is not there yet, or does not speak HTTP/2 yet, may come to it while there is time.
async fn connect(to: &To<'_>) -> Grpc<Channel> {
    loop {
        match try_connect(to).await {
            Ok(client) => return client,
            // Upstream tells of the time alone.
            Err(error) => {
                tracing::debug!(authority = to.authority, %error, "a gRPC probe does not connect yet")
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Connects, and waits until the server has greeted.
async fn try_connect(to: &To<'_>) -> io::Result<Grpc<Channel>> {
    let stream = TcpStream::connect(to.authority).await?;
    let stream: Box<dyn Stream> = match to.host {
        None => Box::new(stream),
        Some(host) => {
            let name = rustls::pki_types::ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let config = blind::tls(Some(b"h2")).map_err(io::Error::other)?;
            let connector = tokio_rustls::TlsConnector::from(config);
            Box::new(connector.connect(name, stream).await?)
        }
    };
    let (greeted, mut greets) = watch::channel(false);
    let mut stream = Some(TokioIo::new(Greeted { stream, head: Vec::new(), greeted }));
    // A second connection is not made: what breaks is told.
    let connector = service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset));
        async move { stream }
    });
    let channel = to.endpoint.connect_with_connector(connector).await.map_err(io::Error::other)?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(io::Error::other)?;
    greets.wait_for(|greeted| *greeted).await.map_err(|_| io::Error::other("it ended without a greeting"))?;
    Ok(client)
}

/// The status that the server tells of its service.
async fn check(mut client: Grpc<Channel>, service: &str) -> Result<i32, Status> {
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    client.unary(request, path, codec).await.map(|answer| answer.into_inner().status)
}

#[cfg(test)]
mod tests;
