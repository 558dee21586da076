//! From a body to an object, with upstream's answers to bodies that are no such object.

use std::sync::Arc;

use schema::Object;
use schema::types::StructRef;

use crate::negotiate::Encoding;
use crate::options::FieldValidation;
use crate::status::{ApiError, Result};

/// An object as the client sent it.
pub struct Decoded {
    object: Object,
    warnings: Vec<String>,
}

impl Decoded {
    /// The object, and the warnings that the answer carries.
    pub fn into_parts(self) -> (Object, Vec<String>) {
        (self.object, self.warnings)
    }

    /// An object that the server itself made of what it holds: of a patch or a subresource.
    pub fn from_patch(object: Object, warnings: Vec<String>) -> Self {
        Self { object, warnings }
    }

    /// The object.
    pub fn object(&self) -> &Object {
        &self.object
    }
}

/// What a body is expected to be.
pub struct Expected<'a> {
    /// `v1` or `apps/v1`
    pub api_version: String,
    /// The kind.
    pub kind: &'a str,
    /// Its type.
    pub ty: &'a StructRef,
}

/// Decodes a body.
///
/// # Errors
/// 400 for what is malformed, another kind, another version, or has unknown fields where they are forbidden.
pub fn decode(
    expected: &Expected<'_>,
    encoding: Encoding,
    body: &[u8],
    validation: FieldValidation,
) -> Result<Decoded> {
    let (mut object, strict) = match encoding {
        Encoding::Protobuf if body.is_empty() => return Err(unrecognized(expected, "empty data", body)),
        Encoding::Protobuf => (from_protobuf(expected, body)?, Vec::new()),
        Encoding::Json if body.is_empty() => {
            let why = "couldn't get version/kind; json parse error: unexpected end of JSON input";
            return Err(unrecognized(expected, why, body));
        }
        Encoding::Json => {
            if std::str::from_utf8(body).is_err() {
                return Err(ApiError::bad_request("the body of the request is not valid UTF-8"));
            }
            from_json(expected, body, body)?
        }
        Encoding::Yaml => from_yaml(expected, body)?,
    };
    // What the body leaves out, the path has said.
    object.set("apiVersion", expected.api_version.as_str());
    object.set("kind", expected.kind);
    let warnings = match validation {
        _ if strict.is_empty() => Vec::new(),
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => strict.into_iter().flat_map(one_by_one).collect(),
        FieldValidation::Strict => {
            return Err(ApiError::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                expected.kind,
                expected.version(),
                expected.kind,
                strict.join(", ")
            )));
        }
    };
    Ok(Decoded { object, warnings })
}

/// What YAML's reader says of a document at once, as several messages.
fn one_by_one(message: String) -> Vec<String> {
    match message.strip_prefix("yaml: unmarshal errors:\n") {
        Some(lines) => lines.lines().map(|line| line.trim_start().to_owned()).collect(),
        None => vec![message],
    }
}

impl Expected<'_> {
    fn version(&self) -> &str {
        self.api_version.rsplit('/').next().unwrap_or_default()
    }

    /// The package that upstream keeps its internal type in.
    fn internal_package(&self) -> &str {
        match self.api_version.split_once('/').map(|(group, _)| group) {
            None | Some("events.k8s.io") => "core",
            Some("internal.apiserver.k8s.io") => "apiserverinternal",
            Some(group) => group.split('.').next().unwrap_or_default(),
        }
    }
}

fn unhandled(expected: &Expected<'_>, why: &str) -> ApiError {
    ApiError::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {why}",
        expected.kind,
        expected.version(),
        expected.kind
    ))
}

/// A body of which nobody can tell what it is.
fn unrecognized(expected: &Expected<'_>, why: &str, body: &[u8]) -> ApiError {
    let most = 30;
    let (shown, more) = (body.get(..most).unwrap_or(body), body.len() > most);
    let mut summary = match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if more {
        summary.push_str(" ...");
    }
    let kind = expected.kind;
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): {why} ({summary})"
    ))
}

/// Whether the body is of the expected type, as far as it says; upstream tells a type that it does not know from one
/// that is out of place.
fn check_type(expected: &Expected<'_>, api_version: &str, kind: &str, body: &[u8]) -> Result<()> {
    if api_version.matches('/').count() > 1 && !expected.ty.custom {
        let why = format!("unexpected GroupVersion string: {api_version}");
        return Err(unrecognized(expected, &why, body));
    }
    let given_kind = if kind.is_empty() { expected.kind } else { kind };
    let given_version = if api_version.is_empty() { &expected.api_version } else { api_version };
    let (group, version) = given_version.split_once('/').unwrap_or(("", given_version));
    let known = schema::catalogue::builtin().kind(group, version, given_kind).is_some();
    if !known && !expected.ty.custom {
        let group_version = if group.is_empty() { version } else { given_version };
        return Err(ApiError::bad_request(format!(
            "{given_kind} in version {version:?} cannot be handled as a {}: no kind {given_kind:?} is registered for version {group_version:?} in scheme {SCHEME:?}",
            expected.kind
        )));
    }
    if given_kind != expected.kind && !expected.ty.custom {
        let (internal, expected_kind) = (expected.internal_package(), expected.kind);
        return Err(ApiError::bad_request(format!(
            "{given_kind} in version {version:?} cannot be handled as a {expected_kind}: converting ({version}.{given_kind}) to ({internal}.{expected_kind}): unknown conversion"
        )));
    }
    if given_kind != expected.kind {
        return Err(ApiError::bad_request(format!(
            "the kind in the data ({kind}) does not match the expected kind ({})",
            expected.kind
        )));
    }
    if !api_version.is_empty() && api_version != expected.api_version {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            expected.api_version
        )));
    }
    Ok(())
}

/// What upstream calls the set of its types.
const SCHEME: &str = "pkg/api/legacyscheme/scheme.go:30";

/// `body` is what was sent, which messages show.
fn from_json(expected: &Expected<'_>, json: &[u8], body: &[u8]) -> Result<(Object, Vec<String>)> {
    let meta = schema::json::peek_type_meta(json)
        .map_err(|error| unrecognized(expected, &error.to_string(), body))?;
    check_type(expected, &meta.api_version, &meta.kind, body)?;
    let decoded =
        schema::json::decode(expected.ty, json).map_err(|error| unhandled(expected, &error.to_string()))?;
    Ok((decoded.object, decoded.strict))
}

fn from_yaml(expected: &Expected<'_>, body: &[u8]) -> Result<(Object, Vec<String>)> {
    let (json, duplicates) = schema::yaml::to_json_strict(body).map_err(|error| {
        let why = error.to_string();
        unrecognized(expected, why.strip_prefix("error converting YAML to JSON: ").unwrap_or(&why), body)
    })?;
    let (object, mut strict) = from_json(expected, &json, body)?;
    strict.splice(0..0, duplicates);
    Ok((object, strict))
}

fn from_protobuf(expected: &Expected<'_>, body: &[u8]) -> Result<Object> {
    if !body.starts_with(&schema::protobuf::MAGIC) {
        let prefix = schema::protobuf::MAGIC.map(|byte| byte.to_string()).join(" ");
        let why =
            format!("provided data does not appear to be a protobuf message, expected prefix [{prefix}]");
        return Err(unrecognized(expected, &why, body));
    }
    let (unknown, raw) = crate::codec::opened(body).map_err(|why| unrecognized(expected, &why, body))?;
    check_type(expected, &unknown.api_version, &unknown.kind, body)?;
    schema::protobuf::decode(expected.ty, raw)
        .map_err(|error| unhandled(expected, &crate::codec::go_words(&error)))
}

/// What a body sent to a resource must be.
pub fn expected(resource: &Arc<crate::registry::Resource>) -> Expected<'_> {
    Expected { api_version: resource.api_version(), kind: &resource.kind, ty: &resource.ty }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(encoding: Encoding, body: &str, validation: FieldValidation) -> Result<Decoded> {
        let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
        let expected = Expected { api_version: "v1".to_owned(), kind: "Pod", ty: &kind.ty };
        decode(&expected, encoding, body.as_bytes(), validation)
    }

    #[test]
    fn bodies_of_another_kind() {
        let wrong = |body| pod(Encoding::Json, body, FieldValidation::Warn).err().unwrap().message;
        assert_eq!(
            wrong(r#"{"kind":"Node","apiVersion":"v1"}"#),
            "Node in version \"v1\" cannot be handled as a Pod: converting (v1.Node) to (core.Pod): unknown conversion"
        );
        assert_eq!(
            wrong(""),
            "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"
        );
    }

    #[test]
    fn keys_that_stand_twice_in_yaml() {
        let yaml = "kind: Pod\nmetadata:\n  name: a\n  name: b\n  foo: 1\nspec: {}\nspec: {}\n";
        let (object, warnings) = pod(Encoding::Yaml, yaml, FieldValidation::Warn).ok().unwrap().into_parts();
        assert_eq!(object.name(), "b");
        assert_eq!(
            warnings,
            [
                "line 4: key \"name\" already set in map",
                "line 7: key \"spec\" already set in map",
                "unknown field \"metadata.foo\""
            ]
        );
        let error = pod(Encoding::Yaml, yaml, FieldValidation::Strict).err().unwrap();
        assert_eq!(
            error.message,
            "Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: yaml: unmarshal errors:\n  line 4: key \"name\" already set in map\n  line 7: key \"spec\" already set in map, unknown field \"metadata.foo\""
        );
        // JSON that is sent as YAML is read as YAML.
        let error =
            pod(Encoding::Yaml, r#"{"kind":"Pod","kind":"Pod"}"#, FieldValidation::Strict).err().unwrap();
        assert!(error.message.ends_with("line 1: key \"kind\" already set in map"), "{error}");
        assert!(pod(Encoding::Yaml, "", FieldValidation::Strict).is_ok());
    }

    #[test]
    fn protobuf_that_is_cut() {
        let kind = schema::catalogue::builtin().kind("", "v1", "Pod").unwrap();
        let expected = Expected { api_version: "v1".to_owned(), kind: "Pod", ty: &kind.ty };
        let object = schema::json::decode(&kind.ty, br#"{"metadata":{"name":"p"}}"#).unwrap().object;
        let whole = schema::protobuf::wrap("v1", "Pod", &schema::protobuf::encode(&object));
        let told = |body: &[u8]| {
            decode(&expected, Encoding::Protobuf, body, FieldValidation::Warn)
                .err()
                .map(|error| error.message)
        };
        assert_eq!(told(&whole), None);
        let unrecognized = "the object provided is unrecognized (must be of type Pod): ";
        let cut = told(whole.get(..9).unwrap()).unwrap();
        assert_eq!(cut, format!("{unrecognized}unexpected EOF (6b3873000a090a0276)"));
        assert_eq!(told(whole.get(..4).unwrap()).unwrap(), format!("{unrecognized}empty body (6b387300)"));
        let mut longer = whole.clone();
        longer.extend([0, 1]);
        let longer = told(&longer).unwrap();
        assert!(
            longer.starts_with(&format!("{unrecognized}proto: Unknown: illegal tag 0 (wire type 0) (")),
            "{longer}"
        );
        let broken = told(&schema::protobuf::wrap("v1", "Pod", &[0x0a, 5, 1])).unwrap();
        assert_eq!(broken, "Pod in version \"v1\" cannot be handled as a Pod: unexpected EOF");
    }

    #[test]
    fn yaml_that_is_none() {
        let error = pod(Encoding::Yaml, "a: b: c", FieldValidation::Warn).err().unwrap();
        let message = error.message;
        assert!(
            message.starts_with("the object provided is unrecognized (must be of type Pod): yaml: "),
            "{message}"
        );
        assert!(message.ends_with("(613a20623a2063)"), "{message}");
    }
}
