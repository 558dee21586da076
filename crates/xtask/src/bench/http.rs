//! A lean client: HTTP/2 over TLS on a few connections that all requests share.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use super::kubeconfig::Endpoint;

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";
/// The media type of a merge patch.
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";
/// The media type of Kubernetes' protobuf.
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A request, ready to send.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// What to do.
    pub method: Method,
    /// To what: path and query.
    pub path: String,
    /// The media type of the body.
    pub content: &'static str,
    /// The media type of the answer.
    pub accept: &'static str,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// A read in JSON.
    pub fn get(path: impl Into<String>) -> Self {
        let (content, accept) = (JSON, JSON);
        Self { method: Method::GET, path: path.into(), content, accept, body: Bytes::new() }
    }

    /// A create in JSON.
    pub fn post(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::POST, body: body.into(), ..Self::get(path) }
    }

    /// A replacement in JSON.
    pub fn put(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PUT, body: body.into(), ..Self::get(path) }
    }

    /// A merge patch.
    pub fn patch(path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { method: Method::PATCH, body: body.into(), content: MERGE_PATCH, ..Self::get(path) }
    }

    /// A delete at once.
    pub fn delete(path: impl Into<String>) -> Self {
        let body = r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}"#;
        Self { method: Method::DELETE, body: Bytes::from_static(body.as_bytes()), ..Self::get(path) }
    }

    /// One that gives a pod the time that it has for its end.
    pub fn delete_gracefully(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// The same, answered in this media type.
    pub fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }
}

/// Connections to one API server.
#[derive(Debug)]
pub(super) struct Client {
    connections: Vec<SendRequest<Full<Bytes>>>,
    next: AtomicUsize,
    authority: String,
}

impl Client {
    /// Opens so many connections.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(endpoint: &Endpoint, connections: usize) -> Result<Self> {
        let authority = format!("{}:{}", endpoint.host, endpoint.port);
        let mut opened = Vec::new();
        for _ in 0..connections {
            let connected = connection(endpoint).await;
            opened.push(connected.with_context(|| format!("connecting to {authority}"))?);
        }
        Ok(Self { connections: opened, next: AtomicUsize::new(0), authority })
    }

    /// Sends a request on the next connection.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn send(&self, call: Call) -> Result<Response<Incoming>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let mut connection = self.connections.get(turn).context("there is no connection")?.clone();
        let uri = Uri::builder().scheme("https").authority(self.authority.as_str());
        let mut request = Request::builder()
            .method(call.method)
            .uri(uri.path_and_query(call.path).build()?)
            .header(ACCEPT, call.accept);
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, call.content);
        }
        connection.ready().await?;
        Ok(connection.send_request(request.body(Full::new(call.body))?).await?)
    }

    /// The whole answer to a request that must succeed.
    ///
    /// # Errors
    /// When it does not: with what the server says.
    pub async fn call(&self, call: Call) -> Result<Bytes> {
        let what = (call.method.clone(), call.path.clone());
        let response = self.send(call).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            let said = String::from_utf8_lossy(body.get(..body.len().min(600)).unwrap_or_default());
            bail!("{} {}: {status}: {said}", what.0, what.1);
        }
        Ok(body)
    }

    /// Whether a request succeeded; a failure of the connection is an error all the same.
    ///
    /// # Errors
    /// When the connection is lost.
    pub async fn try_call(&self, call: Call) -> Result<bool> {
        let response = self.send(call).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status.is_success())
    }

    /// The answer as a tree.
    ///
    /// # Errors
    /// When the request fails.
    pub async fn json(&self, call: Call) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.call(call).await?)?)
    }
}

async fn connection(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(endpoint.host.clone())?;
    let stream = tokio_rustls::TlsConnector::from(endpoint.tls.clone()).connect(name, stream).await?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(64 << 20)
        .max_frame_size(64 << 10)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(connection);
    Ok(sender)
}
