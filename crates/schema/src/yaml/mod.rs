//! YAML, read and written as sigs.k8s.io/yaml does: by way of JSON, with YAML 1.1's plain words
//! (`yes` is true, `0777` is octal), and keys in go-yaml's order.

mod emit;
mod read;
mod resolve;

use crate::json::{self, Decoded, scan::Scanner};
use crate::types::Type;
use crate::{DecodeError, Object, StructRef, Value};

/// Decodes the first document. Keys that stand twice are among the strict messages.
pub fn decode(ty: &StructRef, yaml: &[u8]) -> Result<Decoded, DecodeError> {
    let (json, duplicates) = to_json_strict(yaml)?;
    let mut decoded = json::decode(ty, &json)?;
    decoded.strict.splice(0..0, duplicates);
    Ok(decoded)
}

/// As [`to_json`], with what is said of keys that stand twice.
pub fn to_json_strict(yaml: &[u8]) -> Result<(Vec<u8>, Option<String>), DecodeError> {
    let (value, duplicates) = read::read(yaml)?;
    let mut out = Vec::with_capacity(yaml.len() * 2);
    json::encode_value(&Type::Any, &value, &mut out);
    Ok((out, duplicates))
}

/// The first document as compact JSON; an empty one is `null`.
pub fn to_json(yaml: &[u8]) -> Result<Vec<u8>, DecodeError> {
    // JSON is YAML; where the text is JSON already, it need not be read twice.
    if yaml.trim_ascii_start().first() == Some(&b'{') {
        let mut scanner = Scanner::new(yaml);
        if scanner.skip().and_then(|_| scanner.end()).is_ok() {
            return Ok(yaml.to_vec());
        }
    }
    Ok(to_json_strict(yaml)?.0)
}

/// One document, with no separator.
pub fn encode(o: &Object) -> Vec<u8> {
    from_json(&json::encode(o)).unwrap_or_default()
}

/// JSON text as one document.
pub fn from_json(json: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let value = json::decode_value(&Type::Any, json)?.unwrap_or(Value::Null);
    Ok(emit::emit(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json_of(yaml: &str) -> String {
        match to_json(yaml.as_bytes()) {
            Ok(json) => String::from_utf8(json).unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn words_are_those_of_yaml_1_1() {
        for (yaml, json) in [
            ("a: yes", r#"{"a":true}"#),
            ("a: 'yes'", r#"{"a":"yes"}"#),
            ("a: 0777", r#"{"a":511}"#),
            ("a: 08", r#"{"a":8}"#),
            ("a: 1e3", r#"{"a":1000}"#),
            ("a: 1_000", r#"{"a":1000}"#),
            ("a: 0x1F", r#"{"a":31}"#),
            ("a: ~", r#"{"a":null}"#),
            ("a: 2020-01-01", r#"{"a":"2020-01-01"}"#),
            ("a: 1.5", r#"{"a":1.5}"#),
            ("a: 1:30", r#"{"a":"1:30"}"#),
            ("1: a\ntrue: b", r#"{"1":"a","true":"b"}"#),
            ("a: &x {b: 1}\nc: *x", r#"{"a":{"b":1},"c":{"b":1}}"#),
            ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2", r#"{"a":{"b":1},"c":{"b":1,"d":2}}"#),
            ("a: !!str 5", r#"{"a":"5"}"#),
            ("", "null"),
            ("a: |\n  x\n  y\n", r#"{"a":"x\ny\n"}"#),
            ("- a\n---\n- b", r#"["a"]"#),
        ] {
            assert_eq!(json_of(yaml), json, "{yaml}");
        }
        assert!(json_of("a: [").contains("error converting YAML to JSON: yaml: line"));
    }

    #[test]
    fn texts_are_written_as_go_yaml_writes_them() {
        for (json, yaml) in [
            (r#"{"a":"yes"}"#, "a: \"yes\"\n"),
            (r#"{"a":"x: y"}"#, "a: 'x: y'\n"),
            (r#"{"a":["- x",["b"],[]]}"#, "a:\n- '- x'\n- - b\n- []\n"),
            (r#"{"a":"l1\nl2"}"#, "a: |-\n  l1\n  l2\n"),
            (r#"{"a10":1,"a2":{"b":{}}}"#, "a2:\n  b: {}\na10: 1\n"),
            (r#"{"a":""}"#, "a: \"\"\n"),
            (r#"[{"a":1,"b":[{"c":"d\n"}]}]"#, "- a: 1\n  b:\n  - c: |\n      d\n"),
        ] {
            let written = from_json(json.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), yaml);
        }
    }
}
