//! Whole structs as upstream shows them in an error: JSON of its internal types, whose fields have their Go names
//! and are all written, nil or not.

use schema::types::Type;
use schema::{Object, Value};

use super::read::{maybe, text};

/// JSON as it goes over the wire.
pub(crate) fn json(object: &Object) -> String {
    String::from_utf8_lossy(&schema::json::encode(object)).into_owned()
}

/// A text or `null`.
fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), |text| format!("{text:?}"))
}

/// An entry of `resourceClaims`.
pub(super) fn resource_claim(claim: &Object) -> String {
    format!(
        "{{\"Name\":{:?},\"ResourceClaimName\":{},\"ResourceClaimTemplateName\":{}}}",
        text(claim, "name"),
        optional(maybe(claim, "resourceClaimName")),
        optional(maybe(claim, "resourceClaimTemplateName")),
    )
}

/// A projected `clusterTrustBundle`.
pub(super) fn trust_bundle(bundle: &Object) -> String {
    internal(bundle)
}

/// A struct with its Go names; those of the metadata packages, which are served as they are, keep their JSON ones.
pub(crate) fn internal(object: &Object) -> String {
    let mut out = String::from("{");
    for (index, field) in object.ty().fields.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&format!("{:?}:", go_name(&field.json)));
        match object.get(&field.json) {
            Some(value) => out.push_str(&shown(value)),
            None if field.pointer => out.push_str("null"),
            None => out.push_str(match field.ty {
                Type::Bool => "false",
                Type::String => "\"\"",
                Type::Int32 | Type::Int64 => "0",
                _ => "null",
            }),
        }
    }
    out.push('}');
    out
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Str(text) => format!("{text:?}"),
        Value::Struct(inner) if inner.ty().name.contains("apis.meta.") => json(inner),
        Value::Struct(inner) => internal(inner),
        Value::Map(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{key:?}:{}", shown(value))).collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(","))
        }
        _ => "null".to_owned(),
    }
}

/// [`internal`], one value a line and indented by one space each level: what upstream compares line by line.
pub(crate) fn lines(object: &Object) -> Vec<String> {
    indent(&internal(object))
}

/// Compact JSON, broken into lines as Go's `json.MarshalIndent` does.
fn indent(json: &str) -> Vec<String> {
    let (mut lines, mut line, mut depth) = (Vec::new(), String::new(), 0usize);
    let (mut quoted, mut escaped) = (false, false);
    let mut letters = json.chars().peekable();
    while let Some(letter) = letters.next() {
        if quoted {
            line.push(letter);
            quoted = letter != '"' || escaped;
            escaped = letter == '\\' && !escaped;
            continue;
        }
        match letter {
            '"' => {
                quoted = true;
                line.push(letter);
            }
            '{' | '[' => {
                line.push(letter);
                if let Some(close) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    line.push(close);
                } else {
                    depth += 1;
                    lines.push(std::mem::replace(&mut line, " ".repeat(depth)));
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                lines.push(std::mem::replace(&mut line, " ".repeat(depth)));
                line.push(letter);
            }
            ',' => {
                line.push(letter);
                lines.push(std::mem::replace(&mut line, " ".repeat(depth)));
            }
            ':' => line.push_str(": "),
            other => line.push(other),
        }
    }
    lines.push(line);
    lines
}

/// `runAsUser` is `RunAsUser`, and what Go spells otherwise is listed.
fn go_name(json: &str) -> String {
    match json {
        "dnsPolicy" => "DNSPolicy".to_owned(),
        "dnsConfig" => "DNSConfig".to_owned(),
        "ip" => "IP".to_owned(),
        "os" => "OS".to_owned(),
        "tty" => "TTY".to_owned(),
        "serviceAccount" => "DeprecatedServiceAccount".to_owned(),
        "seLinuxChangePolicy" => "SELinuxChangePolicy".to_owned(),
        "seLinuxOptions" => "SELinuxOptions".to_owned(),
        "gmsaCredentialSpec" => "GMSACredentialSpec".to_owned(),
        "gmsaCredentialSpecName" => "GMSACredentialSpecName".to_owned(),
        other => {
            let mut letters = other.chars();
            letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
        }
    }
}
