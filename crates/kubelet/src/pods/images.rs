//! Whether an image has to be pulled, and who one is at its registry. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

#[derive(Deserialize, Default)]
struct DockerConfig {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, Entry>,
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
#[derive(Debug, PartialEq, Eq)]
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

/// The registry of an image, as a host.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// The credentials for an image among those of pull secrets, and the secret that holds them.
pub fn credentials<'s>(image: &str, secrets: &'s [Secret]) -> Option<(AuthConfig, &'s Secret)> {
    let wanted = registry(image);
    for secret in secrets {
        let data = secret.data.as_ref();
        let full = data.and_then(|data| data.get(".dockerconfigjson"));
        let old = data.and_then(|data| data.get(".dockercfg"));
        let config = match (full, old) {
            (Some(json), _) => serde_json::from_slice::<DockerConfig>(&json.0).ok(),
            (None, Some(json)) => serde_json::from_slice(&json.0).ok().map(|auths| DockerConfig { auths }),
            (None, None) => None,
        };
        let entry = config
            .and_then(|config| config.auths.into_iter().find(|(server, _)| matches(server, wanted, image)));
        if let Some((server, entry)) = entry {
            return Some((auth_of(server, entry), secret));
        }
    }
    None
}

fn matches(server: &str, wanted: &str, image: &str) -> bool {
    let bare = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    if wanted == "docker.io" {
        return matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    }
    host == wanted && (matches!(path, "" | "v1" | "v2") || image.starts_with(&format!("{host}/{path}")))
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
