//! The keys of tokens, and how others learn of them.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is none, or of another kind.
    #[error("not an ECDSA P-256 key: {0}")]
    Unusable(String),
    /// Signing failed.
    #[error("a token could not be signed")]
    Signing,
    /// The claims cannot be written as JSON.
    #[error("a token could not be encoded: {0}")]
    Encoding(serde_json::Error),
}

/// Signs tokens.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<EcdsaKeyPair>,
    public: VerifyingKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.public.id).finish()
    }
}

/// Checks tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    id: String,
    /// 4, then x and y, 32 bytes each.
    point: Vec<u8>,
}

/// What stands before the point in a P-256 key's SubjectPublicKeyInfo.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl SigningKey {
    /// From PKCS #8.
    ///
    /// # Errors
    /// When it is no P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
            .map_err(|e| KeyError::Unusable(e.to_string()))?;
        let public = VerifyingKey::from_point(pair.public_key().as_ref())?;
        Ok(Self { pair: Arc::new(pair), public })
    }

    /// The half that others may know.
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| KeyError::Signing)?;
        Ok(signature.as_ref().to_vec())
    }
}

impl VerifyingKey {
    fn from_point(point: &[u8]) -> Result<Self, KeyError> {
        if point.len() != 65 || point.first() != Some(&4) {
            return Err(KeyError::Unusable("not an uncompressed point".to_owned()));
        }
        // Upstream's id of a key: the hash of its SubjectPublicKeyInfo.
        let spki = [&SPKI_PREFIX, point].concat();
        Ok(Self { id: URL_SAFE_NO_PAD.encode(digest(&SHA256, &spki)), point: point.to_vec() })
    }

    /// The `kid` of its tokens.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point).verify(message, signature).is_ok()
    }

    fn jwk(&self) -> serde_json::Value {
        let coordinate = |range| {
            URL_SAFE_NO_PAD.encode(self.point.get::<std::ops::Range<usize>>(range).unwrap_or_default())
        };
        serde_json::json!({
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": coordinate(1..33), "y": coordinate(33..65),
        })
    }
}

/// Keys as a JSON web key set, for `/openid/v1/jwks`.
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a VerifyingKey>) -> String {
    let keys: Vec<_> = keys.into_iter().map(VerifyingKey::jwk).collect();
    serde_json::json!({"keys": keys}).to_string()
}

/// The document for `/.well-known/openid-configuration`.
pub fn discovery_document(issuer: &str, jwks_uri: &str) -> String {
    serde_json::json!({
        "issuer": issuer,
        "jwks_uri": jwks_uri,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
    .to_string()
}
