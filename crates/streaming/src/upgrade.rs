//! Negotiating an upgrade: which protocol a client asked for, and what it is answered.

use base64::Engine;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;

/// The raw connection behind an upgrade.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// The SPDY subprotocol that was asked for and chosen.
pub const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What a server would have accepted.
const ACCEPTED_VERSIONS: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");

/// Why an upgrade was not granted: what to answer.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// 400 or 403, as upstream answers.
    pub status: StatusCode,
    /// For a person.
    pub message: String,
    accepted: Vec<&'static str>,
}

impl Refusal {
    /// A request that is malformed.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into(), accepted: Vec::new() }
    }

    /// The answer to the client.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.message + "\n")));
        *response.status_mut() = self.status;
        for protocol in self.accepted {
            response.headers_mut().append(ACCEPTED_VERSIONS, HeaderValue::from_static(protocol));
        }
        response
    }
}

/// What a client wants the connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    WebSocket,
    Spdy,
}

/// Whether a request asks for an upgrade at all.
pub fn is_upgrade(headers: &HeaderMap) -> bool {
    values(headers, &CONNECTION).any(|value| value.eq_ignore_ascii_case("upgrade"))
}

/// Which upgrade a request asks for.
pub fn kind(headers: &HeaderMap) -> Result<Kind, Refusal> {
    if !is_upgrade(headers) {
        return Err(Refusal::bad_request("unable to upgrade: missing upgrade headers in request"));
    }
    for wanted in values(headers, &UPGRADE) {
        if wanted.eq_ignore_ascii_case("websocket") {
            return Ok(Kind::WebSocket);
        }
        if wanted.eq_ignore_ascii_case("SPDY/3.1") {
            return Ok(Kind::Spdy);
        }
    }
    Err(Refusal::bad_request("unable to upgrade: the client asks for neither websocket nor SPDY/3.1"))
}

/// The members of a header that is a list, over all its lines.
fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
}

/// Chooses a SPDY subprotocol and answers with it.
pub fn spdy(
    headers: &HeaderMap,
    ours: &[&'static str],
) -> Result<(Response<Full<Bytes>>, &'static str), Refusal> {
    let wanted: Vec<&str> = values(headers, &PROTOCOL_VERSION).collect();
    if wanted.is_empty() {
        return Err(Refusal::bad_request(
            "unable to upgrade: header X-Stream-Protocol-Version is missing or empty",
        ));
    }
    let Some(chosen) = choose(&wanted, ours) else {
        return Err(Refusal {
            status: StatusCode::FORBIDDEN,
            message: format!(
                "unable to upgrade: unable to negotiate protocol: client supports {wanted:?}, server accepts {ours:?}"
            ),
            accepted: ours.to_vec(),
        });
    };
    let mut response = switching("SPDY/3.1");
    response.headers_mut().insert(PROTOCOL_VERSION, HeaderValue::from_static(chosen));
    Ok((response, chosen))
}

/// Chooses a WebSocket subprotocol and answers with it. A client may name none, and gets `""`
/// where that is among ours.
pub fn websocket(
    headers: &HeaderMap,
    ours: &[&'static str],
) -> Result<(Response<Full<Bytes>>, &'static str), Refusal> {
    let Some(key) = headers.get(WEBSOCKET_KEY).and_then(|key| key.to_str().ok()) else {
        return Err(Refusal::bad_request("unable to upgrade: Sec-WebSocket-Key is missing"));
    };
    if !values(headers, &WEBSOCKET_VERSION).any(|version| version == "13") {
        return Err(Refusal::bad_request("unable to upgrade: only version 13 of WebSocket is spoken here"));
    }
    let wanted: Vec<&str> = values(headers, &WEBSOCKET_PROTOCOL).collect();
    let chosen = if wanted.is_empty() { choose(&[""], ours) } else { choose(&wanted, ours) };
    let Some(chosen) = chosen else {
        return Err(Refusal {
            status: StatusCode::FORBIDDEN,
            message: format!(
                "unable to upgrade: client asks for subprotocols {wanted:?}, server accepts {ours:?}"
            ),
            accepted: Vec::new(),
        });
    };
    let mut response = switching("websocket");
    let accept = HeaderValue::from_str(&accept_key(key))
        .map_err(|_| Refusal::bad_request("unable to upgrade: Sec-WebSocket-Key is malformed"))?;
    response.headers_mut().insert(WEBSOCKET_ACCEPT, accept);
    if !chosen.is_empty() {
        response.headers_mut().insert(WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    }
    Ok((response, chosen))
}

fn choose(wanted: &[&str], ours: &[&'static str]) -> Option<&'static str> {
    wanted.iter().find_map(|wanted| ours.iter().find(|our| *our == wanted).copied())
}

fn switching(to: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    response
}

/// RFC 6455, section 4.2.2.
pub fn accept_key(key: &str) -> String {
    let salted = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, salted.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_key_of_the_rfc_gives_its_answer() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_clients_order_of_protocols_counts() {
        let asked = headers(&[
            ("x-stream-protocol-version", "v9.k8s.io, v4.k8s.io"),
            ("x-stream-protocol-version", "v3.k8s.io"),
        ]);
        assert_eq!(spdy(&asked, &["v3.k8s.io", "v4.k8s.io"]).unwrap().1, "v4.k8s.io");
        let refusal = spdy(&asked, &["v1"]).unwrap_err();
        assert_eq!(refusal.into_response().headers().get(ACCEPTED_VERSIONS).unwrap(), "v1");
    }

    #[test]
    fn an_upgrade_is_found_among_other_tokens() {
        let asked = headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "SPDY/3.1")]);
        assert_eq!(kind(&asked).unwrap(), Kind::Spdy);
        assert!(kind(&headers(&[("connection", "close")])).is_err());
    }
}
