//! `proxy` of pods, services and nodes: a request is passed on to what the object stands for, and the answer back.

mod anybody;
mod html;
mod location;
mod rewrite;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;

use self::location::Location;
use self::rewrite::Prefix;
use super::node_proxy::join;
use super::resource::Call;
use super::subresource::ConnectionParts;
use crate::body::{self, Body, BoxError};
use crate::https::CallError;
use crate::server::Client;
use crate::status::Result;

/// Passes a request on.
///
/// # Errors
/// 404 and 503 when there is nothing to pass it to, 400 for an address that nobody is sent to.
pub async fn handle(call: &Call<'_>, connection: ConnectionParts, body: Body) -> Result<Response<Body>> {
    let location = location::find(call).await?;
    let path = rest(call.parts.uri.path());
    let upgrade = connection.upgrade.filter(|_| call.parts.headers.contains_key(header::UPGRADE));
    let reads = matches!(call.parts.method, Method::GET | Method::HEAD);
    if path.is_empty() && reads && upgrade.is_none() {
        return Ok(redirect(call));
    }
    let path = if path.is_empty() { "/" } else { path };
    let prefix = Prefix::new(call.parts, path);
    let request = forwarded(call, &location, &prefix, path, body, upgrade.is_some());
    match exchange(call, &location, request).await {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => match upgrade {
            Some(upgrade) => Ok(join(upgrade, response)),
            None => Ok(unreachable("the backend switched protocols unasked")),
        },
        Ok(response) => Ok(relay(response, &location, &prefix)),
        Err(error) => Ok(unreachable(&error.to_string())),
    }
}

/// What of a path follows `/proxy`, as it was written; empty when nothing does.
fn rest(path: &str) -> &str {
    // `/api/v1/nodes/NAME/proxy` or `/api/v1/namespaces/NS/pods/NAME/proxy`
    let names = if path.starts_with("/api/v1/namespaces/") { 7 } else { 5 };
    let mut slashes = path.char_indices().filter(|(_, letter)| *letter == '/').map(|(at, _)| at);
    slashes.nth(names).and_then(|at| path.get(at..)).unwrap_or_default()
}

/// A browser that asks for the root without its slash would resolve what it finds there wrongly.
fn redirect(call: &Call<'_>) -> Response<Body> {
    let uri = &call.parts.uri;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut response = Response::new(body::full(Bytes::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        response.headers_mut().insert(header::LOCATION, to);
    }
    response
}

fn unreachable(why: &str) -> Response<Body> {
    body::text(503, format!("Error trying to reach service: '{why}'"))
}

/// Whom a request is passed on for.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// By these a page lets others read what it has from a host; a pod's pages must not do so in the API server's name.
const CORS: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// Headers that are about one connection.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

fn without_hops(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(',').map(|name| name.trim().to_lowercase()))
        .collect();
    for name in named {
        kept.remove(name.as_str());
    }
    for name in HOP_BY_HOP {
        kept.remove(name);
    }
    kept
}

fn forwarded(
    call: &Call<'_>,
    location: &Location,
    prefix: &Prefix,
    path: &str,
    body: Body,
    upgrade: bool,
) -> Request<Body> {
    let parts = call.parts;
    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    if let Ok(uri) = format!("{path}{query}").parse() {
        *request.uri_mut() = uri;
    }
    let mut headers = without_hops(&parts.headers);
    // Who the client is was settled here; the backend is told nothing that it could use as the client.
    headers.remove(header::AUTHORIZATION);
    let impersonation = |name: &HeaderName| name.as_str().starts_with("impersonate-");
    for name in headers.keys().filter(|name| impersonation(name)).cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
    if upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        for value in parts.headers.get_all(header::UPGRADE) {
            headers.append(header::UPGRADE, value.clone());
        }
    }
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::HOST, if prefix.host.is_empty() { &location.address } else { &prefix.host });
    if !upgrade {
        set(HeaderName::from_static("x-forwarded-uri"), parts.uri.path());
    }
    if let Some(Client(ip)) = parts.extensions.get() {
        let before = parts.headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let all: Vec<String> = before.map(str::to_owned).chain([ip.to_string()]).collect();
        set(FORWARDED_FOR, &all.join(", "));
    }
    *request.headers_mut() = headers;
    request
}

async fn exchange(
    call: &Call<'_>,
    location: &Location,
    request: Request<Body>,
) -> std::result::Result<Response<hyper::body::Incoming>, BoxError> {
    if let Some(kubelet) = &location.kubelet {
        let (parts, body) = request.into_parts();
        let bytes = body::read(body).await.map_err(|error| error.message)?;
        let request = Request::from_parts(parts, http_body_util::Full::new(bytes));
        return Ok(call.core.kubelets.connect(kubelet).await?.send(request).await?);
    }
    let stream = crate::https::dial(&location.address).await?;
    if !location.tls {
        return send(stream, request).await;
    }
    let tls = Arc::new(anybody::config()?);
    let name = rustls::pki_types::ServerName::from(location.ip);
    let stream = tokio_rustls::TlsConnector::from(tls).connect(name, stream).await.map_err(CallError::Tls)?;
    send(stream, request).await
}

async fn send<S>(
    stream: S,
    request: Request<Body>,
) -> std::result::Result<Response<hyper::body::Incoming>, BoxError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    Ok(sender.send_request(request).await?)
}

fn relay(response: Response<hyper::body::Incoming>, location: &Location, prefix: &Prefix) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers = without_hops(&parts.headers);
    for name in CORS {
        parts.headers.remove(name);
    }
    let to = parts.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let Some(to) = to.map(|to| prefix.rewrite(&to, &location.address)) {
        if let Ok(to) = HeaderValue::from_str(&to) {
            parts.headers.insert(header::LOCATION, to);
        }
    } else if let Some(packing) = html::page(&parts.headers) {
        parts.headers.remove(header::CONTENT_LENGTH);
        let (prefix, backend) = (prefix.clone(), location.address.clone());
        let address = move |old: &str| prefix.rewrite(old, &backend);
        return Response::from_parts(parts, html::rewritten(body, packing, address));
    }
    Response::from_parts(parts, body.map_err(BoxError::from).boxed_unsync())
}
