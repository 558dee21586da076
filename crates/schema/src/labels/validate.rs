//! What labels and requirements may look like.

use super::{Operator, SelectorError};

const MAX_NAME: usize = 63;
const MAX_SUBDOMAIN: usize = 253;

const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and \
    end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used \
    for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, \
    '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
    'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn is_name(text: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_subdomain(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.split('.').all(|label| {
        label.bytes().next().is_some_and(alphanumeric)
            && label.bytes().next_back().is_some_and(alphanumeric)
            && label.bytes().all(|b| alphanumeric(b) || b == b'-')
    })
}

/// What is wrong with a label's key; empty when nothing is.
pub fn validate_key(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let parts: Vec<&str> = key.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                if prefix.len() > MAX_SUBDOMAIN {
                    errors.push(format!("prefix part must be no more than {MAX_SUBDOMAIN} bytes"));
                }
                if !is_subdomain(prefix) {
                    errors.push(format!("prefix part {SUBDOMAIN}"));
                }
            }
            *name
        }
        _ => {
            return vec![format!(
                "a valid label key {NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_NAME {
        errors.push(format!("name part must be no more than {MAX_NAME} bytes"));
    }
    if !is_name(name) {
        errors.push(format!("name part {NAME}"));
    }
    errors
}

/// What is wrong with a label's value; empty when nothing is.
pub fn validate_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_NAME {
        errors.push(format!("must be no more than {MAX_NAME} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        errors.push(VALUE.to_owned());
    }
    errors
}

pub(super) fn key_at(path: &str, key: &str) -> Result<(), SelectorError> {
    let errors = validate_key(key);
    if errors.is_empty() {
        return Ok(());
    }
    let errors = errors.join("; ");
    Err(SelectorError(format!("{path}: Invalid value: {key:?}: {errors}")))
}

/// Everything that is wrong with a requirement, as one message.
pub(super) fn requirement(key: &str, operator: Operator, values: &[String]) -> Result<(), SelectorError> {
    let mut errors = Vec::new();
    if let Err(SelectorError(error)) = key_at("key", key) {
        errors.push(error);
    }
    let wrong = match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            "for 'in', 'notin' operators, values set can't be empty"
        }
        Operator::Equals | Operator::DoubleEquals | Operator::NotEquals if values.len() != 1 => {
            "exact-match compatibility requires one single value"
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            "values set must be empty for exists and does not exist"
        }
        Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
            "for 'Gt', 'Lt' operators, exactly one value is required"
        }
        _ => "",
    };
    if !wrong.is_empty() {
        let quoted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
        errors.push(format!("values: Invalid value: [{}]: {wrong}", quoted.join(",")));
    }
    if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
        for (at, value) in values.iter().enumerate() {
            if value.parse::<i64>().is_err() {
                errors.push(format!(
                    "values[{at}]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                ));
            }
        }
    }
    for (at, value) in values.iter().enumerate() {
        let wrong = validate_value(value);
        if !wrong.is_empty() {
            let wrong = wrong.join("; ");
            errors.push(format!("values[{at}][{key}]: Invalid value: {value:?}: {wrong}"));
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(SelectorError(one.clone())),
        several => Err(SelectorError(format!("[{}]", several.join(", ")))),
    }
}
