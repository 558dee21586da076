//! `logging` (`component-base/logs/api/v1`): the form of lines, and how many there are.

use serde::Deserialize;
use serde_json::Value;

/// The form of lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// See the module. Lines are written at once, so that `flushFrequency` has nothing to change.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Logging {
    pub format: String,
    pub flush_frequency: Value,
    pub verbosity: i64,
}

impl Logging {
    /// The form that is meant: the validation knows no other.
    pub fn form(&self) -> Format {
        if self.format == "json" { Format::Json } else { Format::Text }
    }

    /// How much, as klog counts.
    pub fn level(&self) -> i32 {
        i32::try_from(self.verbosity).unwrap_or(i32::MAX)
    }

    /// What is wrong, in upstream's words.
    pub(super) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        // A number is nanoseconds.
        let frequency = match &self.flush_frequency {
            Value::String(text) => super::duration::parse(text).is_some_and(|duration| !duration.is_zero()),
            Value::Number(number) => number.as_f64().is_some_and(|number| number > 0.0),
            given => given.is_null(),
        };
        if !frequency {
            let given = &self.flush_frequency;
            wrong.push(format!("logging.flushFrequency: Invalid value: {given}: Must be greater than zero"));
        }
        if !["", "text", "json"].contains(&self.format.as_str()) {
            wrong.push(format!("logging.format: Invalid value: {:?}: Unsupported log format", self.format));
        }
        if self.verbosity > i64::from(i32::MAX) {
            let (given, most) = (self.verbosity, i32::MAX);
            wrong.push(format!("logging.verbosity: Invalid value: {given}: Must be <= {most}"));
        }
        wrong
    }
}
