//! Whether a registry's pattern is meant for an image: `*.example.com:5000/some/path`. Pure.

/// Host and port, and the path with its slash.
fn split(text: &str) -> (&str, &str) {
    match text.find('/') {
        Some(slash) => text.split_at(slash),
        None => (text, ""),
    }
}

fn port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    }
}

/// Whether the pattern fits: the same port, as many labels of the host, each like its pattern, and the path begins so.
pub fn matches(pattern: &str, image: &str) -> bool {
    let ((pattern_host, pattern_path), (host, path)) = (split(pattern), split(image));
    let ((pattern_name, pattern_port), (name, port)) = (port(pattern_host), port(host));
    let labels = |name: &str| name.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (wanted, found) = (labels(pattern_name), labels(name));
    pattern_port == port
        && path.starts_with(pattern_path)
        && wanted.len() == found.len()
        && wanted.iter().zip(&found).all(|(pattern, label)| glob(pattern.as_bytes(), label.as_bytes()))
}

/// `*` is any text, `?` any byte, as in a shell.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => glob(rest, text),
        (Some((b'*', rest)), Some((_, after))) => glob(rest, text) || glob(pattern, after),
        (Some((b'?', rest)), Some((_, after))) => glob(rest, after),
        (Some((wanted, rest)), Some((found, after))) => wanted == found && glob(rest, after),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// A key of a provider's answer as a pattern: without scheme, and without the version of a registry's API.
pub fn pattern(key: &str) -> String {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = split(bare);
    let path = path
        .strip_prefix("/v1")
        .or_else(|| path.strip_prefix("/v2"))
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path);
    if path == "/" { host.to_owned() } else { format!("{host}{path}") }
}

/// The registry of an image as upstream's providers mean it: what stands before the first slash.
pub fn registry(image: &str) -> &str {
    split(image).0
}

/// Whether an image that names no registry comes from Docker's.
pub fn is_default(image: &str) -> bool {
    match image.split_once('/') {
        None => !image.is_empty(),
        Some((host, _)) => {
            matches!(host, "docker.io" | "index.docker.io") || !host.is_empty() && !host.contains(['.', ':'])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_label_by_label() {
        for (pattern, image, fits) in [
            ("example.com", "example.com/a:1", true),
            ("*.dkr.ecr.*.amazonaws.com", "123.dkr.ecr.eu-west-1.amazonaws.com/a", true),
            ("*.example.com", "a.b.example.com/x", false),
            ("*.io", "example.com/x", false),
            ("r.io:5000", "r.io/x", false),
            ("r.io:5000/team", "r.io:5000/team/x", true),
            ("r.io:5000/team", "r.io:5000/other", false),
            ("app-?.io", "app-1.io/x", true),
            ("app-?.io", "app-12.io/x", false),
        ] {
            assert_eq!(matches(pattern, image), fits, "{pattern} {image}");
        }
    }

    #[test]
    fn keys_lose_what_is_no_part_of_an_image() {
        assert_eq!(pattern("https://index.docker.io/v1/"), "index.docker.io");
        assert_eq!(pattern("r.io:5000/v2/team"), "r.io:5000/team");
        assert_eq!(pattern("r.io/v1beta"), "r.io/v1beta");
        assert!(is_default("nginx") && is_default("library/nginx") && !is_default("r.io/nginx"));
    }
}
