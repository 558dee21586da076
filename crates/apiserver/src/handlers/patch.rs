//! `PATCH`, in the three languages that change what is there.

use kinds::Part;
use kinds::field::{Errors, Path};
use schema::Object;
use schema::json::Decoded as Patched;
use schema::patch::PatchError;

use crate::negotiate::PatchType;
use crate::options::FieldValidation;
use crate::status::{ApiError, Result};
use crate::write::commit::Committed;
use crate::write::decode::Decoded;
use crate::write::{WriteContext, update};

/// Applies a patch to the object that the request names.
///
/// # Errors
/// 400 for a malformed patch, 422 for one that does not fit, and those of an update.
pub async fn patch(
    ctx: &WriteContext<'_>,
    part: Part,
    language: PatchType,
    patch: &[u8],
) -> Result<(Committed, Vec<String>)> {
    let validation = ctx.options.field_validation;
    let mut mutate = |old: &Object| -> Result<Decoded> {
        let patched = apply(language, old, patch)?;
        if validation == FieldValidation::Strict && !patched.strict.is_empty() {
            let why = format!("strict decoding error: {}", patched.strict.join(", "));
            return Err(unfit(language, old, patch, &why));
        }
        let warnings = if validation == FieldValidation::Warn { patched.strict } else { Vec::new() };
        let mut object = patched.object;
        keep_kind(language, old, &mut object, patch)?;
        // A patch that says nothing about the version does not insist on one.
        if object.resource_version() == old.resource_version() && !mentions_version(patch) {
            object.set_resource_version("");
        }
        Ok(Decoded::from_patch(object, warnings))
    };
    update::update(ctx, part, &mut mutate).await
}

/// A patch makes nothing else of an object. One of strategic merge is not listened to in this.
///
/// # Errors
/// 422 for another kind, 400 for none of a version.
fn keep_kind(language: PatchType, old: &Object, object: &mut Object, patch: &[u8]) -> Result<()> {
    let (version, kind) = (object.api_version(), object.kind());
    if (version, kind) == (old.api_version(), old.kind()) {
        return Ok(());
    }
    if language != PatchType::StrategicMerge {
        if version.is_empty() {
            let name = old.name();
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name} based on URL) was undeterminable: name must be provided"
            )));
        }
        let kind = if kind.is_empty() { old.kind() } else { kind };
        if (version, kind) != (old.api_version(), old.kind()) {
            return Err(unfit(language, old, patch, &other_kind(version, kind, old)));
        }
    }
    for (field, text) in [("apiVersion", old.api_version()), ("kind", old.kind())] {
        object.set(field, text);
    }
    Ok(())
}

/// What is said of an object that became one of another kind.
fn other_kind(api_version: &str, kind: &str, old: &Object) -> String {
    let group_of = |api_version: &str| match api_version.split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), api_version.to_owned()),
    };
    let (group, version) = group_of(api_version);
    if schema::catalogue::builtin().kind(&group, &version, kind).is_none() {
        return format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\""
        );
    }
    let (own, _) = group_of(old.api_version());
    let package = own.split('.').next().filter(|name| !name.is_empty()).unwrap_or("core");
    format!("converting ({version}.{kind}) to ({package}.{}): unknown conversion", old.kind())
}

/// Whether a language is served at all. Said of absent objects as well, so that nobody looks for one that is to be made.
///
/// # Errors
/// 415.
pub fn served(language: PatchType) -> Result<()> {
    if language == PatchType::Apply { Err(not_served()) } else { Ok(()) }
}

fn not_served() -> ApiError {
    ApiError::unsupported_media_type(&APPLIED)
}

fn mentions_version(patch: &[u8]) -> bool {
    memchr_find(patch, b"resourceVersion")
}

fn memchr_find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// The patched object.
///
/// # Errors
/// 400 and 422.
pub fn apply(language: PatchType, old: &Object, patch: &[u8]) -> Result<Patched> {
    if std::str::from_utf8(patch).is_err() {
        return Err(ApiError::bad_request("the body of the request is not valid UTF-8"));
    }
    let patched = match language {
        PatchType::Json => schema::patch::json_patch(old, patch),
        PatchType::Merge => schema::patch::merge_patch(old, patch),
        PatchType::StrategicMerge => schema::patch::strategic_merge(old, patch),
        PatchType::Apply => return Err(not_served()),
    };
    patched.map_err(|error| refused(&error, language, old, patch))
}

/// What is accepted instead of server-side apply, which is not served yet.
const APPLIED: [&str; 3] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"];

fn refused(error: &PatchError, language: PatchType, old: &Object, patch: &[u8]) -> ApiError {
    match error {
        PatchError::Malformed(why) => ApiError::bad_request(why.clone()),
        // What exactly, upstream keeps to itself.
        PatchError::TestFailed(_) | PatchError::Unprocessable(_) => {
            let why = "the server rejected our request due to an error in our request";
            let mut error = ApiError::with_code(422, "Invalid", why);
            error.details = Some(Box::default());
            error
        }
        PatchError::TooManyOperations { .. } => {
            let why = format!("Request entity too large: {error}");
            ApiError::with_code(413, "RequestEntityTooLarge", why)
        }
        PatchError::Merge(why) => ApiError::with_code(500, "", why.clone()),
        PatchError::Decode(error) => unfit(language, old, patch, &error.to_string()),
        other => ApiError::bad_request(other.to_string()),
    }
}

/// 422: what the patch makes of the object is none of its kind. As upstream, it is shown whole, but for strategic merge
/// patches, which are shown themselves.
fn unfit(language: PatchType, old: &Object, patch: &[u8], why: &str) -> ApiError {
    let itself = || String::from_utf8_lossy(patch).into_owned();
    let shown = match (language, serde_json::from_slice(patch)) {
        (PatchType::StrategicMerge, Ok(value)) => go_value(&value),
        (PatchType::StrategicMerge, Err(_)) => itself(),
        _ => {
            schema::patch::patched_text(old, patch, language == PatchType::Merge).unwrap_or_else(|_| itself())
        }
    };
    let mut errors = Errors::new();
    errors.invalid(&Path::new("patch"), shown.as_str(), why);
    ApiError::invalid("", "", "", &errors)
}

/// A value as Go prints it: upstream shows strategic merge patches like this.
fn go_value(value: &serde_json::Value) -> String {
    use serde_json::Value;
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut pairs: Vec<(&String, &Value)> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| key.as_str());
            let pairs: Vec<String> =
                pairs.into_iter().map(|(key, value)| format!("{key}:{}", go_value(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}
