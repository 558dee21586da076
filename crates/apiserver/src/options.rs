//! The options of a write, from the query or, for deletions, from the body.

use kinds::field::{Errors, Json, Path};
use schema::Object;

use crate::negotiate::Encoding;
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
        let force = info.param("force");
        if force.is_some() && kind == "PatchOptions" {
            errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        }
        let manager = info.param("fieldManager").unwrap_or_default();
        check_manager(manager, &mut errors);
        let values: Vec<&str> =
            info.query.iter().filter(|(key, _)| key == "dryRun").map(|(_, value)| value.as_str()).collect();
        let dry_run = dry_run(&values, &mut errors);
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
        if !errors.is_empty() {
            return Err(ApiError::invalid("meta.k8s.io", kind, "", &errors));
        }
        let field_manager =
            if manager.is_empty() { manager_of_agent(user_agent) } else { manager.to_owned() };
        Ok(Self { dry_run, field_manager, field_validation, force: info.flag("force") })
    }

    /// Those of a deletion, whose own options say the rest.
    pub fn of_deletion(options: &DeleteOptions, user_agent: &str) -> Self {
        Self {
            dry_run: options.dry_run,
            field_manager: manager_of_agent(user_agent),
            field_validation: FieldValidation::Ignore,
            force: false,
        }
    }
}

/// The longest name of a manager.
const MAX_MANAGER: usize = 128;

fn check_manager(manager: &str, errors: &mut Errors) {
    let path = Path::new("fieldManager");
    if manager.len() > MAX_MANAGER {
        errors.too_long(&path, MAX_MANAGER);
    }
    for (at, letter) in manager.char_indices().filter(|(_, letter)| letter.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
        errors.invalid(&path, Json(go_quoted(manager)), why);
    }
}

/// A text as Go's `%q` quotes it.
fn go_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(other))),
            other if other.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(other))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn manager_of_agent(user_agent: &str) -> String {
    let name = user_agent.split('/').next().unwrap_or_default();
    let end = name.char_indices().nth(128).map_or(name.len(), |(at, _)| at);
    let name = name.get(..end).unwrap_or(name);
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

fn dry_run(values: &[&str], errors: &mut Errors) -> bool {
    if values.iter().any(|value| *value != "All") {
        let shown: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
        errors.not_supported(&Path::new("dryRun"), Json(format!("[{}]", shown.join(","))), &["All"]);
    }
    !values.is_empty()
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

/// The options as they were given.
#[derive(Default)]
struct RawDeleteOptions {
    dry_run: Vec<String>,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads the body if there is one, and then nothing of the query; else the query.
    ///
    /// # Errors
    /// 400 for what cannot be read, 422 for values that do not exist.
    pub fn read(info: &RequestInfo, body: &[u8], encoding: Encoding) -> Result<Self> {
        let raw = if body.is_empty() { Self::from_query(info)? } else { Self::from_body(body, encoding)? };
        raw.checked()
    }

    /// Those that an object carries, such as an Eviction; none are the usual ones.
    ///
    /// # Errors
    /// 422 for values that do not exist.
    pub fn of(object: Option<&Object>) -> Result<Self> {
        object.map(RawDeleteOptions::of).unwrap_or_default().checked()
    }

    fn from_body(body: &[u8], encoding: Encoding) -> Result<RawDeleteOptions> {
        let kind = schema::catalogue::builtin().kind("", "v1", KIND);
        let kind = kind.ok_or_else(|| ApiError::internal("the catalogue has no DeleteOptions"))?;
        let unreadable = |error: &dyn std::fmt::Display| ApiError::bad_request(error.to_string());
        let object = match encoding {
            Encoding::Protobuf => {
                let (_, raw) = crate::codec::opened(body).map_err(|why| unreadable(&why))?;
                schema::protobuf::decode(&kind.ty, raw)
                    .map_err(|error| unreadable(&crate::codec::go_words(&error)))?
            }
            Encoding::Json => Self::from_json(&kind.ty, body)?,
            Encoding::Yaml => {
                let json = schema::yaml::to_json(body).map_err(|error| unreadable(&error))?;
                Self::from_json(&kind.ty, &json)?
            }
        };
        Ok(RawDeleteOptions::of(&object))
    }

    /// Options of any group may be sent: there is one type of them.
    fn from_json(ty: &schema::types::StructRef, json: &[u8]) -> Result<Object> {
        let unreadable = |error: &dyn std::fmt::Display| ApiError::bad_request(error.to_string());
        let meta = schema::json::peek_type_meta(json).map_err(|error| unreadable(&error))?;
        let version = if meta.api_version.is_empty() { "v1" } else { &meta.api_version };
        if !matches!(meta.kind.as_str(), "" | KIND) {
            return Err(ApiError::bad_request(format!(
                "no kind {:?} is registered for version {version:?} in scheme {SCHEME:?}",
                meta.kind
            )));
        }
        Ok(schema::json::decode(ty, json).map_err(|error| unreadable(&error))?.object)
    }

    fn from_query(info: &RequestInfo) -> Result<RawDeleteOptions> {
        let text = |name: &str| info.param(name).map(str::to_owned);
        Ok(RawDeleteOptions {
            dry_run: info.query.iter().filter(|(key, _)| key == "dryRun").map(|(_, v)| v.clone()).collect(),
            grace_period_seconds: info.param("gracePeriodSeconds").map(go_int).transpose()?,
            propagation_policy: text("propagationPolicy"),
            orphan_dependents: info.param("orphanDependents").map(|value| !matches!(value, "false" | "0")),
            uid: None,
            resource_version: None,
        })
    }
}

/// The kind of a deletion's options.
const KIND: &str = "DeleteOptions";
/// What upstream calls the set of the types that a deletion's body may be of.
const SCHEME: &str = "pkg/apis/meta/internalversion/scheme/register.go:27";

/// A number of a query.
///
/// # Errors
/// 400, as Go says it.
pub fn go_int(text: &str) -> Result<i64> {
    use std::num::IntErrorKind;
    text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
    })
}

impl RawDeleteOptions {
    fn of(object: &Object) -> Self {
        let text = |path: &[&str]| object.str_at(path).map(str::to_owned);
        let dry_run = object.list_at(&["dryRun"]).unwrap_or_default();
        Self {
            dry_run: dry_run.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect(),
            grace_period_seconds: object.int_at(&["gracePeriodSeconds"]),
            propagation_policy: text(&["propagationPolicy"]),
            orphan_dependents: object.bool_at(&["orphanDependents"]),
            uid: text(&["preconditions", "uid"]),
            resource_version: text(&["preconditions", "resourceVersion"]),
        }
    }

    fn checked(self) -> Result<DeleteOptions> {
        let mut errors = Errors::new();
        let policy = Path::new("propagationPolicy");
        if self.propagation_policy.is_some() && self.orphan_dependents.is_some() {
            errors.invalid(
                &policy,
                self.propagation_policy.as_deref().unwrap_or_default(),
                "orphanDependents and deletionPropagation cannot be both set",
            );
        }
        let propagation = match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
            (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
            (Some("Foreground"), _) => Some(Propagation::Foreground),
            (None, None) => None,
            (Some(other), _) => {
                errors.not_supported_in_order(&policy, other, &["Foreground", "Background", "Orphan", "nil"]);
                None
            }
        };
        let values: Vec<&str> = self.dry_run.iter().map(String::as_str).collect();
        let dry_run = dry_run(&values, &mut errors);
        if !errors.is_empty() {
            return Err(ApiError::invalid("meta.k8s.io", KIND, "", &errors));
        }
        Ok(DeleteOptions {
            dry_run,
            grace_period_seconds: self.grace_period_seconds,
            propagation,
            uid: self.uid,
            resource_version: self.resource_version,
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
        let options = DeleteOptions::read(&info, body, Encoding::Json).unwrap();
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!(options.grace_period_seconds, Some(5));
        let error =
            DeleteOptions::read(&info, br#"{"propagationPolicy":"Never"}"#, Encoding::Json).unwrap_err();
        assert_eq!(error.code, 422);
        let wrong =
            |body: &str| DeleteOptions::read(&info, body.as_bytes(), Encoding::Json).unwrap_err().message;
        assert_eq!(
            wrong(r#"{"gracePeriodSeconds":"x"}"#),
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64"
        );
        assert_eq!(
            wrong(r#"{"kind":"Pod","apiVersion":"v1"}"#),
            "no kind \"Pod\" is registered for version \"v1\" in scheme \"pkg/apis/meta/internalversion/scheme/register.go:27\""
        );
    }

    fn query(text: &str) -> RequestInfo {
        RequestInfo::parse(&http::Method::DELETE, "/api/v1/namespaces/a/pods/b", Some(text))
    }

    #[test]
    fn a_body_is_read_instead_of_the_query() {
        let body = br#"{"gracePeriodSeconds":5}"#;
        let options = DeleteOptions::read(&query("dryRun=All&gracePeriodSeconds=7"), body, Encoding::Json);
        assert_eq!(
            options.map(|options| (options.dry_run, options.grace_period_seconds)).unwrap(),
            (false, Some(5))
        );
        let options = DeleteOptions::read(&query("dryRun=All"), b"", Encoding::Json).unwrap();
        assert!(options.dry_run);
        let error = DeleteOptions::read(&query("gracePeriodSeconds=x"), b"", Encoding::Json).unwrap_err();
        assert_eq!(error.message, "strconv.ParseInt: parsing \"x\": invalid syntax");
    }

    #[test]
    fn options_that_do_not_exist_are_told() {
        for (given, told) in [
            ("dryRun=", "dryRun: Unsupported value: [\"\"]: supported values: \"All\""),
            ("dryRun=All&dryRun=x", "dryRun: Unsupported value: [\"All\",\"x\"]: supported values: \"All\""),
            (
                "fieldManager=%01",
                "fieldManager: Invalid value: \"\\x01\": invalid character U+0001 (at position 0)",
            ),
            ("force=true", "force: Forbidden: may not be specified for non-apply patch"),
            (
                "fieldValidation=strict",
                "fieldValidation: Unsupported value: \"strict\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"",
            ),
        ] {
            let error = WriteOptions::read(&query(given), "test", "PatchOptions").unwrap_err();
            assert_eq!(error.message, format!("PatchOptions.meta.k8s.io \"\" is invalid: {told}"));
        }
        assert!(
            WriteOptions::read(&query("dryRun=All&dryRun=All"), "test", "CreateOptions").unwrap().dry_run
        );
    }

    #[test]
    fn the_manager_is_the_agent_unless_it_is_named() {
        assert_eq!(manager_of_agent("kubectl/v1.37.1 (linux/amd64)"), "kubectl");
        assert_eq!(manager_of_agent(""), "unknown");
    }
}
