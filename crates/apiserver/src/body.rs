//! Bodies in and out.

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

use crate::negotiate::Encoding;
use crate::status::{ApiError, Result};

/// What can go wrong while a body is read or written.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body, whole or streamed.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The largest body that a write may have, as upstream's default (3 MiB).
pub const MAX_BODY: usize = 3 * 1024 * 1024;

/// A body of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a whole body.
///
/// # Errors
/// 413 above [`MAX_BODY`], 400 when the client broke off.
pub async fn read(mut body: Body) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|error| ApiError::bad_request(format!("the request's body ended early: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > MAX_BODY {
            return Err(ApiError::too_large(MAX_BODY));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// An answer of these bytes.
pub fn respond(code: u16, media_type: &str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = media_type.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// An answer of this JSON value.
pub fn json(value: &serde_json::Value) -> Response<Body> {
    respond(200, "application/json", value.to_string())
}

/// An answer of plain text.
pub fn text(code: u16, text: impl Into<String>) -> Response<Body> {
    respond(code, "text/plain; charset=utf-8", text.into())
}

/// The answer that a Status is: JSON or, for clients that ask for it, protobuf.
pub fn status(code: u16, json: Vec<u8>, encoding: Encoding) -> Response<Body> {
    let encoded = match encoding {
        Encoding::Protobuf => status_protobuf(&json),
        Encoding::Yaml => schema::yaml::from_json(&json).ok(),
        Encoding::Json => None,
    };
    match encoded {
        Some(bytes) => respond(code, encoding.media_type(), bytes),
        None => respond(code, Encoding::Json.media_type(), json),
    }
}

/// The answer of a refused request.
pub fn error(error: &ApiError, encoding: Encoding) -> Response<Body> {
    let mut response = status(error.code, error.to_json(), encoding);
    let retry = error.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 && matches!(error.code, 429 | 503 | 504) {
        response.headers_mut().insert(header::RETRY_AFTER, retry.into());
    }
    crate::warning::add(response.headers_mut(), &error.warnings);
    response
}

fn status_protobuf(json: &[u8]) -> Option<Vec<u8>> {
    let kind = schema::catalogue::builtin().kind("", "v1", "Status")?;
    let status = schema::json::decode(&kind.ty, json).ok()?.object;
    Some(schema::protobuf::wrap("v1", "Status", &schema::protobuf::encode(&status)))
}
