//! What a check found, and how sure it is of itself.

use super::{FieldError, FieldErrorKind};
use crate::json::encode_value;
use crate::types::Type;
use crate::value::Value;

/// Errors, and the number of checks, by which upstream picks among alternatives.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub errors: Vec<FieldError>,
    pub checks: usize,
}

impl Verdict {
    pub fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn merge(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.checks += other.checks;
    }

    pub fn push(&mut self, path: &str, kind: FieldErrorKind, value: Option<String>, detail: String) {
        self.errors.push(FieldError { path: path.to_owned(), kind, value, detail });
    }

    /// An error of one value, worded `path in body …`.
    pub fn invalid(&mut self, path: &str, value: &Value, problem: &str) {
        let detail = format!("{path} in body {problem}");
        self.push(path, FieldErrorKind::Invalid, Some(shown(value)), detail);
    }

    pub fn wrong_type(&mut self, path: &str, wanted: &str, found: &str) {
        let detail = format!("{path} in body must be of type {wanted}: {found:?}");
        let value = Some(format!("{found:?}"));
        self.push(path, FieldErrorKind::TypeInvalid, value, detail);
    }

    /// An error about a schema's alternatives, which upstream puts on no field.
    pub fn composite(&mut self, detail: String) {
        self.push("", FieldErrorKind::Invalid, Some("\"\"".to_owned()), detail);
    }
}

/// A value as upstream prints it in an error.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Str(s) => format!("{s:?}"),
        Value::Null => "null".to_owned(),
        value => {
            let mut out = Vec::new();
            encode_value(&Type::Any, value, &mut out);
            String::from_utf8(out).unwrap_or_default()
        }
    }
}

/// A number as Go's `%v` prints it.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:e}");
    let Some((digits, exponent)) = text.split_once('e') else {
        return text;
    };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..21).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}
