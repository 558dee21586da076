//! What an object says it is, before it is decoded.

use super::scan::Scanner;
use crate::DecodeError;

/// The `apiVersion` and `kind` of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TypeMeta {
    pub api_version: String,
    pub kind: String,
}

impl TypeMeta {
    /// Group and version.
    pub fn group_version(&self) -> (&str, &str) {
        self.api_version.split_once('/').unwrap_or(("", &self.api_version))
    }
}

/// Reads `apiVersion` and `kind` without decoding the rest. They are empty where absent.
pub fn peek_type_meta(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    peek(bytes).map_err(|e| DecodeError::Type(format!("couldn't get version/kind; json parse error: {e}")))
}

fn peek(bytes: &[u8]) -> Result<TypeMeta, DecodeError> {
    let mut scanner = Scanner::new(bytes);
    let mut found = TypeMeta::default();
    let first = scanner.peek_value()?;
    if first != b'{' {
        let text = scanner.skip()?;
        scanner.end()?;
        let what = match text.first() {
            Some(b'[') => "array",
            Some(b'"') => "string",
            Some(b'n') => return Ok(found),
            Some(b't' | b'f') => "bool",
            _ => "number",
        };
        return Err(DecodeError::Type(format!(
            "json: cannot unmarshal {what} into Go value of type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}"
        )));
    }
    if !scanner.open(b'}') {
        loop {
            let key = scanner.key()?;
            let slot = match &*key {
                "apiVersion" => Some(&mut found.api_version),
                "kind" => Some(&mut found.kind),
                _ => None,
            };
            match (slot, scanner.peek_value()?) {
                (Some(slot), b'"') => *slot = scanner.string()?.into_owned(),
                (Some(_), b'n') | (None, _) => drop(scanner.skip()?),
                (Some(_), other) => {
                    let what = match other {
                        b'{' => "object",
                        b'[' => "array",
                        b't' | b'f' => "bool",
                        _ => "number",
                    };
                    scanner.skip()?;
                    return Err(DecodeError::Type(format!(
                        "json: cannot unmarshal {what} into Go struct field .{key} of type string"
                    )));
                }
            }
            if !scanner.more(b'}')? {
                break;
            }
        }
    }
    scanner.end()?;
    Ok(found)
}
