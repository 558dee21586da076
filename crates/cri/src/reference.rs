//! Names of images: `[registry/]repository[:tag][@digest]`, completed and refused as `distribution/reference` does.
//!
//! Read by hand: the regular expression of the library at hand stays with 8 MiB in each process that has seen a name.

use std::fmt;
use std::str::FromStr;

/// Where a name without a registry comes from.
const HUB: &str = "docker.io";
/// What the hub was called before.
const LEGACY_HUB: &str = "index.docker.io";
/// Whose images those of the hub are that name nobody, with the slash after it.
const OFFICIAL: &str = "library/";
/// The longest path within a registry.
const LONGEST: usize = 255;
/// The longest tag.
const LONGEST_TAG: usize = 128;

/// An image's name, completed: `nginx` is `docker.io/library/nginx`. A tag is there only when it was named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Why a text is not an image's name, in the words of `distribution/reference` and `opencontainers/go-digest`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("repository name must be lowercase")]
    UppercaseRegistry,
    #[error("invalid reference format")]
    Format,
    #[error("repository name must not be more than {LONGEST} characters")]
    TooLong,
    #[error("invalid checksum digest format")]
    DigestFormat,
    #[error("invalid checksum digest length")]
    DigestLength,
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
}

impl Reference {
    /// `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// As it was named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// `sha256:…`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (registry, rest) = split(text);
        let path = rest.split(':').next().unwrap_or_default();
        if path.to_lowercase() != path {
            return Err(ReferenceError::Uppercase(path.to_owned()));
        }
        let (rest, digest) = cut(&rest, '@');
        let (repository, tag) = cut(rest, ':');
        let good = is_path(repository) && tag.is_none_or(is_tag) && digest.is_none_or(looks_like_a_digest);
        // What cannot be a registry is taken for the first part of the path.
        let length = match (is_registry(registry), is_component(registry)) {
            _ if !good => return Err(ReferenceError::Format),
            (true, _) => repository.len(),
            (false, true) => registry.len() + 1 + repository.len(),
            (false, false) if is_component(&registry.to_lowercase()) => {
                return Err(ReferenceError::UppercaseRegistry);
            }
            (false, false) => return Err(ReferenceError::Format),
        };
        if length > LONGEST {
            return Err(ReferenceError::TooLong);
        }
        digest.map_or(Ok(()), check_digest)?;
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

/// The registry, and what follows it.
fn split(text: &str) -> (&str, String) {
    let (registry, rest) = match text.split_once('/') {
        Some((LEGACY_HUB, rest)) => (HUB, rest),
        Some((first, rest))
            if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first =>
        {
            (first, rest)
        }
        _ => (HUB, text),
    };
    let official = if registry == HUB && !rest.contains('/') { OFFICIAL } else { "" };
    (registry, format!("{official}{rest}"))
}

/// A text before the first of these, and after it, where there is one.
fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// `host[:port]`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inner, rest)) => {
            let inside =
                !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
            match (inside, rest.strip_prefix(':')) {
                (true, None) => return rest.is_empty(),
                (true, port) => (None, port),
                (false, _) => return false,
            }
        }
        None => {
            let (host, port) = cut(text, ':');
            (Some(host), port)
        }
    };
    host.is_none_or(|host| host.split('.').all(is_label))
        && port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Letters, digits and dashes, with a dash at neither end.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_component)
}

/// Lower-case letters and digits, between which stands a dot, one or two underscores, or any number of dashes.
fn is_component(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| is_part(*byte));
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.split(|byte| is_part(*byte)).all(|between| {
            matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|byte| *byte == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(is_word)
        && text.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// `algorithm:hex`, with 32 digits at least.
fn looks_like_a_digest(text: &str) -> bool {
    let (algorithm, hex) = cut(text, ':');
    let is_name = |part: &str| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    algorithm.split(['-', '_', '+', '.']).all(is_name)
        && hex.is_some_and(|hex| hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a digest is one that can be checked.
fn check_digest(text: &str) -> Result<(), ReferenceError> {
    let (algorithm, hex) = cut(text, ':');
    let hex = hex.unwrap_or_default();
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ if algorithm.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            return Err(ReferenceError::DigestFormat);
        }
        _ => return Err(ReferenceError::DigestAlgorithm),
    };
    if hex.len() != length {
        return Err(ReferenceError::DigestLength);
    }
    if hex.bytes().all(is_lower_hex) { Ok(()) } else { Err(ReferenceError::DigestFormat) }
}

#[cfg(test)]
mod tests;
