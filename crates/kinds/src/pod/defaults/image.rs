//! The reference of an image, as far as defaults look at it: what `github.com/distribution/reference` reads.

/// Whether a reference names the newest image: by the tag `latest`, or by neither tag nor digest. One that cannot be
/// read does not.
pub(super) fn is_latest(image: &str) -> bool {
    tag(image) == Some("latest")
}

/// The tag of a reference, `latest` when it has neither tag nor digest; `None` when it has no tag or cannot be read.
fn tag(image: &str) -> Option<&str> {
    if image.len() == 64 && image.bytes().all(is_lower_hex) {
        return None;
    }
    let (domain, rest) = split_domain(image);
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (rest, None),
    };
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (rest, None),
    };
    let library = domain.is_none_or(|domain| domain == "docker.io") && !path.contains('/');
    let length = path.len() + if library { "library/".len() } else { 0 };
    let fits = domain.is_none_or(is_domain)
        && path.split('/').all(is_component)
        && length <= LONGEST
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest);
    match (tag, digest) {
        _ if !fits => None,
        (None, None) => Some("latest"),
        (tag, _) => tag,
    }
}

/// The most bytes that a repository's path may have.
const LONGEST: usize = 255;

/// The registry, if the reference names one, and what follows.
fn split_domain(image: &str) -> (Option<&str>, &str) {
    match image.split_once('/') {
        Some(("index.docker.io", rest)) => (Some("docker.io"), rest),
        Some((domain, rest))
            if domain == "localhost"
                || domain.contains(['.', ':'])
                || domain.chars().any(char::is_uppercase) =>
        {
            (Some(domain), rest)
        }
        _ => (None, image),
    }
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// A host, as name or as IPv6 address in brackets, with or without a port.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let fits = !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
            if !fits {
                return false;
            }
            (None, port)
        }
        None => {
            let end = domain.find(':').unwrap_or(domain.len());
            let (host, port) = domain.split_at(end);
            (Some(host), port)
        }
    };
    let named = |part: &str| {
        let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        edge(part.bytes().next())
            && edge(part.bytes().last())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let port = port.is_empty()
        || port
            .strip_prefix(':')
            .is_some_and(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    host.is_none_or(|host| host.split('.').all(named)) && port
}

/// A part of a path: small letters and digits, with one or two `_`, a `.` or any number of `-` between them.
fn is_component(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let edges = part.bytes().next().is_some_and(word) && part.bytes().last().is_some_and(word);
    edges
        && part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|between| {
            matches!(between, "" | "." | "_" | "__") || between.bytes().all(|byte| byte == b'-')
        })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

fn is_digest(digest: &str) -> bool {
    let length = match digest.split_once(':').map(|(algorithm, _)| algorithm) {
        Some("sha256") => 64,
        Some("sha384") => 96,
        Some("sha512") => 128,
        _ => return false,
    };
    let hex = digest.split_once(':').map_or("", |(_, hex)| hex);
    hex.len() == length && hex.bytes().all(is_lower_hex)
}

#[cfg(test)]
mod tests {
    use super::{is_latest, tag};

    #[test]
    fn references_are_read_as_upstream_reads_them() {
        let digest = format!("@sha256:{}", "a".repeat(64));
        let newest = [
            "nginx",
            "nginx:latest",
            "a/b/c",
            "localhost/a",
            "R.io/a",
            "UPPER/a",
            "r.io:5000/a:latest",
            "[::1]:5000/a",
            "a-b__c.d",
            "a---b",
            &format!("nginx:latest{digest}"),
        ];
        for image in newest {
            assert!(is_latest(image), "{image}");
        }
        let unreadable =
            ["", "A", "a b", "-a", "a:", "a..b", "a___b", ".", "$(X)", "/abs", "é", "r.io/A", "a@b"];
        for image in unreadable.map(str::to_owned).into_iter().chain([
            "a".repeat(64),
            "x".repeat(300),
            format!("a@md5:{}", "a".repeat(32)),
        ]) {
            assert_eq!(tag(&image), None, "{image}");
        }
        assert_eq!(tag(&format!("nginx{digest}")), None);
        assert_eq!(tag("r.io/a:1.2-x"), Some("1.2-x"));
        assert_eq!(tag("a:b"), Some("b"));
    }
}
