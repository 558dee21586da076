//! Who a request comes from.

use std::sync::Arc;

use auth::user::User;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::request::RequestInfo;
use crate::core::Core;
use crate::status::{ApiError, Result};

/// What is known of the connection that a request came on.
#[derive(Debug, Clone)]
pub enum Peer {
    /// A TLS connection, with the user that a verified client certificate names.
    Network(Option<Arc<User>>),
    /// A component in this process, which is who it was made as.
    InProcess(Arc<User>),
}

/// Proof that it is known who asks. Only [`authenticate`] makes one.
pub struct Authenticated {
    user: Arc<User>,
    info: RequestInfo,
}

impl Authenticated {
    /// Who asks.
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// What for.
    pub fn info(&self) -> &RequestInfo {
        &self.info
    }

    pub(super) fn into_parts(self) -> (Arc<User>, RequestInfo) {
        (self.user, self.info)
    }

    /// The same request in another's name: only after the impersonation itself was allowed.
    pub(super) fn impersonating(self, user: User) -> Self {
        Self { user: Arc::new(user), info: self.info }
    }
}

/// The ways in which a bearer token is looked at.
#[derive(Clone)]
pub struct Authenticator {
    tokens: Arc<dyn TokenAuthenticator>,
}

/// Knows bearer tokens.
pub trait TokenAuthenticator: Send + Sync {
    /// The user of a token for one of these audiences; `None` when nobody knows it.
    ///
    /// # Errors
    /// Why a token of a known kind is refused.
    fn authenticate(
        &self,
        core: &Core,
        token: &str,
        audiences: &[String],
    ) -> std::result::Result<Option<User>, String>;
}

impl Authenticator {
    /// Looks at bearer tokens with `tokens`.
    pub fn new(tokens: Arc<dyn TokenAuthenticator>) -> Self {
        Self { tokens }
    }

    /// The user of a bearer token.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn token(
        &self,
        core: &Core,
        token: &str,
        audiences: &[String],
    ) -> std::result::Result<Option<User>, String> {
        self.tokens.authenticate(core, token, audiences)
    }
}

/// Finds out who asks: the connection's certificate first, then a bearer token; without either it is nobody.
///
/// # Errors
/// 401 for a token that is refused.
pub fn authenticate(
    core: &Core,
    peer: &Peer,
    headers: &HeaderMap,
    info: RequestInfo,
) -> Result<Authenticated> {
    let user = match peer {
        Peer::InProcess(user) | Peer::Network(Some(user)) => user.clone(),
        Peer::Network(None) => match bearer(headers, &info) {
            Some(token) => match core.authenticator.token(core, &token, &[]) {
                Ok(Some(user)) => Arc::new(user),
                Ok(None) => return Err(ApiError::unauthorized()),
                Err(why) => {
                    tracing::info!(%why, "a token was refused");
                    return Err(ApiError::unauthorized());
                }
            },
            None => Arc::new(User::anonymous()),
        },
    };
    Ok(Authenticated { user, info })
}

fn bearer(headers: &HeaderMap, info: &RequestInfo) -> Option<String> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    // Browsers cannot set a header on a WebSocket: there the token is a subprotocol.
    let protocol = || {
        use base64::Engine;
        let protocols = headers.get("sec-websocket-protocol")?.to_str().ok()?;
        let encoded = protocols
            .split(',')
            .find_map(|protocol| protocol.trim().strip_prefix("base64url.bearer.authorization.k8s.io."))?;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(encoded).ok()?;
        String::from_utf8(bytes).ok()
    };
    let _ = info;
    header.or_else(protocol).filter(|token| !token.is_empty())
}
