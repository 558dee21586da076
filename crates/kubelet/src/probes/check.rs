//! One probe: a command, an HTTP request, a TCP connection, or a call of the gRPC health service.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::super::pods::spec::port_number;
use super::grpc;
use crate::runtime::Runtime;

/// The most of an answer that is shown.
const SHOWN: usize = 10 * 1024;

/// Whom to ask.
pub struct Target<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The pod's address.
    pub ip: &'a str,
    pub container: &'a Container,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Success,
    Failure(String),
    /// It could not be asked.
    Unknown(String),
}

/// Asks.
pub async fn probe(runtime: &Runtime, probe: &Probe, target: &Target<'_>, limit: Duration) -> Answer {
    if let Some(exec) = &probe.exec {
        return command(runtime, exec.command.clone().unwrap_or_default(), target, limit).await;
    }
    if let Some(http) = &probe.http_get {
        return within(limit, get(http, target)).await;
    }
    if let Some(tcp) = &probe.tcp_socket {
        let host = tcp.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(target.ip);
        return within(limit, async { connect(host, &tcp.port, target).await.map(drop) }).await;
    }
    if let Some(grpc) = &probe.grpc {
        let service = grpc.service.clone().unwrap_or_default();
        return grpc::ask(target.ip, grpc.port, &service, limit).await;
    }
    Answer::Unknown("missing probe handler".to_owned())
}

async fn within(limit: Duration, work: impl Future<Output = Result<(), String>>) -> Answer {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(())) => Answer::Success,
        Ok(Err(error)) => Answer::Failure(error),
        Err(_) => Answer::Failure(format!("context deadline exceeded (no answer within {limit:?})")),
    }
}

async fn command(runtime: &Runtime, command: Vec<String>, target: &Target<'_>, limit: Duration) -> Answer {
    match runtime.exec_sync(target.id, command, limit).await {
        Ok(answer) if answer.exit_code == 0 => Answer::Success,
        Ok(answer) => {
            let output = [answer.stdout, answer.stderr].concat();
            let shown = output.get(..output.len().min(SHOWN)).unwrap_or_default();
            Answer::Failure(String::from_utf8_lossy(shown).trim_end().to_owned())
        }
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
            Answer::Failure(format!("command timed out: {}", status.message()))
        }
        Err(status) => Answer::Unknown(status.message().to_owned()),
    }
}

async fn connect(host: &str, port: &IntOrString, target: &Target<'_>) -> Result<TcpStream, String> {
    let number =
        port_number(target.container, port).ok_or_else(|| format!("invalid port number: {port:?}"))?;
    let address = if host.contains(':') { format!("[{host}]:{number}") } else { format!("{host}:{number}") };
    TcpStream::connect(&address).await.map_err(|error| {
        let why = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {address}: connect: {why}")
    })
}

/// Makes a GET request; statuses from 200 to 399 are a success.
async fn get(action: &HTTPGetAction, target: &Target<'_>) -> Result<(), String> {
    match ask(action, target, "kube-probe/1.37").await.map_err(|failed| failed.message)? {
        200..=399 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// A GET request that got no answer.
#[derive(Debug)]
pub struct Failed {
    pub message: String,
    /// Whom it was made to, as `HOST:PORT`.
    pub authority: String,
    /// TLS was begun with somebody who speaks without.
    pub is_plain: bool,
}

/// Makes a GET request; the status of its answer.
///
/// # Errors
/// When there is none.
pub async fn ask(action: &HTTPGetAction, target: &Target<'_>, agent: &str) -> Result<u16, Failed> {
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(target.ip);
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let number = port_number(target.container, &action.port).unwrap_or_default();
    let path = action.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let authority =
        if host.contains(':') { format!("[{host}]:{number}") } else { format!("{host}:{number}") };
    let named = |error: String| Failed {
        message: format!("Get \"{scheme}://{authority}{path}\": {error}"),
        authority: authority.clone(),
        is_plain: false,
    };
    let stream = connect(host, &action.port, target).await.map_err(named)?;
    let request = request(action, &path, &authority, agent).map_err(|error| named(error.to_string()))?;
    let status = if scheme == "https" {
        let name = rustls::pki_types::ServerName::try_from(host.to_owned())
            .map_err(|error| named(error.to_string()))?;
        let connector =
            tokio_rustls::TlsConnector::from(blind_tls().map_err(|error| named(error.to_string()))?);
        let stream = connector.connect(name, stream).await.map_err(|error| match is_plain(&error) {
            true => Failed {
                is_plain: true,
                ..named("http: server gave HTTP response to HTTPS client".to_owned())
            },
            false => named(error.to_string()),
        })?;
        exchange(stream, request).await
    } else {
        exchange(stream, request).await
    };
    status.map_err(|error| named(error.to_string()))
}

/// Whether the answer to a greeting was no TLS at all.
fn is_plain(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

fn request(
    action: &HTTPGetAction,
    path: &str,
    authority: &str,
    agent: &str,
) -> Result<http::Request<Empty<Bytes>>, http::Error> {
    let mut request = http::Request::get(path);
    let headers = action.http_headers.as_deref().unwrap_or_default();
    let given = |name: &str| headers.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    for (name, value) in
        [("host", authority), ("user-agent", agent), ("accept", "*/*"), ("connection", "close")]
    {
        if !given(name) {
            request = request.header(name, value);
        }
    }
    for header in headers {
        request = request.header(&header.name, &header.value);
    }
    request.body(Empty::new())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Empty<Bytes>>,
) -> Result<u16, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        // Servers log a broken connection when nobody reads their answer; what it says does not matter.
        let _read = Limited::new(response.into_body(), SHOWN).collect().await;
        Ok(status)
    };
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => { ended?; answer.await }
    }
}

/// TLS that takes any certificate: a probe asks whether somebody answers, not who.
fn blind_tls() -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Anybody(provider.clone()));
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
