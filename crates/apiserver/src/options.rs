//! The options of a write, from the query or, for deletions, from the body.

use kinds::field::{Errors, Path};

use crate::pipeline::request::RequestInfo;
use crate::status::{ApiError, Result};

/// What happens to fields that the schema does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, with a warning for each.
    Warn,
    /// They are an error.
    Strict,
}

/// The options of create, update and patch.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Do everything but the commit.
    pub dry_run: bool,
    /// Who is named in managedFields.
    pub field_manager: String,
    /// What unknown fields are.
    pub field_validation: FieldValidation,
    /// For server-side apply: take over fields that others manage.
    pub force: bool,
}

impl WriteOptions {
    /// Reads the query. Without a `fieldManager`, the first part of the user agent is the manager.
    ///
    /// # Errors
    /// 422 for a value that does not exist.
    pub fn read(info: &RequestInfo, user_agent: &str, kind: &str) -> Result<Self> {
        let mut errors = Errors::new();
        let dry_run =
            dry_run(info.query.iter().filter(|(k, _)| k == "dryRun").map(|(_, v)| v.as_str()), &mut errors);
        let field_validation = match info.param("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let path = Path::new("fieldValidation");
                errors.not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]);
                FieldValidation::Warn
            }
        };
        let manager = info.param("fieldManager").unwrap_or_default();
        if manager.len() > 128 {
            errors.too_long(&Path::new("fieldManager"), 128);
        }
        if !errors.is_empty() {
            return Err(ApiError::invalid("meta.k8s.io", kind, "", &errors));
        }
        let field_manager =
            if manager.is_empty() { manager_of_agent(user_agent) } else { manager.to_owned() };
        Ok(Self { dry_run, field_manager, field_validation, force: info.flag("force") })
    }
}

fn manager_of_agent(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let end = name.char_indices().nth(128).map_or(name.len(), |(at, _)| at);
    let name = name.get(..end).unwrap_or(name);
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Errors) -> bool {
    let mut dry = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value == "All" {
            dry = true;
        } else {
            errors.not_supported(&Path::new("dryRun"), value, &["All"]);
        }
    }
    dry
}

/// What happens to the dependents of a deleted object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They lose their owner and stay.
    Orphan,
    /// They are collected afterwards.
    Background,
    /// They are collected first.
    Foreground,
}

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Do everything but the commit.
    pub dry_run: bool,
    /// `None`: as the object says.
    pub grace_period_seconds: Option<i64>,
    /// `None`: as its kind says.
    pub propagation: Option<Propagation>,
    /// The object must have this UID.
    pub uid: Option<String>,
    /// The object must have this resource version.
    pub resource_version: Option<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawDeleteOptions {
    kind: Option<String>,
    dry_run: Vec<String>,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<RawPreconditions>,
}

#[derive(serde::Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawPreconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads the body if there is one, else the query. `body` is JSON or a `DeleteOptions` in protobuf.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for values that do not exist.
    pub fn read(info: &RequestInfo, body: &[u8], protobuf: bool) -> Result<Self> {
        let raw = if body.is_empty() { Self::from_query(info)? } else { Self::from_body(body, protobuf)? };
        let mut errors = Errors::new();
        let dry_run = dry_run(raw.dry_run.iter().map(String::as_str), &mut errors);
        let policy = Path::new("propagationPolicy");
        if raw.propagation_policy.is_some() && raw.orphan_dependents.is_some() {
            errors.invalid(
                &policy,
                raw.propagation_policy.as_deref().unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }
        let propagation = match (raw.propagation_policy.as_deref(), raw.orphan_dependents) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (None, None) => None,
            (Some(other), _) => {
                errors.not_supported_in_order(&policy, other, &["Foreground", "Background", "Orphan", "nil"]);
                None
            }
        };
        if !errors.is_empty() {
            return Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
        let preconditions = raw.preconditions.unwrap_or_default();
        Ok(Self {
            dry_run,
            grace_period_seconds: raw.grace_period_seconds,
            propagation,
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
        })
    }

    fn from_body(body: &[u8], protobuf: bool) -> Result<RawDeleteOptions> {
        let unreadable = |error: &dyn std::fmt::Display| ApiError::bad_request(error.to_string());
        let raw: RawDeleteOptions = if protobuf {
            let kind = schema::catalogue::builtin().kind("", "v1", "DeleteOptions");
            let kind = kind.ok_or_else(|| ApiError::internal("the catalogue has no DeleteOptions"))?;
            let (_, raw) = crate::codec::unwrapped(body).map_err(|error| unreadable(&error))?;
            schema::serde::from_protobuf(&kind.ty, raw).map_err(|error| unreadable(&error))?
        } else {
            // A YAML body is read as well; JSON is a part of it.
            let json = schema::yaml::to_json(body).map_err(|error| unreadable(&error))?;
            serde_json::from_slice(&json).map_err(|error| unreadable(&error))?
        };
        match raw.kind.as_deref() {
            None | Some("" | "DeleteOptions") => Ok(raw),
            Some(other) => Err(ApiError::bad_request(format!(
                "decoded object cannot be converted to DeleteOptions: it is a {other}"
            ))),
        }
    }

    fn from_query(info: &RequestInfo) -> Result<RawDeleteOptions> {
        let grace = info
            .param("gracePeriodSeconds")
            .map(str::parse)
            .transpose()
            .map_err(|_| ApiError::bad_request("gracePeriodSeconds must be a whole number of seconds"))?;
        Ok(RawDeleteOptions {
            kind: None,
            dry_run: info.query.iter().filter(|(k, _)| k == "dryRun").map(|(_, v)| v.clone()).collect(),
            grace_period_seconds: grace,
            propagation_policy: info.param("propagationPolicy").map(str::to_owned),
            orphan_dependents: info.param("orphanDependents").map(|value| value == "true"),
            preconditions: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_a_deletion() {
        let info = RequestInfo::default();
        let body = br#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Foreground","gracePeriodSeconds":5}"#;
        let options = DeleteOptions::read(&info, body, false).unwrap();
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!(options.grace_period_seconds, Some(5));
        let error = DeleteOptions::read(&info, br#"{"propagationPolicy":"Never"}"#, false).unwrap_err();
        assert_eq!(error.code, 422);
    }

    #[test]
    fn the_manager_is_the_agent_unless_it_is_named() {
        assert_eq!(manager_of_agent("kubectl/v1.37.1 (linux/amd64)"), "kubectl");
        assert_eq!(manager_of_agent(""), "unknown");
    }
}
