//! What a webhook is told, and what it tells.

use schema::Object;
use serde_json::{Value, json};

use super::Attempt;
use super::select::Hook;
use crate::convert::convert;
use crate::registry::Resource;
use crate::status::{ApiError, Cause, Details, Result};
use crate::write::admit::Operation;

/// A question.
pub(super) struct Review {
    version: &'static str,
    uid: String,
    request: Value,
}

impl Review {
    /// The question about an attempt, with the object in the version that the webhook's rules name.
    pub fn new(
        version: &'static str,
        hook: &Hook,
        attempt: &Attempt<'_>,
        object: Option<&Object>,
    ) -> Result<Self> {
        let info = attempt.authorized.info();
        let user = attempt.authorized.user();
        let uid = attempt.core.random.uuid();
        let (asked, original) = (&hook.resource, attempt.resource);
        let name = object.or(attempt.old).map_or(info.name.as_str(), Object::name);
        // A Namespace is in itself, also while it is being made.
        let of_itself = attempt.is_core("namespaces") && attempt.namespace().is_empty();
        let namespace = if of_itself { name } else { attempt.namespace() };
        let request = json!({
            "uid": uid,
            "kind": kind(asked), "resource": resource(asked), "subResource": info.subresource,
            "requestKind": kind(original), "requestResource": resource(original),
            "requestSubResource": info.subresource,
            "name": name, "namespace": namespace, "operation": attempt.operation.name(),
            "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra},
            "object": whole(asked, original, object)?, "oldObject": whole(asked, original, attempt.old)?,
            "dryRun": attempt.dry_run, "options": options(attempt),
        });
        Ok(Self { version, uid, request })
    }

    /// As it is sent.
    pub fn to_json(&self) -> String {
        json!({"kind": "AdmissionReview", "apiVersion": self.version, "request": self.request}).to_string()
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read(&self, body: &[u8]) -> std::result::Result<Answer, String> {
        let answered: AnsweredReview = serde_json::from_slice(body).map_err(|error| {
            format!("failed to call webhook: couldn't get version/kind; json parse error: {error}")
        })?;
        self.verify(answered).map_err(|why| format!("received invalid webhook response: {why}"))
    }

    fn verify(&self, answered: AnsweredReview) -> std::result::Result<Answer, String> {
        let answer = answered.response.ok_or("webhook response was absent")?;
        if self.version == "admission.k8s.io/v1" {
            if answer.uid != self.uid {
                return Err(format!("expected response.uid={:?}, got {:?}", self.uid, answer.uid));
            }
            if (answered.api_version.as_str(), answered.kind.as_str()) != (self.version, "AdmissionReview") {
                return Err(format!(
                    "expected webhook response of {}, Kind=AdmissionReview, got {}, Kind={}",
                    self.version, answered.api_version, answered.kind
                ));
            }
        }
        if answer.patch.as_ref().is_some_and(|patch| !patch.is_empty()) {
            return Err("validating webhook may not return response.patch".to_owned());
        }
        if answer.patch_type.is_some() {
            return Err("validating webhook may not return response.patchType".to_owned());
        }
        Ok(answer)
    }
}

fn kind(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

fn resource(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "resource": resource.plural})
}

fn whole(asked: &Resource, original: &Resource, object: Option<&Object>) -> Result<Value> {
    let Some(object) = object else { return Ok(Value::Null) };
    let json = if asked.api_version() == original.api_version() {
        schema::json::encode(object)
    } else {
        schema::json::encode(&convert(object.clone(), &asked.api_version(), &asked.kind, &asked.ty)?)
    };
    serde_json::from_slice(&json).map_err(ApiError::internal)
}

fn options(attempt: &Attempt<'_>) -> Value {
    let kind = match attempt.operation {
        Operation::Create => "CreateOptions",
        Operation::Update(_) => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if let (true, Some(map)) = (attempt.dry_run, options.as_object_mut()) {
        map.insert("dryRun".to_owned(), json!(["All"]));
    }
    options
}

#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AnsweredReview {
    api_version: String,
    kind: String,
    response: Option<Answer>,
}

/// What a webhook says.
#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Answer {
    uid: String,
    allowed: bool,
    status: Option<AnswerStatus>,
    patch: Option<String>,
    patch_type: Option<String>,
    /// Sentences for the client.
    pub warnings: Vec<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct AnswerStatus {
    message: String,
    reason: String,
    code: u16,
    details: Option<AnswerDetails>,
}

#[derive(serde::Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct AnswerDetails {
    name: String,
    group: String,
    kind: String,
    uid: String,
    causes: Vec<AnswerCause>,
    retry_after_seconds: i64,
}

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct AnswerCause {
    reason: String,
    message: String,
    field: String,
}

impl From<AnswerDetails> for Details {
    fn from(details: AnswerDetails) -> Self {
        let cause =
            |cause: AnswerCause| Cause { reason: cause.reason, message: cause.message, field: cause.field };
        Self {
            name: details.name,
            group: details.group,
            kind: details.kind,
            uid: details.uid,
            causes: details.causes.into_iter().map(cause).collect(),
            retry_after_seconds: details.retry_after_seconds,
        }
    }
}

impl Answer {
    /// Whether it lets the attempt pass.
    ///
    /// # Errors
    /// Its own words, code and reason; 400 when it names no code.
    pub fn verdict(self, hook: &str) -> Result<()> {
        if self.allowed {
            return Ok(());
        }
        let status = self.status.unwrap_or_default();
        let denied = format!("admission webhook {hook:?} denied the request");
        let why = match (status.message.as_str(), status.reason.as_str()) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = if (400..600).contains(&status.code) { status.code } else { 400 };
        let mut error = ApiError::with_code(code, known_reason(&status.reason), why);
        error.details = status.details.map(|details| Box::new(details.into()));
        Err(error)
    }
}

/// `metav1.StatusReason`, as far as there are constants for it.
fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 17] = [
        "Unauthorized",
        "Forbidden",
        "NotFound",
        "AlreadyExists",
        "Conflict",
        "Gone",
        "Invalid",
        "Timeout",
        "TooManyRequests",
        "BadRequest",
        "MethodNotAllowed",
        "NotAcceptable",
        "RequestEntityTooLarge",
        "UnsupportedMediaType",
        "InternalError",
        "Expired",
        "ServiceUnavailable",
    ];
    KNOWN.into_iter().find(|&known| known == reason).unwrap_or_default()
}
