//! Checking values against schemas, with upstream's messages.

use super::props::{Bound, Validation};
use super::verdict::{Verdict, number, shown};
use super::{FieldError, FieldErrorKind, formats};
use crate::object::Object;
use crate::types::{ListType, Type};
use crate::value::Value;

/// Everything that an object's schema finds wrong with it. Metadata is not looked at.
pub fn validate(o: &Object) -> Vec<FieldError> {
    let Some(root) = &o.ty().validation else {
        return Vec::new();
    };
    let value = Value::Struct(o.clone());
    let mut verdict = check(root, &value, "");
    lists(root, &value, "", &mut verdict);
    verdict.errors.retain(|e| !is_metadata(&e.path));
    let mut seen: Vec<FieldError> = Vec::with_capacity(verdict.errors.len());
    for error in verdict.errors {
        if !seen.contains(&error) {
            seen.push(error);
        }
    }
    seen
}

fn is_metadata(path: &str) -> bool {
    path == "metadata" || path.starts_with("metadata.")
}

fn child_path(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The JSON type of a value.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Int(_) => "integer",
        Value::Float(_) => "number",
        Value::Str(_) | Value::Bytes(_) | Value::Time(_) => "string",
        Value::List(_) => "array",
        Value::Struct(_) | Value::Map(_) | Value::Raw(_) => "object",
    }
}

fn entries(value: &Value) -> Vec<(&str, &Value)> {
    match value {
        Value::Map(map) => map.iter().collect(),
        Value::Struct(o) => {
            let known = o.fields().map(|(f, v)| (&*f.json, v));
            known.chain(o.extra().into_iter().flat_map(|e| e.iter())).collect()
        }
        _ => Vec::new(),
    }
}

fn check(schema: &Validation, value: &Value, path: &str) -> Verdict {
    let mut out = Verdict::default();
    if *value == Value::Null {
        check_type(schema, value, path, &mut out);
        check_enum(schema, value, path, &mut out);
        return out;
    }
    if !schema.types.is_empty() || !schema.format.is_empty() {
        check_type(schema, value, path, &mut out);
        out.checks += 1;
    }
    alternatives(schema, value, path, &mut out);
    out.checks += 2;
    match value {
        Value::Str(text) => {
            check_text(schema, value, text, path, &mut out);
            check_format(schema, text, path, &mut out);
            out.checks += 2;
        }
        Value::Int(_) | Value::Float(_) => {
            check_number(schema, value, path, &mut out);
            out.checks += 2;
        }
        Value::List(items) => {
            check_list(schema, value, items, path, &mut out);
            out.checks += 2;
        }
        Value::Map(_) | Value::Struct(_) => {
            check_object(schema, value, path, &mut out);
            out.checks += 1;
        }
        _ => {}
    }
    check_enum(schema, value, path, &mut out);
    out.checks += 2;
    out
}

fn check_type(schema: &Validation, value: &Value, path: &str, out: &mut Verdict) {
    if schema.types.is_empty() || (*value == Value::Null && schema.nullable) {
        return;
    }
    let found = type_of(value);
    let wants = |name: &str| schema.types.contains(&name);
    let whole = matches!(value, Value::Float(f) if f.fract() == 0.0);
    let fits = wants(found)
        || (found == "integer" && wants("number"))
        || (found == "number" && whole && wants("integer"));
    let numeric = wants("number") || wants("integer");
    let formatted = !schema.format.is_empty() && !numeric && matches!(found, "string" | "array");
    if fits || formatted {
        out.checks += 1;
    } else {
        out.wrong_type(path, &schema.types.join(","), found);
    }
}

fn check_enum(schema: &Validation, value: &Value, path: &str, out: &mut Verdict) {
    if schema.enum_values.is_empty() || schema.enum_values.iter().any(|e| same(e, value)) {
        return;
    }
    let listed: Vec<String> = schema
        .enum_values
        .iter()
        .map(|v| match v {
            Value::Str(s) => format!("{s:?}"),
            other => format!("{:?}", shown(other)),
        })
        .collect();
    let detail = format!("supported values: {}", listed.join(", "));
    out.push(path, FieldErrorKind::NotSupported, Some(shown(value)), detail);
}

/// Equal as JSON, however it is held.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Map(_) | Value::Struct(_), Value::Map(_) | Value::Struct(_)) => {
            let (a, b) = (entries(a), entries(b));
            let equal = |((ka, va), (kb, vb)): (&(&str, &Value), &(&str, &Value))| ka == kb && same(va, vb);
            let sort = |mut e: Vec<(&str, &Value)>| {
                e.sort_by_key(|(k, _)| k.to_string());
                e.into_iter().map(|(k, v)| (k.to_owned(), v.clone())).collect::<Vec<_>>()
            };
            let (a, b) = (sort(a), sort(b));
            a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| equal((&(&x.0, &x.1), &(&y.0, &y.1))))
        }
        (a, b) => a == b,
    }
}

fn check_text(schema: &Validation, value: &Value, text: &str, path: &str, out: &mut Verdict) {
    let length = text.chars().count();
    if let Some(max) = schema.max_length.filter(|max| length > *max) {
        let detail = format!("may not be more than {max} bytes");
        return out.push(path, FieldErrorKind::TooLong, None, detail);
    }
    if let Some(min) = schema.min_length.filter(|min| length < *min) {
        return out.invalid(path, value, &format!("should be at least {min} chars long"));
    }
    let Some(pattern) = &schema.pattern else {
        return;
    };
    match &pattern.regex {
        Ok(regex) if regex.is_match(text) => {}
        Ok(_) => out.invalid(path, value, &format!("should match '{}'", pattern.text)),
        Err(error) => {
            let text = &pattern.text;
            let problem = format!("should match '{text}, but pattern is invalid: {error}'");
            out.invalid(path, value, &problem);
        }
    }
}

fn check_format(schema: &Validation, text: &str, path: &str, out: &mut Verdict) {
    if !schema.format.is_empty() && !formats::fits(&schema.format, text) {
        let format = &schema.format;
        let detail = format!("{path} in body must be of type {format}: {text:?}");
        let value = Some(format!("{text:?}"));
        out.push(path, FieldErrorKind::TypeInvalid, value, detail);
    }
}

fn check_number(schema: &Validation, value: &Value, path: &str, out: &mut Verdict) {
    let found = value.as_float().unwrap_or(0.0);
    if let Some(factor) = schema.multiple_of {
        let times = if factor < 1.0 { 1.0 / factor * found } else { found / factor };
        if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
            let problem = format!("should be a multiple of {}", number(factor));
            out.invalid(path, value, &problem);
        }
    }
    let mut bound = |bound: Option<Bound>, wrong: fn(f64, f64) -> bool, word: &str| {
        let Some(Bound { value: limit, exclusive }) = bound else {
            return;
        };
        if wrong(found, limit) || (exclusive && found == limit) {
            let or_equal = if exclusive { "" } else { " or equal to" };
            let than = format!("should be {word} than{or_equal} {}", number(limit));
            out.invalid(path, value, &than);
        }
    };
    bound(schema.minimum, |found, limit| found < limit, "greater");
    bound(schema.maximum, |found, limit| found > limit, "less");
}

fn check_list(schema: &Validation, value: &Value, items: &[Value], path: &str, out: &mut Verdict) {
    if let Some(each) = &schema.items {
        for (at, item) in items.iter().enumerate() {
            out.merge(check(each, item, &format!("{path}[{at}]")));
        }
    }
    let size = items.len();
    if let Some(min) = schema.min_items.filter(|min| size < *min) {
        out.invalid(path, value, &format!("should have at least {min} items"));
    }
    if let Some(max) = schema.max_items.filter(|max| size > *max) {
        let detail = format!("must have at most {max} items");
        out.push(path, FieldErrorKind::TooMany, Some(size.to_string()), detail);
    }
    if schema.unique_items && has_duplicates(items) {
        out.invalid(path, value, "shouldn't contain duplicates");
    }
}

fn has_duplicates(items: &[Value]) -> bool {
    items.iter().enumerate().any(|(at, item)| items.iter().take(at).any(|other| same(item, other)))
}

fn check_object(schema: &Validation, value: &Value, path: &str, out: &mut Verdict) {
    let entries = entries(value);
    let size = entries.len();
    if let Some(min) = schema.min_properties.filter(|min| size < *min) {
        out.invalid(path, value, &format!("should have at least {min} properties"));
    }
    if let Some(max) = schema.max_properties.filter(|max| size > *max) {
        out.invalid(path, value, &format!("should have at most {max} properties"));
    }
    for (key, value) in &entries {
        let known = schema.properties.iter().find(|(name, _)| name == key);
        let rule = known.map(|(_, rule)| rule).or(schema.additional.as_ref());
        if let Some(rule) = rule {
            out.merge(check(rule, value, &child_path(path, key)));
        }
    }
    for key in &schema.required {
        if !entries.iter().any(|(name, _)| name == key) {
            out.push(&child_path(path, key), FieldErrorKind::Required, None, String::new());
        }
    }
}

/// `allOf`, `anyOf`, `oneOf` and `not`.
fn alternatives(schema: &Validation, value: &Value, path: &str, out: &mut Verdict) {
    if !schema.any_of.is_empty() {
        let (valid, best) = try_all(&schema.any_of, value, path);
        if valid == 0 {
            out.composite(format!("{path:?} must validate at least one schema (anyOf)"));
            out.merge(best);
        }
    }
    if !schema.one_of.is_empty() {
        let (valid, best) = try_all(&schema.one_of, value, path);
        if valid != 1 {
            let found = match valid {
                0 => "Found none valid".to_owned(),
                several => format!("Found {several} valid alternatives"),
            };
            out.composite(format!("{path:?} must validate one and only one schema (oneOf). {found}"));
            out.merge(best);
        }
    }
    if !schema.all_of.is_empty() {
        let mut valid = 0;
        for each in &schema.all_of {
            let result = check(each, value, path);
            valid += usize::from(result.is_valid());
            out.merge(result);
        }
        if valid != schema.all_of.len() {
            let none = if valid == 0 { ". None validated" } else { "" };
            out.composite(format!("{path:?} must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(not) = &schema.not
        && check(not, value, path).is_valid()
    {
        out.composite(format!("{path:?} must not validate the schema (not)"));
    }
}

/// How many fit, and, where none does, what the nearest one says.
fn try_all(schemas: &[std::sync::Arc<Validation>], value: &Value, path: &str) -> (usize, Verdict) {
    let mut valid = 0;
    let mut best: Option<Verdict> = None;
    for schema in schemas {
        let result = check(schema, value, path);
        if result.is_valid() {
            valid += 1;
            best = None;
        } else if valid == 0 && best.as_ref().is_none_or(|b| result.checks > b.checks) {
            best = Some(result);
        }
    }
    (valid, best.unwrap_or_default())
}

/// Items that stand twice in lists that are sets or maps.
fn lists(schema: &Validation, value: &Value, path: &str, out: &mut Verdict) {
    match value {
        Value::List(items) => {
            duplicates(schema, items, path, out);
            if let Some(each) = &schema.items {
                for (at, item) in items.iter().enumerate() {
                    lists(each, item, &format!("{path}[{at}]"), out);
                }
            }
        }
        Value::Map(_) | Value::Struct(_) => {
            for (key, value) in entries(value) {
                let known = schema.properties.iter().find(|(name, _)| name == key);
                let rule = known.map(|(_, rule)| rule).or(schema.additional.as_ref());
                if let Some(rule) = rule {
                    lists(rule, value, &child_path(path, key), out);
                }
            }
        }
        _ => {}
    }
}

fn duplicates(schema: &Validation, items: &[Value], path: &str, out: &mut Verdict) {
    let key_of = |item: &Value| -> Value {
        match &schema.list {
            ListType::Map(keys) => {
                let present = keys.iter().filter_map(|k| Some((k.to_string(), item.child(k)?.clone())));
                Value::Map(present.collect())
            }
            _ => item.clone(),
        }
    };
    if matches!(schema.list, ListType::None | ListType::Atomic) {
        return;
    }
    let keys: Vec<Value> = items.iter().map(key_of).collect();
    for (at, key) in keys.iter().enumerate() {
        if keys.iter().take(at).any(|other| same(key, other)) {
            let mut text = Vec::new();
            crate::json::encode_value(&Type::Any, key, &mut text);
            let value = String::from_utf8(text).ok();
            let path = format!("{path}[{at}]");
            out.push(&path, FieldErrorKind::Duplicate, value, String::new());
        }
    }
}
