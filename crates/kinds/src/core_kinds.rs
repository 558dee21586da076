//! Namespaces, nodes, config maps, secrets, service accounts, services, leases, and what else the core has.

use schema::{Object, Value};

use crate::edit::{self, each, made, text};
use crate::field::{Errors, Path};
use crate::meta::{NameRule, age};
use crate::rules::{Cell, Column, GENERIC, Part, Rules, generic_prepare_update};

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
}

const NAME: Column = Column { name: "Name", ty: "string", format: "name", priority: 0 };
const AGE: Column = column("Age", "string", 0);

fn name_cell(object: &Object) -> Cell {
    Cell::Text(object.name().to_owned())
}

fn age_cell(object: &Object, now: i64) -> Cell {
    Cell::Text(age(object, now))
}

/// The rules of `Namespace`.
pub(crate) const NAMESPACE: Rules = Rules {
    defaults: |object| {
        let name = object.name().to_owned();
        if !name.is_empty() {
            if let Some(labels) = object.metadata_mut().map_mut("labels") {
                labels.insert("kubernetes.io/metadata.name", name.as_str());
            }
        }
    },
    prepare_create: |object| {
        object.remove("status");
        made(object, "status", |status| text(status, "phase", "Active"));
        made(object, "spec", |spec| {
            spec.set("finalizers", Value::List(vec![Value::Str("kubernetes".to_owned())]));
        });
    },
    prepare_update: |new, old, part| {
        let finalizers = new.at(&["spec", "finalizers"]).cloned();
        let version = new.resource_version().to_owned();
        if part == Part::Other("finalize") {
            *new = old.clone();
            new.set_resource_version(&version);
            made(new, "spec", |spec| match finalizers {
                Some(finalizers) => {
                    spec.set("finalizers", finalizers);
                }
                None => {
                    spec.remove("finalizers");
                }
            });
            return;
        }
        generic_prepare_update(new, old, part);
        new.set_generation(old.generation());
        if let Some(spec) = old.get("spec") {
            new.set("spec", spec.clone());
        }
    },
    columns: &[NAME, column("Status", "string", 0), AGE],
    cells: |object, now| {
        let phase = edit::get(object, &["status", "phase"]).to_owned();
        vec![name_cell(object), Cell::Text(phase), age_cell(object, now)]
    },
    selectable: &[("status.phase", |object| edit::get(object, &["status", "phase"]).to_owned())],
    name: NameRule::Label,
    ..GENERIC
};

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
            } else if key.is_empty() || !valid {
                errors.invalid(&path.key(key), key, "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')");
            } else if matches!(key, "." | "..") || key.starts_with("..") {
                errors.invalid(
                    &path.key(key),
                    key,
                    if key == "." { "must not be '.'" } else { "must not start with '..'" },
                );
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

fn size(object: &Object, fields: &[&str]) -> i64 {
    fields.iter().map(|field| object.map_at(&[field]).map_or(0, schema::Map::len) as i64).sum()
}

/// The rules of `ConfigMap`.
pub(crate) const CONFIG_MAP: Rules = Rules {
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
    columns: &[NAME, column("Data", "string", 0), AGE],
    cells: |object, now| {
        vec![name_cell(object), Cell::Int(size(object, &["data", "binaryData"])), age_cell(object, now)]
    },
    ..GENERIC
};

/// The rules of `Secret`.
pub(crate) const SECRET: Rules = Rules {
    defaults: |object| {
        text(object, "type", "Opaque");
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
        let required: &[&str] = match edit::get(object, &["type"]) {
            "kubernetes.io/tls" => &["tls.crt", "tls.key"],
            "kubernetes.io/dockercfg" => &[".dockercfg"],
            "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
            "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
            _ => &[],
        };
        for key in required {
            if object.at(&["data", key]).is_none() {
                errors.required(&Path::new("data").key(key), "");
            }
        }
    },
    validate_update: |new, old, _, errors| {
        let (new_type, old_type) = (edit::get(new, &["type"]), edit::get(old, &["type"]));
        if new_type != old_type {
            errors.invalid(&Path::new("type"), new_type, "field is immutable");
        }
        immutable_data(new, old, &["data"], errors);
    },
    columns: &[NAME, column("Type", "string", 0), column("Data", "string", 0), AGE],
    cells: |object, now| {
        let kind = edit::get(object, &["type"]).to_owned();
        vec![name_cell(object), Cell::Text(kind), Cell::Int(size(object, &["data"])), age_cell(object, now)]
    },
    selectable: &[("type", |object| edit::get(object, &["type"]).to_owned())],
    ..GENERIC
};

/// The rules of `ServiceAccount`.
pub(crate) const SERVICE_ACCOUNT: Rules = Rules { prepare_create: |_| {}, ..GENERIC };

/// The rules of `Lease`.
pub(crate) const LEASE: Rules = Rules {
    prepare_create: |_| {},
    prepare_update: |_, _, _| {},
    validate: |object, errors| {
        let path = Path::new("spec");
        for (field, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
            if let Some(value) = object.int_at(&["spec", field]).filter(|&value| value < least) {
                let why =
                    if least == 1 { "must be greater than 0" } else { "must be greater than or equal to 0" };
                errors.invalid(&path.child(field), value, why);
            }
        }
    },
    columns: &[NAME, column("Holder", "string", 0), AGE],
    cells: |object, now| {
        let holder = edit::get(object, &["spec", "holderIdentity"]).to_owned();
        vec![name_cell(object), Cell::Text(holder), age_cell(object, now)]
    },
    ..GENERIC
};

/// The rules of `Endpoints`.
pub(crate) const ENDPOINTS: Rules = Rules {
    defaults: |object| {
        each(object, "subsets", |subset| each(subset, "ports", |port| text(port, "protocol", "TCP")));
    },
    prepare_create: |_| {},
    ..GENERIC
};

/// The rules of `EndpointSlice`.
pub(crate) const ENDPOINT_SLICE: Rules = Rules {
    defaults: |object| {
        each(object, "ports", |port| {
            text(port, "protocol", "TCP");
            if port.get("name").is_none() {
                port.set("name", Value::Str(String::new()));
            }
        });
    },
    prepare_create: |object| object.set_generation(1),
    prepare_update: |new, old, _| {
        let changed =
            ["endpoints", "ports", "addressType"].iter().any(|field| new.get(field) != old.get(field));
        new.set_generation(old.generation() + i64::from(changed));
    },
    columns: &[
        NAME,
        column("AddressType", "string", 0),
        column("Ports", "string", 0),
        column("Endpoints", "string", 0),
        AGE,
    ],
    cells: |object, now| {
        let ports: Vec<String> = edit::structs(object, &["ports"])
            .map(|port| port.int_at(&["port"]).map_or("*".to_owned(), |port| port.to_string()))
            .collect();
        let addresses: Vec<&str> = edit::structs(object, &["endpoints"])
            .flat_map(|endpoint| endpoint.list_at(&["addresses"]).unwrap_or_default())
            .filter_map(Value::as_str)
            .collect();
        vec![
            name_cell(object),
            Cell::Text(edit::get(object, &["addressType"]).to_owned()),
            Cell::Text(some_of(&ports.iter().map(String::as_str).collect::<Vec<_>>())),
            Cell::Text(some_of(&addresses)),
            age_cell(object, now),
        ]
    },
    ..GENERIC
};

/// At most three of a list, and how many more there are.
fn some_of(list: &[&str]) -> String {
    match list {
        [] => "<unset>".to_owned(),
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first},{second},{third} + {} more...", rest.len())
        }
        all => all.join(","),
    }
}
