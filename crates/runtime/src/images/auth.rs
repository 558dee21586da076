//! Who asks a registry, and how that is proved.

use base64::Engine;
use cri::v1::AuthConfig;
use serde::Deserialize;

use super::ImageError;

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// Somebody with a password.
    Basic(String, String),
    /// Somebody with a token for the registry itself.
    Bearer(String),
    /// Somebody with a token for the registry's issuer of tokens.
    Identity(String),
}

impl Auth {
    /// From what the kubelet found in a pull secret.
    pub fn from_cri(auth: Option<&AuthConfig>) -> Result<Self, ImageError> {
        let Some(auth) = auth else { return Ok(Self::Anonymous) };
        if !auth.registry_token.is_empty() {
            return Ok(Self::Bearer(auth.registry_token.clone()));
        }
        if !auth.identity_token.is_empty() {
            return Ok(Self::Identity(auth.identity_token.clone()));
        }
        if !auth.username.is_empty() {
            return Ok(Self::Basic(auth.username.clone(), auth.password.clone()));
        }
        if auth.auth.is_empty() {
            return Ok(Self::Anonymous);
        }
        let malformed =
            |reason: String| ImageError::Malformed { what: "the pull secret's auth".into(), reason };
        let decoded = base64::engine::general_purpose::STANDARD
            .decode(&auth.auth)
            .map_err(|e| malformed(e.to_string()))?;
        let text = String::from_utf8(decoded).map_err(|e| malformed(e.to_string()))?;
        let (user, password) = text.split_once(':').ok_or_else(|| malformed("it has no colon".into()))?;
        Ok(Self::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()))
    }

    /// The header of somebody whom no issuer need be asked for.
    pub fn header(&self) -> Option<String> {
        match self {
            Self::Basic(user, password) => {
                let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                Some(format!("Basic {text}"))
            }
            Self::Bearer(token) => Some(format!("Bearer {token}")),
            Self::Anonymous | Self::Identity(_) => None,
        }
    }
}

/// What a registry wants to see: `WWW-Authenticate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// A name and a password.
    Basic,
    /// A token that `realm` issues.
    Bearer { realm: String, service: String, scope: String },
}

impl Challenge {
    /// Reads the header; `None` for what is neither.
    pub fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (String::new(), String::new(), String::new());
        while let Some((key, after)) = rest.split_once('=') {
            // A quoted value may hold commas, as a scope of two actions does.
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match key.trim_matches([' ', ',']).to_ascii_lowercase().as_str() {
                "realm" => realm = value.to_owned(),
                "service" => service = value.to_owned(),
                "scope" => scope = value.to_owned(),
                _ => {}
            }
            rest = after;
        }
        (!realm.is_empty()).then_some(Self::Bearer { realm, service, scope })
    }
}

/// What an issuer answers.
#[derive(Deserialize)]
pub struct Issued {
    token: Option<String>,
    access_token: Option<String>,
}

impl Issued {
    /// The token, whichever name it has.
    pub fn token(self) -> Option<String> {
        self.token.or(self.access_token).filter(|token| !token.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_as_registries_write_them() {
        let bearer = Challenge::parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
        );
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: "registry.docker.io".into(),
            scope: "repository:a/b:pull,push".into(),
        };
        assert_eq!(bearer, Some(expected));
        assert_eq!(Challenge::parse(r#"basic realm="x""#), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("Negotiate"), None);
        assert_eq!(Challenge::parse("Bearer service=x"), None);
    }

    #[test]
    fn a_pull_secret_in_any_of_its_forms() {
        let encoded = AuthConfig { auth: "dTpwOnE=".into(), ..AuthConfig::default() };
        assert_eq!(Auth::from_cri(Some(&encoded)).unwrap(), Auth::Basic("u".into(), "p:q".into()));
        let token = AuthConfig { identity_token: "t".into(), ..AuthConfig::default() };
        assert_eq!(Auth::from_cri(Some(&token)).unwrap(), Auth::Identity("t".into()));
        assert_eq!(Auth::from_cri(None).unwrap(), Auth::Anonymous);
        let broken = AuthConfig { auth: "%".into(), ..AuthConfig::default() };
        assert!(Auth::from_cri(Some(&broken)).is_err());
    }
}
