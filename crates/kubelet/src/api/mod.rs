//! The kubelet's own HTTPS API: logs, exec, attach, port-forward, pods, statistics. Whoever asks has to be known and
//! allowed (`access`).

mod access;
mod attributes;
mod cadvisor;
mod counted;
mod debug;
mod exposition;
mod files;
mod health;
pub mod logs;
mod measures;
mod metrics;
mod pages;
mod ports;
mod query;
pub mod read_only;
mod readings;
mod stats;
mod streams;
mod system;
mod traffic;
mod zpages;

pub use system::Rates;

pub use health::serve as serve_health;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kinds::gates::Gate;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::pods::Pods;
use crate::{Config, KubeletError, Shared};

/// The most bytes that a request may carry to whoever reads it whole.
const MOST_BODY: usize = 64 * 1024;

/// A body that may stream.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Why a request is not answered.
pub struct Refusal(pub StatusCode, pub String);

impl Refusal {
    pub fn not_found(message: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, message.into())
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    pub fn bad_request_of(error: impl std::fmt::Display) -> Self {
        Self::bad_request(format!("error reading request body: {error}"))
    }

    pub fn internal(message: impl std::fmt::Display) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, message.to_string())
    }
}

/// The whole of a body.
pub fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Listens, and reads what it serves with; nothing where `enableServer` is off.
pub async fn listen(config: &Config) -> Result<Option<(TcpListener, Arc<ServerConfig>)>, KubeletError> {
    if !config.configuration.fields.enable_server {
        return Ok(None);
    }
    let failed = |source| KubeletError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    Ok(Some((listener, tls(config)?)))
}

/// What an upgraded connection needs: HTTP/1.1 only.
fn tls(config: &Config) -> Result<Arc<ServerConfig>, KubeletError> {
    let fields = &config.configuration.fields;
    let (protection, idle) = auth::pki::Protection::new(&fields.tls_min_version, &fields.tls_cipher_suites)
        .map_err(KubeletError::Tls)?;
    if !idle.is_empty() {
        tracing::warn!(?idle, "these cipher suites are not offered: they are not safe");
    }
    let (protection, idle) =
        protection.with_curves(&fields.tls_curve_preferences).map_err(KubeletError::Tls)?;
    if !idle.is_empty() {
        tracing::warn!(?idle, "these curves are not offered here");
    }
    let shared = auth::pki::server_config_by(config.serving.clone(), config.clients.clone(), &protection)?;
    let mut own = ServerConfig::clone(&shared);
    own.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(own))
}

/// Serves until the group stops.
pub async fn serve(shared: Arc<Shared>, pods: Pods, listener: TcpListener, tls: Arc<ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let access = Arc::new(access::Access::new(&shared.config.clock));
    loop {
        let stream = accept(&listener).await;
        undelayed(&stream);
        let server = Server { shared: shared.clone(), pods: pods.clone(), access: access.clone() };
        shared.tasks.spawn(connection(server, acceptor.clone(), stream));
    }
}

/// The next connection. One that fails, as when no file can be opened any more, is no reason to turn in circles.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(server: Server, acceptor: TlsAcceptor, stream: TcpStream) {
    let handshake = tokio::time::timeout(std::time::Duration::from_secs(10), acceptor.accept(stream)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => return,
    };
    let peer = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let user = peer.and_then(|certificate| auth::pki::user_of_certificate(certificate));
    let service = service_fn(move |request| {
        let (server, user) = (server.clone(), user.clone());
        async move { Ok::<_, Infallible>(server.answer(request, user).await) }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// What handlers need.
#[derive(Clone)]
pub struct Server {
    pub shared: Arc<Shared>,
    pub pods: Pods,
    access: Arc<access::Access>,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>, user: Option<auth::user::User>) -> Response<Body> {
        let counted = traffic::Counted::begin(&self.shared, request.method(), request.uri().path());
        let answer = match self.route(request, user).await {
            Ok(response) => response,
            Err(Refusal(code, message)) => {
                let mut response = Response::new(full(message));
                *response.status_mut() = code;
                response
            }
        };
        counted.end();
        answer
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        user: Option<auth::user::User>,
    ) -> Result<Response<Body>, Refusal> {
        access::check(self, &request, user).await?;
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        if !self.shared.config.configuration.fields.enable_debugging_handlers {
            match pages::debugging(&parts) {
                pages::Debugging::No => {}
                pages::Debugging::Disabled => {
                    return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, pages::DISABLED.to_owned()));
                }
                pages::Debugging::Missing => return Err(Refusal::not_found("404 page not found\n")),
            }
        }
        if let Some(page) = self.page(&request, &parts).await {
            return page;
        }
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                logs::handle(self, (namespace, pod, container), &query(&request)).await
            }
            (&Method::GET, ["logs", ..]) => files::handle(&self.shared, &path, &query(&request)).await,
            (&Method::GET, ["debug", "pprof", rest @ ..]) => debug::profile(self, rest),
            (_, ["debug", "flags", "v"]) => {
                let method = request.method().clone();
                let body = http_body_util::Limited::new(request.into_body(), MOST_BODY).collect().await;
                let body = body.map_err(Refusal::bad_request_of)?.to_bytes();
                debug::verbosity(self, &method, &String::from_utf8_lossy(&body))
            }
            (&Method::POST, ["run", namespace, pod, rest @ ..]) if matches!(rest.len(), 1 | 2) => {
                pages::run(self, (namespace, pod, rest), &query(&request)).await
            }
            (&Method::POST, ["checkpoint", namespace, pod, container]) => {
                pages::checkpoint(self, (namespace, pod, container)).await
            }
            (
                &Method::GET | &Method::POST,
                ["exec" | "attach", _, _, _]
                | ["exec" | "attach", _, _, _, _]
                | ["portForward", _, _]
                | ["portForward", _, _, _],
            ) => streams::handle(self, request, &parts).await,
            _ => Err(Refusal::not_found("404 page not found")),
        }
    }

    fn has_allocated_pods(&self) -> bool {
        self.shared.config.configuration.fields.gates.has(Gate::KubeletAllocatedPodsEndpoint)
    }

    /// The answers that need no more of a request than its path and its parameters.
    async fn page(
        &self,
        request: &Request<Incoming>,
        parts: &[&str],
    ) -> Option<Result<Response<Body>, Refusal>> {
        if request.method() != Method::GET {
            return None;
        }
        Some(match parts {
            ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => Ok(Response::new(full("ok"))),
            ["pods"] => json(&pages::pods(self)),
            ["allocatedPods", rest @ ..] if self.has_allocated_pods() => pages::allocated(self, rest),
            ["runningpods"] => json(&pages::running_pods(self)),
            ["configz"] => json(&self.shared.config.configuration.shown()),
            ["statusz"] => {
                zpages::accept(request.headers()).map(|()| plain_text(zpages::status(&self.shared)))
            }
            ["flagz"] => zpages::accept(request.headers()).map(|()| plain_text(zpages::flags(&self.shared))),
            ["metrics"] => metrics::own(self).await.map(text),
            ["metrics", "resource"] => Ok(text(metrics::resource(self).await)),
            ["metrics", "probes"] => Ok(text(counted::probes(&self.shared))),
            ["metrics", "cadvisor"] => Ok(text(cadvisor::page(self).await)),
            ["stats", "summary"] => {
                let brief = query(request).iter().any(|(key, value)| {
                    key == "only_cpu_and_memory" && matches!(value.as_str(), "true" | "1" | "")
                });
                match stats::summary(self, brief).await {
                    Ok(summary) => json(&summary),
                    Err(refusal) => Err(refusal),
                }
            }
            _ => return None,
        })
    }
}

fn plain_text(text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    let kind = http::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert("content-type", kind);
    response
}

fn text(text: String) -> Response<Body> {
    let mut response = Response::new(full(text));
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert("content-type", kind);
    response
}

fn json(value: &serde_json::Value) -> Result<Response<Body>, Refusal> {
    Response::builder()
        .header("content-type", "application/json")
        .body(full(value.to_string()))
        .map_err(Refusal::internal)
}

/// The parameters of a request, decoded.
pub fn query(request: &Request<Incoming>) -> Vec<(String, String)> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'+' => out.push(b' '),
            b'%' => {
                let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
                match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
                    Some(byte) => {
                        out.push(byte);
                        rest = after.get(2..).unwrap_or_default();
                    }
                    None => out.push(b'%'),
                }
            }
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Sends what is written at once: commands and their answers are small.
pub(super) fn undelayed(stream: &tokio::net::TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection sends with delay");
    }
}
