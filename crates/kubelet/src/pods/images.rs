//! Whether an image has to be pulled, and who one is at its registry. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

use crate::credentials::matching::{is_default, matches, pattern};

/// What a runtime puts before its words when a registry is not there, and when a signature is not as it should be
/// (`k8s.io/cri-api/pkg/errors`). They are the reasons of what waits, too.
pub const UNAVAILABLE: &str = "RegistryUnavailable";
pub const UNVALIDATED: &str = "SignatureValidationFailed";

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
}

/// Whether an image is pulled, by its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Pull,
    Use,
    /// It is not there, and may not be pulled.
    Refuse,
}

/// Decides.
pub fn decide(policy: &str, present: bool) -> Decision {
    match (policy, present) {
        ("Always", _) | ("IfNotPresent" | "", false) => Decision::Pull,
        ("Never", false) => Decision::Refuse,
        (_, true) => Decision::Use,
        (_, false) => Decision::Pull,
    }
}

/// An image's name with its registry.
fn qualified(image: &str) -> String {
    match image.split_once('/') {
        None => format!("docker.io/library/{image}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => image.to_owned(),
        Some(_) => format!("docker.io/{image}"),
    }
}

/// All credentials for an image among those of pull secrets, the most particular ones first, each with the secret that
/// holds it (upstream's `DockerKeyring`). An entry may be a pattern, such as `*.example.com/team`.
pub fn credentials<'s>(image: &str, secrets: &'s [Secret]) -> Vec<(AuthConfig, &'s Secret)> {
    let image = qualified(image);
    let mut entries: Vec<(String, AuthConfig, &Secret)> = Vec::new();
    for secret in secrets {
        let found = entries_of(secret).into_iter();
        entries.extend(found.map(|(server, entry)| (pattern(&server), auth_of(server, entry), secret)));
    }
    entries.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    let only = |fits: &dyn Fn(&str) -> bool| {
        let fitting = entries.iter().filter(|(pattern, ..)| fits(pattern));
        fitting.map(|(_, auth, secret)| (auth.clone(), *secret)).collect::<Vec<_>>()
    };
    let found = only(&|pattern| matches(pattern, &image));
    match found.is_empty() && is_default(&image) {
        true => only(&|pattern| pattern == "index.docker.io"),
        false => found,
    }
}

fn entries_of(secret: &Secret) -> BTreeMap<String, Entry> {
    let data = secret.data.as_ref();
    let full = data.and_then(|data| data.get(".dockerconfigjson"));
    let old = data.and_then(|data| data.get(".dockercfg"));
    let read = match (full, old) {
        (Some(json), _) => serde_json::from_slice::<DockerConfig>(&json.0).map(|config| config.auths),
        (None, Some(json)) => serde_json::from_slice(&json.0),
        (None, None) => return BTreeMap::new(),
    };
    read.unwrap_or_else(|error| {
        tracing::warn!(name = secret.metadata.name, %error, "a pull secret cannot be read: it does not help");
        BTreeMap::new()
    })
}

fn auth_of(server: String, entry: Entry) -> AuthConfig {
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = match pair {
        Some((user, password)) if entry.username.is_empty() => (user.to_owned(), password.to_owned()),
        _ => (entry.username, entry.password),
    };
    AuthConfig {
        username,
        password,
        server_address: server,
        identity_token: entry.identitytoken,
        ..Default::default()
    }
}

/// The reason and the message of a pull that a runtime gave up with `said`.
pub fn refused(image: &str, said: &str) -> (&'static str, String) {
    let whys =
        [(UNAVAILABLE, "the registry is unavailable"), (UNVALIDATED, "the signature validation failed")];
    let why = whys.iter().find_map(|&(reason, why)| Some((reason, why, said.strip_prefix(reason)?)));
    match why {
        Some((reason, why, rest)) => (reason, format!("image pull failed for {image} because {why}{rest}")),
        None => ("ErrImagePull", said.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_runtime_says_of_a_registry_is_a_reason() {
        let (reason, message) = refused("a/b:1", "RegistryUnavailable: pinging a: refused");
        assert_eq!(reason, "RegistryUnavailable");
        assert_eq!(
            message,
            "image pull failed for a/b:1 because the registry is unavailable: pinging a: refused"
        );
        assert_eq!(refused("a/b:1", "SignatureValidationFailed").0, "SignatureValidationFailed");
        assert_eq!(
            refused("a/b:1", "no RegistryUnavailable"),
            ("ErrImagePull", "no RegistryUnavailable".into())
        );
    }
}
