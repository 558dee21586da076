//! Watches and logs over WebSocket: programs in browsers cannot read an answer while it comes. Exec, attach and
//! port-forward have streams of their own, and are the kubelet's.

use http::{HeaderMap, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use streaming::oneway::{self, Form, PROTOCOLS};
use streaming::upgrade::{Kind, kind, websocket};

use super::subresource::ConnectionParts;
use crate::body::{Body, BoxError};
use crate::core::Core;
use crate::pipeline::request::RequestInfo;
use crate::status::{ApiError, Result};

/// A WebSocket that a client asked for.
pub struct Socket {
    upgrade: hyper::upgrade::OnUpgrade,
    /// What the client is answered.
    switching: Response<Body>,
    protocol: &'static str,
    is_watch: bool,
}

impl Socket {
    /// The one that a request for a watch or a log asks for; then nobody else may use the connection.
    ///
    /// # Errors
    /// 400 and 403, when there is no such WebSocket.
    pub fn asked(
        info: &RequestInfo,
        headers: &HeaderMap,
        connection: &mut ConnectionParts,
    ) -> Result<Option<Self>> {
        let is_watch = info.verb == "watch";
        let is_log = info.verb == "get" && info.resource == "pods" && info.subresource == "log";
        if !(is_watch || is_log) || !matches!(kind(headers), Ok(Kind::WebSocket)) {
            return Ok(None);
        }
        let Some(upgrade) = connection.upgrade.take() else { return Ok(None) };
        let (switching, protocol) = websocket(headers, PROTOCOLS).map_err(|refusal| {
            let reason = if refusal.status == StatusCode::FORBIDDEN { "Forbidden" } else { "BadRequest" };
            ApiError::with_code(refusal.status.as_u16(), reason, refusal.message)
        })?;
        let switching = switching.map(|body| body.map_err(|never| match never {}).boxed_unsync());
        Ok(Some(Self { upgrade, switching, protocol, is_watch }))
    }

    /// Sends an answer by it: each event of a watch as a message, a log as it comes. One that is no success stays what
    /// it is.
    pub fn carry(self, core: &Core, response: Response<Body>) -> Response<Body> {
        if response.status() != StatusCode::OK {
            return response;
        }
        let media_type = response.headers().get(http::header::CONTENT_TYPE);
        let is_binary =
            media_type.and_then(|value| value.to_str().ok()).is_some_and(|value| value.contains("protobuf"));
        let (is_watch, upgrade) = (self.is_watch, self.upgrade);
        let form = if is_watch && !is_binary { Form::Text } else { Form::of(self.protocol) };
        let frames = futures::stream::unfold(response.into_body(), |mut body| async move {
            loop {
                match body.frame().await? {
                    Err(error) => return Some((Err::<_, BoxError>(error), body)),
                    Ok(frame) => {
                        if let Ok(data) = frame.into_data() {
                            return Some((Ok(data), body));
                        }
                    }
                }
            }
        });
        // An event's length is the message's.
        let without_length = move |data: bytes::Bytes| match is_watch && is_binary {
            true => data.slice(LENGTH.min(data.len())..),
            false => data,
        };
        let items = futures::StreamExt::map(frames, move |item| item.map(without_length));
        core.tasks.spawn(async move {
            let carried = match upgrade.await {
                Ok(io) => {
                    oneway::carry(TokioIo::new(io), form, !is_watch, items).await.map_err(BoxError::from)
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = carried {
                tracing::debug!(%error, "a websocket ended");
            }
        });
        self.switching
    }
}

/// The bytes before each event of a watch in Protobuf that say how long it is.
const LENGTH: usize = 4;
