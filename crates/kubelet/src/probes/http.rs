//! GET requests of probes and hooks, as Go's client makes them: redirects are followed (`pkg/probe/http`).

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::HTTPGetAction;
use kinds::gates::Gate;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::blind;
use super::check::{Answer, SHOWN, Target, authority, connect, resolve};

/// The most requests that are made because of redirects.
const MOST: usize = 10;
/// What happens when the time is over.
const NO_HEADERS: &str = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)";
const NO_BODY: &str = "context deadline exceeded (Client.Timeout or context cancellation while reading body)";

/// Asks; statuses from 200 to 399 are a success.
pub async fn probe(action: &HTTPGetAction, target: &Target<'_>, limit: Duration) -> Answer {
    let asking = Asking { agent: "kube-probe/1.37", deadline: Some(Instant::now() + limit), stays: true };
    let page = match ask(action, target, &asking).await {
        Ok(page) => page,
        Err(Failed { kind: Kind::Unasked, message, .. }) => return Answer::unknown(message),
        Err(failed) => return Answer::Failure(failed.message),
    };
    match (page.status, page.body) {
        (200..=399, Err(why)) => Answer::Error { state: "failure", why },
        (200..=299, Ok(_)) => Answer::Success,
        (300..=399, Ok(body)) => {
            let body = String::from_utf8_lossy(&body);
            Answer::Warning(format!("Probe terminated redirects, Response body: {body}"))
        }
        (code, _) => Answer::Failure(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Who asks.
    pub agent: &'a str,
    /// Without one, whoever asks sees to the time.
    pub deadline: Option<Instant>,
    /// Redirects to another host are not followed.
    pub stays: bool,
}

/// What was answered.
#[derive(Debug)]
pub struct Page {
    pub status: u16,
    location: Option<String>,
    /// Its beginning, or why it could not be read.
    pub body: Result<Vec<u8>, String>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request makes no sense.
    Unasked,
    /// TLS was begun with somebody who speaks without.
    Plain,
    Failed,
}

/// A GET request that got no answer.
#[derive(Debug)]
pub struct Failed {
    pub message: String,
    /// Whom it was made to, as `HOST:PORT`.
    pub authority: String,
    pub kind: Kind,
}

/// Where a page is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    scheme: String,
    host: String,
    port: u16,
    /// With its query.
    path: String,
    /// HTTP/2 is spoken there, in the clear (KEP-5999).
    two: bool,
}

impl Place {
    fn authority(&self) -> String {
        authority(&self.host, self.port)
    }

    fn failed(&self, kind: Kind, why: &str) -> Failed {
        Failed { message: format!("Get \"{self}\": {why}"), authority: self.authority(), kind }
    }

    /// Where one is sent on to from here.
    fn join(&self, location: &str) -> Result<Self, String> {
        let joined = Url::parse(&self.to_string()).and_then(|url| url.join(location));
        let joined =
            joined.map_err(|error| format!("failed to parse Location header {location:?}: {error}"))?;
        if !matches!(joined.scheme(), "http" | "https") {
            return Err(format!("unsupported protocol scheme {:?}", joined.scheme()));
        }
        let host = joined.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let query = joined.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self {
            scheme: joined.scheme().to_owned(),
            host,
            port: joined.port_or_known_default().unwrap_or_default(),
            path: format!("{}{query}", joined.path()),
            two: self.two && joined.scheme() == "http",
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

fn place(action: &HTTPGetAction, target: &Target<'_>) -> Result<Place, Failed> {
    let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(target.ip).to_owned();
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let path = action.path.as_deref().unwrap_or_default().replace(' ', "%20");
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let two = action.protocol.as_deref() == Some("HTTP2") && target.gates.has(Gate::H2cContainerProbe);
    match resolve(target.container, &action.port) {
        Ok(port) => Ok(Place { scheme, host, port, path, two }),
        Err(message) => Err(Failed { message, authority: host, kind: Kind::Unasked }),
    }
}

/// Makes a GET request, and those that redirects send on to.
///
/// # Errors
/// When there is no answer.
pub async fn ask(action: &HTTPGetAction, target: &Target<'_>, asking: &Asking<'_>) -> Result<Page, Failed> {
    let first = place(action, target)?;
    let mut here = first.clone();
    let mut host = given(action, "host").map(str::to_owned);
    for _ in 0..MOST {
        let page = get(&here, action, host.as_deref(), &first, asking).await?;
        let Some(location) = page.location.as_deref() else { return Ok(page) };
        let next = here.join(location).map_err(|why| here.failed(Kind::Failed, &why))?;
        if asking.stays && next.host != first.host {
            return Ok(page);
        }
        // A name that was given holds for as long as one stays.
        host = host.filter(|_| Url::parse(location).is_err());
        here = next;
    }
    Err(here.failed(Kind::Failed, &format!("stopped after {MOST} redirects")))
}

async fn get(
    place: &Place,
    action: &HTTPGetAction,
    host: Option<&str>,
    first: &Place,
    asking: &Asking<'_>,
) -> Result<Page, Failed> {
    let failed = |why: &str| place.failed(Kind::Failed, why);
    let late = |_: Elapsed| failed(NO_HEADERS);
    let named = host.map_or_else(|| place.authority(), str::to_owned);
    let request = request(place, action, &named, place.host == first.host, asking.agent);
    let request = request.map_err(|error| place.failed(Kind::Unasked, &error.to_string()))?;
    let stream = within(asking.deadline, connect(&place.authority())).await.map_err(late)?;
    let stream = stream.map_err(|why| failed(&why))?;
    if place.scheme != "https" {
        let page = match place.two {
            true => exchange_two(stream, request, asking.deadline).await,
            false => exchange(stream, request, asking.deadline).await,
        };
        return page.map_err(|why| failed(&why));
    }
    let name = rustls::pki_types::ServerName::try_from(place.host.clone());
    let name = name.map_err(|error| failed(&error.to_string()))?;
    let connector = blind::tls(None).map_err(|error| failed(&error.to_string()))?;
    let connecting = tokio_rustls::TlsConnector::from(connector).connect(name, stream);
    let stream = within(asking.deadline, connecting).await.map_err(late)?;
    let stream = stream.map_err(|error| match is_plain(&error) {
        true => place.failed(Kind::Plain, "http: server gave HTTP response to HTTPS client"),
        false => failed(&error.to_string()),
    })?;
    exchange(stream, request, asking.deadline).await.map_err(|why| failed(&why))
}

async fn within<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await,
        None => Ok(work.await),
    }
}

/// Whether the answer to a greeting was no TLS at all.
fn is_plain(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)))
}

fn given<'a>(action: &'a HTTPGetAction, name: &str) -> Option<&'a str> {
    let mut headers = action.http_headers.iter().flatten();
    headers.find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.as_str())
}

fn request(
    place: &Place,
    action: &HTTPGetAction,
    host: &str,
    at_home: bool,
    agent: &str,
) -> Result<http::Request<Empty<Bytes>>, http::Error> {
    let mut request = match place.two {
        // There the host is part of what is asked for, and a connection ends when it is left.
        true => http::Request::get(format!("http://{host}{}", place.path)).version(http::Version::HTTP_2),
        false => http::Request::get(&place.path).header("host", host).header("connection", "close"),
    };
    for (name, value) in [("user-agent", agent), ("accept", "*/*")] {
        if given(action, name).is_none() {
            request = request.header(name, value);
        }
    }
    for header in action.http_headers.iter().flatten() {
        let name = header.name.to_ascii_lowercase();
        // Secrets are for whom they were given, and an empty `Accept` says that there is to be none.
        let skipped = match name.as_str() {
            "host" | "connection" => true,
            "accept" => header.value.is_empty(),
            "authorization" | "cookie" | "www-authenticate" => !at_home,
            _ => false,
        };
        if !skipped {
            request = request.header(&header.name, &header.value);
        }
    }
    request.body(Empty::new())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Empty<Bytes>>,
    deadline: Option<Instant>,
) -> Result<Page, String> {
    let begun = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.map_err(|error| words(&error))?;
    driven(connection, read(sender.send_request(request), deadline)).await
}

async fn exchange_two(
    stream: TcpStream,
    request: http::Request<Empty<Bytes>>,
    deadline: Option<Instant>,
) -> Result<Page, String> {
    let begun = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = begun.map_err(|error| words(&error))?;
    driven(connection, read(sender.send_request(request), deadline)).await
}

/// What is answered to a request.
async fn read(
    sent: impl Future<Output = hyper::Result<http::Response<Incoming>>>,
    deadline: Option<Instant>,
) -> Result<Page, String> {
    let response = within(deadline, sent).await;
    let response = response.map_err(|_| NO_HEADERS.to_owned())?.map_err(|error| words(&error))?;
    let status = response.status().as_u16();
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    let location = location.filter(|_| matches!(status, 301..=303 | 307 | 308)).map(str::to_owned);
    // Servers log a broken connection when nobody reads their answer.
    let body = within(deadline, beginning(response.into_body())).await;
    Ok(Page { status, location, body: body.unwrap_or_else(|_| Err(NO_BODY.to_owned())) })
}

/// Keeps a connection going until there is an answer.
async fn driven(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = Result<Page, String>>,
) -> Result<Page, String> {
    tokio::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(words(&error)),
        }
    }
}

/// No more of a body than is shown; that there would be more is no error.
async fn beginning(body: hyper::body::Incoming) -> Result<Vec<u8>, String> {
    let mut body = Limited::new(body, SHOWN);
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => read.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => break,
            Err(_) => return Err("unexpected EOF".to_owned()),
        }
    }
    Ok(read)
}

/// As Go says it.
fn words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() {
        return "EOF".to_owned();
    }
    if error.is_parse() {
        return format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response: {error}");
    }
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    match source.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionReset) => "read: connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
