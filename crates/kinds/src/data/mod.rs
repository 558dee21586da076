//! Config maps and secrets: keys, sizes, what each type of secret must have (`pkg/apis/core/validation`).

mod pem;

use schema::{Object, Type, Value};

use crate::columns::{AGE, NAME, age_cell, name as name_cell};
use crate::edit::{self, text};
use crate::field::{Errors, Path};
use crate::meta::Looks;
use crate::rules::{Cell, Column, GENERIC, Part, Rules};

const fn column(name: &'static str) -> Column {
    Column { name, ty: "string", format: "", priority: 0 }
}

/// The most that the data of a config map or a secret may have: 1 MiB.
const MAX_DATA: usize = 1 << 20;

fn validate_keys(object: &Object, fields: &[&str], errors: &mut Errors) {
    let mut size = 0;
    for field in fields {
        let path = Path::new(field);
        for (key, value) in object.map_at(&[field]).into_iter().flat_map(schema::Map::iter) {
            size += value.as_str().map_or(0, str::len) + value.as_bytes().map_or(0, |bytes| bytes.len());
            let valid = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if key.len() > 253 {
                errors.invalid(&path.key(key), key, "must be no more than 253 characters");
            }
            if key.is_empty() || !valid {
                errors.invalid(&path.key(key), key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')");
            }
            match key {
                "." => errors.invalid(&path.key(key), key, "must not be '.'"),
                ".." => errors.invalid(&path.key(key), key, "must not be '..'"),
                key if key.starts_with("..") => {
                    errors.invalid(&path.key(key), key, "must not start with '..'");
                }
                _ => {}
            }
        }
    }
    if size > MAX_DATA {
        errors.too_long(&Path::new(fields.first().copied().unwrap_or_default()), MAX_DATA);
    }
}

fn immutable_data(new: &Object, old: &Object, fields: &[&str], errors: &mut Errors) {
    if old.bool_at(&["immutable"]) != Some(true) {
        return;
    }
    if new.bool_at(&["immutable"]) != Some(true) {
        errors.forbidden(&Path::new("immutable"), "field is immutable when `immutable` is set");
    }
    for field in fields {
        if new.get(field) != old.get(field) {
            errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
        }
    }
}

/// What is null has no bytes.
fn nulls(object: &mut Object, field: &str) {
    if object.get(field).is_none() {
        return;
    }
    let Some(data) = object.map_mut(field) else { return };
    let nulls: Vec<String> = data
        .iter()
        .filter(|(_, value)| matches!(value, Value::Null))
        .map(|(key, _)| key.to_owned())
        .collect();
    for key in nulls {
        data.insert(key, Value::Bytes(Vec::new().into()));
    }
}

fn size(object: &Object, fields: &[&str]) -> i64 {
    fields.iter().map(|field| object.map_at(&[field]).map_or(0, schema::Map::len) as i64).sum()
}

/// The rules of `ConfigMap`.
pub(crate) const CONFIG_MAP: Rules = Rules {
    defaults: |object| nulls(object, "binaryData"),
    prepare_create: |_| {},
    validate: |object, errors| {
        validate_keys(object, &["data", "binaryData"], errors);
        let data = object.map_at(&["data"]);
        for key in object.map_at(&["binaryData"]).into_iter().flat_map(schema::Map::keys) {
            if data.is_some_and(|data| data.contains_key(key)) {
                errors.invalid(&Path::new("data").key(key), key, "duplicate of key present in binaryData");
            }
        }
    },
    validate_update: |new, old, _, errors| immutable_data(new, old, &["data", "binaryData"], errors),
    columns: &[NAME, column("Data"), AGE],
    cells: |object, now| {
        vec![name_cell(object), Cell::Int(size(object, &["data", "binaryData"])), age_cell(object, now)]
    },
    looks: Looks::BOTH,
    ..GENERIC
};

/// The rules of `Secret`.
pub(crate) const SECRET: Rules = Rules {
    defaults: |object| {
        text(object, "type", "Opaque");
        nulls(object, "data");
        let Some(Value::Map(plain)) = object.remove("stringData") else { return };
        if let Some(data) = object.map_mut("data") {
            for (key, value) in plain.strings() {
                data.insert(key, Value::Bytes(value.as_bytes().to_vec().into()));
            }
        }
    },
    prepare_create: |_| {},
    validate: |object, errors| {
        validate_keys(object, &["data"], errors);
        of_type(object, errors);
    },
    warnings: |secret, _, part| {
        if part != Part::Main || edit::get(secret, &["type"]) != "kubernetes.io/tls" {
            return Vec::new();
        }
        let bytes = |key: &str| bytes(secret, key).unwrap_or_default();
        pem::pair(bytes("tls.crt"), bytes("tls.key")).into_iter().collect()
    },
    validate_update: |new, old, _, errors| {
        let (new_type, old_type) = (edit::get(new, &["type"]), edit::get(old, &["type"]));
        if new_type != old_type {
            errors.invalid(&Path::new("type"), new_type, "field is immutable");
        }
        immutable_data(new, old, &["data"], errors);
    },
    columns: &[NAME, column("Type"), column("Data"), AGE],
    cells: |object, now| {
        let kind = edit::get(object, &["type"]).to_owned();
        vec![name_cell(object), Cell::Text(kind), Cell::Int(size(object, &["data"])), age_cell(object, now)]
    },
    looks: Looks::BOTH,
    selectable: &[("type", |object| edit::get(object, &["type"]).to_owned())],
    ..GENERIC
};

fn bytes<'o>(secret: &'o Object, key: &str) -> Option<&'o [u8]> {
    secret.map_at(&["data"])?.get(key)?.as_bytes().map(|bytes| &**bytes)
}

/// What a secret of its type must have.
fn of_type(secret: &Object, errors: &mut Errors) {
    let data = Path::new("data");
    let missing = |key: &str| bytes(secret, key).is_none();
    let mut require = |keys: &[&str]| keys.iter().for_each(|key| errors.required(&data.key(key), ""));
    match edit::get(secret, &["type"]) {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if secret.annotation(ACCOUNT).unwrap_or_default().is_empty() {
                errors.required(&Path::new("metadata").child("annotations").key(ACCOUNT), "");
            }
        }
        "kubernetes.io/dockercfg" => registries(secret, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => registries(secret, ".dockerconfigjson", errors),
        // Either may be empty, and one is enough.
        "kubernetes.io/basic-auth" if missing("username") && missing("password") => {
            require(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if bytes(secret, "ssh-privatekey").unwrap_or_default().is_empty() => {
            require(&["ssh-privatekey"]);
        }
        "kubernetes.io/tls" => {
            ["tls.crt", "tls.key"].into_iter().filter(|key| missing(key)).for_each(|key| require(&[key]));
        }
        _ => {}
    }
}

/// Credentials for registries are a JSON object.
fn registries(secret: &Object, key: &str, errors: &mut Errors) {
    let at = Path::new("data").key(key);
    let Some(json) = bytes(secret, key) else { return errors.required(&at, "") };
    if let Err(error) = schema::json::decode_value(&Type::Map(Box::new(Type::Any)), json) {
        errors.invalid(&at, "<secret contents redacted>", error.to_string());
    }
}

#[cfg(test)]
mod tests;
