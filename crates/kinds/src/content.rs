//! What texts must look like, each with everything that is wrong with one that does not
//! (`apimachinery/pkg/util/validation`). Nothing is allocated for a text that is right.

use std::borrow::Cow;

/// What is wrong with a text; empty when nothing is.
pub type Problems = Vec<Cow<'static, str>>;

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SUBDOMAIN_UNDERSCORE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const HEADER: &str = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const C_IDENTIFIER: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const DECIMAL: &str = "must be a valid decimal integer in canonical form";

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Begins and ends with an `edge` and has only `inner` between.
fn framed(text: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|&byte| edge(byte))
        && bytes.last().is_some_and(|&byte| edge(byte))
        && bytes.iter().all(|&byte| inner(byte))
}

fn is_label(text: &str) -> bool {
    framed(text, lower, |byte| lower(byte) || byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_word(text: &str) -> bool {
    framed(
        text,
        |byte| byte.is_ascii_alphanumeric(),
        |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte),
    )
}

/// What upstream counts in; its two packages of checks disagree about the word.
fn longer(text: &str, max: usize, unit: &str, problems: &mut Problems) {
    if text.len() > max {
        problems.push(format!("must be no more than {max} {unit}").into());
    }
}

const CHARACTERS: &str = "characters";
const BYTES: &str = "bytes";

/// A DNS label of RFC 1123.
pub fn label(text: &str) -> Problems {
    let mut problems = Problems::new();
    longer(text, 63, CHARACTERS, &mut problems);
    if !is_label(text) {
        let dots = is_subdomain(text);
        problems.push(if dots { "must not contain dots".into() } else { LABEL.into() });
    }
    problems
}

/// A DNS subdomain of RFC 1123: the name of most kinds.
pub fn subdomain(text: &str) -> Problems {
    let mut problems = Problems::new();
    longer(text, 253, CHARACTERS, &mut problems);
    if !is_subdomain(text) {
        problems.push(SUBDOMAIN.into());
    }
    problems
}

/// A subdomain whose parts may have underscores: a DNS search path.
pub fn subdomain_with_underscore(text: &str) -> Problems {
    let mut problems = Problems::new();
    longer(text, 253, CHARACTERS, &mut problems);
    let fits = |part: &str| {
        let rest = part.strip_prefix('_').unwrap_or(part);
        framed(rest, lower, |byte| lower(byte) || byte == b'-' || byte == b'_')
    };
    if !text.split('.').all(fits) {
        problems.push(SUBDOMAIN_UNDERSCORE.into());
    }
    problems
}

/// The key of a label, an annotation, a condition or a resource.
pub fn qualified_name(text: &str) -> Problems {
    let mut problems = Problems::new();
    let name = match text.split_once('/') {
        None => text,
        Some((_, rest)) if rest.contains('/') => {
            problems.push(
                format!("a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")
                    .into(),
            );
            return problems;
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                let mut wrong = Problems::new();
                longer(prefix, 253, BYTES, &mut wrong);
                if !is_subdomain(prefix) {
                    wrong.push(SUBDOMAIN.into());
                }
                problems.extend(wrong.iter().map(|why| format!("prefix part {why}").into()));
            }
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if name.len() > 63 {
        problems.push("name part must be no more than 63 bytes".into());
    }
    if !is_word(name) {
        problems.push(format!("name part {QUALIFIED}").into());
    }
    problems
}

/// The value of a label.
pub fn label_value(text: &str) -> Problems {
    let mut problems = Problems::new();
    longer(text, 63, BYTES, &mut problems);
    if !text.is_empty() && !is_word(text) {
        problems.push(LABEL_VALUE.into());
    }
    problems
}

/// An identifier of C.
pub fn c_identifier(text: &str) -> Problems {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = text.bytes().next().is_some_and(|byte| word(byte) && !byte.is_ascii_digit());
    match begins && text.bytes().all(word) {
        true => Problems::new(),
        false => vec![C_IDENTIFIER.into()],
    }
}

/// The key of a ConfigMap or a Secret.
pub fn config_key(text: &str) -> Problems {
    let mut problems = Problems::new();
    longer(text, 253, CHARACTERS, &mut problems);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
        problems.push(CONFIG_KEY.into());
    }
    match text {
        "." => problems.push("must not be '.'".into()),
        ".." => problems.push("must not be '..'".into()),
        text if text.starts_with("..") => problems.push("must not start with '..'".into()),
        _ => {}
    }
    problems
}

/// The name of an environment variable, as of v1.34.
pub fn env_name(text: &str) -> Problems {
    let mut problems = Problems::new();
    if text.is_empty() {
        problems.push("environment variable name must be non-empty".into());
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        problems.push(ENV_NAME.into());
    }
    problems
}

/// The name of an HTTP header.
pub fn header(text: &str) -> Problems {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if fits { Problems::new() } else { vec![HEADER.into()] }
}

/// The name of a port (RFC 6335).
pub fn port_name(text: &str) -> Problems {
    let mut problems = Problems::new();
    longer(text, 15, CHARACTERS, &mut problems);
    if text.is_empty() || !text.bytes().all(|byte| lower(byte) || byte == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

/// A number within bounds, both included.
pub fn in_range(value: i64, least: i64, most: i64) -> Problems {
    if (least..=most).contains(&value) {
        return Problems::new();
    }
    vec![format!("must be between {least} and {most}, inclusive").into()]
}

/// The number of a port.
pub fn port_number(value: i64) -> Problems {
    in_range(value, 1, 65535)
}

/// The number of a user or a group.
pub fn id(value: i64) -> Problems {
    in_range(value, 0, i64::from(i32::MAX))
}

/// An integer as `strconv` writes it.
pub fn decimal(text: &str) -> Problems {
    if text.is_empty() {
        return vec!["must be non-empty".into()];
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let fits = match digits.as_bytes() {
        [b'0'] => !text.starts_with('-'),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if fits { Problems::new() } else { vec![DECIMAL.into()] }
}

/// An IP address, in the strict reading of v1.36.
pub fn ip(text: &str) -> Problems {
    use std::net::IpAddr;
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            vec!["must not be an IPv4-mapped IPv6 address".into()]
        }
        Ok(_) => Problems::new(),
        Err(_) if has_leading_zeros(text) => vec!["must not have leading 0s".into()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
    }
}

fn has_leading_zeros(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let octet = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u8>().is_ok()
    };
    parts.len() == 4 && parts.iter().all(octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_what_is_wrong_with_them() {
        let cases: &[(Problems, &[&str])] = &[
            (label("web-1"), &[]),
            (label("a.b"), &["must not contain dots"]),
            (label("Web"), &[LABEL]),
            (label(&"a".repeat(64)), &["must be no more than 63 characters"]),
            (label_value(&"a".repeat(64)), &["must be no more than 63 bytes"]),
            (subdomain("a.b-c.d"), &[]),
            (subdomain("a..b"), &[SUBDOMAIN]),
            (subdomain_with_underscore("_sip._tcp.x"), &[]),
            (subdomain_with_underscore("a__"), &[SUBDOMAIN_UNDERSCORE]),
            (qualified_name("example.com/My.name"), &[]),
            (qualified_name("/x"), &["prefix part must be non-empty"]),
            (label_value(""), &[]),
            (label_value("-"), &[LABEL_VALUE]),
            (config_key(".."), &["must not be '..'"]),
            (env_name("a b"), &[]),
            (env_name("a=b"), &[ENV_NAME]),
            (port_name("http"), &[]),
            (port_name("80"), &["must contain at least one letter (a-z)"]),
            (
                port_name("-a--b-"),
                &["must not contain consecutive hyphens", "must not begin or end with a hyphen"],
            ),
            (port_number(0), &["must be between 1 and 65535, inclusive"]),
            (decimal("-5"), &[]),
            (decimal("-0"), &[DECIMAL]),
            (decimal("07"), &[DECIMAL]),
            (ip("10.0.0.1"), &[]),
            (ip("::1"), &[]),
            (ip("010.0.0.1"), &["must not have leading 0s"]),
            (ip("::ffff:1.2.3.4"), &["must not be an IPv4-mapped IPv6 address"]),
            (ip("x"), &["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]),
        ];
        for (found, wanted) in cases {
            assert_eq!(found, wanted);
        }
    }
}
