//! Service account tokens: JSON web tokens, signed with ECDSA P-256 (ES256), bound and expiring.
//!
//! Knows nothing of objects: whether a service account still exists is asked of a
//! [`Lookup`](crate::authenticate::Lookup).

mod claims;
mod keys;

use std::time::Duration;

use base::{SharedClock, SharedRandom};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

pub use self::claims::{Claims, KubernetesClaims, Reference};
pub use self::keys::{KeyError, SigningKey, VerifyingKey, discovery_document, jwks};

/// What a token is asked for.
#[derive(Debug, Clone, Default)]
pub struct TokenRequest {
    /// The service account's namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: Reference,
    /// The pod that it is bound to.
    pub pod: Option<Reference>,
    /// The Secret that it is bound to.
    pub secret: Option<Reference>,
    /// The node that it is bound to; beside a pod, just where that pod runs.
    pub node: Option<Reference>,
    /// For whom it is; empty for the API server.
    pub audiences: Vec<String>,
    /// How long it is valid.
    pub ttl: Duration,
    /// After this long its use is worth a warning.
    pub warn_after: Option<Duration>,
}

/// A new token.
#[derive(Debug, Clone)]
pub struct Minted {
    /// The token itself.
    pub token: String,
    /// When it ends.
    pub expires: Timestamp,
    /// Its id (`jti`).
    pub id: String,
}

/// Why a token is refused. These texts go to whoever asks for a TokenReview.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not from any of the known keys, or was changed.
    #[error("invalid bearer token")]
    Signature,
    /// It is over.
    #[error("service account token has expired")]
    Expired,
    /// It has not begun.
    #[error("service account token is not valid yet")]
    NotYet,
    /// Its issuer's clock and this one differ.
    #[error("service account token is issued in the future")]
    IssuedInTheFuture,
    /// It is for somebody else.
    #[error("token audiences {found:?} is invalid for the target audiences {wanted:?}")]
    Audience {
        /// Whom it is for.
        found: Vec<String>,
        /// For whom it should be.
        wanted: Vec<String>,
    },
    /// It is bound to something that is gone.
    #[error("{0}")]
    Invalidated(String),
}

/// Clocks may differ by this much.
const LEEWAY_SECONDS: i64 = 60;

/// Makes tokens and checks them.
pub struct TokenIssuer {
    issuer: String,
    audiences: Vec<String>,
    key: SigningKey,
    /// Keys of the past, whose tokens are still valid.
    others: Vec<VerifyingKey>,
    clock: SharedClock,
    random: SharedRandom,
}

impl TokenIssuer {
    /// Tokens of `issuer` (an https URL), for `audiences` (empty: the issuer) unless others are asked for.
    pub fn new(
        issuer: &str,
        audiences: Vec<String>,
        key: SigningKey,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Self {
        let audiences = if audiences.is_empty() { vec![issuer.to_owned()] } else { audiences };
        Self { issuer: issuer.to_owned(), audiences, key, others: Vec::new(), clock, random }
    }

    /// Also accepts tokens of another key.
    #[must_use]
    pub fn accept(mut self, key: VerifyingKey) -> Self {
        self.others.push(key);
        self
    }

    /// The issuer's URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audiences that mean this API server.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The keys that tokens can be checked with (RFC 7517).
    pub fn jwks(&self) -> String {
        jwks(std::iter::once(self.key.verifying_key()).chain(&self.others))
    }

    /// A token.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn mint(&self, request: &TokenRequest) -> Result<Minted, KeyError> {
        let now = self.clock.now().as_second();
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let expires = now.saturating_add(seconds(request.ttl));
        let id = self.random.uuid();
        let claims = Claims {
            aud: if request.audiences.is_empty() {
                self.audiences.clone()
            } else {
                request.audiences.clone()
            },
            exp: expires,
            iat: now,
            iss: self.issuer.clone(),
            jti: id.clone(),
            kubernetes: KubernetesClaims {
                namespace: request.namespace.clone(),
                node: request.node.clone(),
                pod: request.pod.clone(),
                secret: request.secret.clone(),
                service_account: request.service_account.clone(),
                warn_after: request.warn_after.map(|after| now.saturating_add(seconds(after))),
            },
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", request.namespace, request.service_account.name),
        };
        let header = serde_json::json!({"alg": "ES256", "kid": self.key.verifying_key().id()});
        let encoded = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims).map_err(KeyError::Encoding)?)
        );
        let signature = self.key.sign(encoded.as_bytes())?;
        let token = format!("{encoded}.{}", URL_SAFE_NO_PAD.encode(signature));
        Ok(Minted { token, expires: Timestamp::from_second(expires).unwrap_or(Timestamp::MAX), id })
    }

    /// What a token says, once its signature, times and audience were found good. An empty `audiences` means
    /// this API server's. `None` when it is no token of this issuer, so that others may look at it.
    ///
    /// # Errors
    /// Why a token that claims to be of this issuer is refused.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Result<Option<Claims>, TokenError> {
        let Some(parts) = Parts::of(token) else { return Ok(None) };
        if parts.claims.iss != self.issuer {
            return Ok(None);
        }
        let mut keys = std::iter::once(self.key.verifying_key()).chain(&self.others);
        let is_genuine = |key: &VerifyingKey| {
            (parts.key_id.is_empty() || parts.key_id == key.id())
                && key.verify(parts.signed.as_bytes(), &parts.signature)
        };
        if !keys.any(is_genuine) {
            return Err(TokenError::Signature);
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        if !parts.claims.aud.iter().any(|audience| wanted.contains(audience)) {
            return Err(TokenError::Audience { found: parts.claims.aud, wanted: wanted.to_vec() });
        }
        self.check_times(&parts.claims)?;
        Ok(Some(parts.claims))
    }

    fn check_times(&self, claims: &Claims) -> Result<(), TokenError> {
        let now = self.clock.now().as_second();
        if now < claims.nbf.saturating_sub(LEEWAY_SECONDS) {
            return Err(TokenError::NotYet);
        }
        if now > claims.exp.saturating_add(LEEWAY_SECONDS) {
            return Err(TokenError::Expired);
        }
        if now < claims.iat.saturating_sub(LEEWAY_SECONDS) {
            return Err(TokenError::IssuedInTheFuture);
        }
        Ok(())
    }
}

/// A token taken apart, nothing of it believed yet.
struct Parts<'a> {
    signed: &'a str,
    signature: Vec<u8>,
    key_id: String,
    claims: Claims,
}

#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
        let claims: Claims = serde_json::from_slice(&decode(claims)?).ok()?;
        // The algorithm is never the token's to choose.
        (header.alg == "ES256").then_some(Self {
            signed,
            signature: decode(signature)?,
            key_id: header.kid,
            claims,
        })
    }
}

#[cfg(test)]
mod tests;
