//! What is wrong with a certificate and its key as far as their PEM tells (`crypto/tls.X509KeyPair`).

use base64::Engine as _;

const CERTIFICATE: &str = "CERTIFICATE";
const KEY: &str = "PRIVATE KEY";

/// The first thing that is wrong.
pub(super) fn pair(certificate: &[u8], key: &[u8]) -> Option<String> {
    let is_key = |kind: &str| kind == KEY || kind.ends_with(" PRIVATE KEY");
    let blocks = types(certificate);
    if !blocks.iter().any(|kind| kind == CERTIFICATE) {
        return Some(match blocks.as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [only] if is_key(only) => {
                "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".to_owned()
            }
            others => format!(
                "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]",
                others.join(" ")
            ),
        });
    }
    let blocks = types(key);
    if blocks.iter().any(|kind| is_key(kind)) {
        return None;
    }
    Some(match blocks.as_slice() {
        [] => "tls: failed to find any PEM data in key input".to_owned(),
        [only] if only == CERTIFICATE => {
            "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
        }
        others => format!(
            "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
            others.join(" ")
        ),
    })
}

/// The types of all blocks that begin, end, and have base64 between.
fn types(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    let mut open: Option<(&str, String)> = None;
    for line in text.lines().map(str::trim_end) {
        if let Some(kind) = line.strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) {
            open = Some((kind, String::new()));
        } else if let Some(kind) = line.strip_prefix("-----END ").and_then(|rest| rest.strip_suffix("-----"))
        {
            if let Some((began, body)) = open.take()
                && began == kind
                && base64::engine::general_purpose::STANDARD.decode(&body).is_ok()
            {
                found.push(kind.to_owned());
            }
        } else if let Some((_, body)) = &mut open
            && !line.contains(':')
        {
            body.push_str(line);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{pair, types};

    fn block(kind: &str) -> String {
        format!("-----BEGIN {kind}-----\naGVsbG8=\n-----END {kind}-----\n")
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_told() {
        let pair = |certificate: &str, key: &str| pair(certificate.as_bytes(), key.as_bytes());
        let (certificate, key) = (block("CERTIFICATE"), block("EC PRIVATE KEY"));
        assert_eq!(pair(&certificate, &key), None);
        assert_eq!(pair(&certificate, &block("PRIVATE KEY")), None);
        let told = |certificate: &str, key: &str| pair(certificate, key).unwrap();
        assert_eq!(told("x", &key), "tls: failed to find any PEM data in certificate input");
        assert_eq!(told(&certificate, ""), "tls: failed to find any PEM data in key input");
        assert!(told(&key, &certificate).ends_with("PEM inputs may have been switched"));
        assert!(told(&certificate, &certificate).starts_with("tls: found a certificate rather than a key"));
        assert!(told(&block("X"), &key).ends_with("of the following types: [X]"));
        assert!(told(&certificate, &(block("X") + &block("Y"))).ends_with("types: [X Y]"));
    }

    #[test]
    fn only_whole_blocks_count() {
        let broken = "-----BEGIN A-----\n*\n-----END A-----\n-----BEGIN B-----\n-----END C-----\n";
        assert_eq!(types(broken.as_bytes()), Vec::<String>::new());
        assert_eq!(types(format!("text\n{}", block("D")).as_bytes()), ["D"]);
    }
}
