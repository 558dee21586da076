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
    if body.is_empty() {
        let why = "couldn't get version/kind; json parse error: unexpected end of JSON input";
        return Err(unrecognized(expected, why, body));
    }
    let (mut object, strict) = match encoding {
        Encoding::Protobuf => (from_protobuf(expected, body)?, Vec::new()),
        Encoding::Json => {
            if std::str::from_utf8(body).is_err() {
                return Err(ApiError::bad_request("the body of the request is not valid UTF-8"));
            }
            from_json(expected, body)?
        }
        Encoding::Yaml => {
            let json =
                schema::yaml::to_json(body).map_err(|error| unhandled(expected, &error.to_string()))?;
            from_json(expected, &json)?
        }
    };
    // What the body leaves out, the path has said.
    object.set("apiVersion", expected.api_version.as_str());
    object.set("kind", expected.kind);
    let warnings = match validation {
        _ if strict.is_empty() => Vec::new(),
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Warn => strict,
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

impl Expected<'_> {
    fn version(&self) -> &str {
        self.api_version.rsplit('/').next().unwrap_or_default()
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
    if !kind.is_empty() && kind != expected.kind {
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

fn from_json(expected: &Expected<'_>, body: &[u8]) -> Result<(Object, Vec<String>)> {
    let meta = schema::json::peek_type_meta(body)
        .map_err(|error| unrecognized(expected, &error.to_string(), body))?;
    check_type(expected, &meta.api_version, &meta.kind, body)?;
    let decoded =
        schema::json::decode(expected.ty, body).map_err(|error| unhandled(expected, &error.to_string()))?;
    Ok((decoded.object, decoded.strict))
}

fn from_protobuf(expected: &Expected<'_>, body: &[u8]) -> Result<Object> {
    let (unknown, raw) =
        crate::codec::unwrapped(body).map_err(|error| unhandled(expected, &error.to_string()))?;
    check_type(expected, &unknown.api_version, &unknown.kind, body)?;
    schema::protobuf::decode(expected.ty, raw).map_err(|error| unhandled(expected, &error.to_string()))
}

/// What a body sent to a resource must be.
pub fn expected(resource: &Arc<crate::registry::Resource>) -> Expected<'_> {
    Expected { api_version: resource.api_version(), kind: &resource.kind, ty: &resource.ty }
}
