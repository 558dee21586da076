//! Namespaces, nodes, config maps, secrets, service accounts, services, leases, and what else the core has.

use schema::{Object, Value};

use crate::columns::{AGE, NAME, age_cell, name as name_cell};
use crate::content;
use crate::edit::{self, each, made, text};
use crate::field::{Errors, Path};
use crate::meta::{self, Looks, NameRule};
use crate::rules::{Cell, Column, GENERIC, Part, Rules, generic_prepare_update};

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
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
        made(object, "status", |status| text(status, "phase", "Active"));
    },
    prepare_create: |object| {
        object.remove("status");
        made(object, "status", |status| text(status, "phase", "Active"));
        made(object, "spec", |spec| {
            let mut all = spec.list_at(&["finalizers"]).unwrap_or_default().to_vec();
            if !all.iter().any(|name| name.as_str() == Some("kubernetes")) {
                all.push(Value::Str("kubernetes".to_owned()));
            }
            spec.set("finalizers", Value::List(all));
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
    validate_create: |namespace, errors| {
        let path = Path::new("spec").child("finalizers");
        let given = namespace.list_at(&["spec", "finalizers"]).unwrap_or_default();
        given.iter().filter_map(Value::as_str).for_each(|name| meta::finalizer(name, &path, errors));
    },
    validate_update: |new, _, part, errors| match part {
        Part::Status => phase(new, errors),
        Part::Other("finalize") => {
            let path = Path::new("spec").child("finalizers");
            let given = new.list_at(&["spec", "finalizers"]).unwrap_or_default();
            for (index, name) in given.iter().filter_map(Value::as_str).enumerate() {
                meta::finalizer(name, &path.index(index), errors);
            }
        }
        Part::Main | Part::Other(_) => {}
    },
    name: NameRule::Label,
    looks: Looks::BOTH,
    ..GENERIC
};

/// A namespace is terminating when it is being deleted, and only then.
fn phase(namespace: &Object, errors: &mut Errors) {
    let (wanted, is_empty) = match namespace.deletion_timestamp() {
        None => ("Active", "empty"),
        Some(_) => ("Terminating", "not empty"),
    };
    let given = edit::get(namespace, &["status", "phase"]);
    if given != wanted {
        let why = format!("may only be '{wanted}' if `deletionTimestamp` is {is_empty}");
        errors.invalid(&Path::new("status").child("Phase"), given, why);
    }
}

/// The rules of `ServiceAccount`.
pub(crate) const SERVICE_ACCOUNT: Rules = Rules { prepare_create: |_| {}, looks: Looks::BOTH, ..GENERIC };

/// The rules of `Lease`.
pub(crate) const LEASE: Rules = Rules {
    // Who leads is chosen by nobody else here: `CoordinatedLeaderElection` is an alpha feature.
    gated: |new, old, _, _| {
        for field in ["strategy", "preferredHolder"] {
            if old.is_none_or(|old| old.at(&["spec", field]).is_none()) {
                edit::within(new, "spec", |spec| drop(spec.remove(field)));
            }
        }
    },
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
        let strategy = object.str_at(&["spec", "strategy"]);
        if let Some(strategy) = strategy {
            election(strategy, &path.child("strategy"), errors);
        }
        if !edit::get(object, &["spec", "preferredHolder"]).is_empty()
            && strategy.unwrap_or_default().is_empty()
        {
            let why = "may only be specified if `strategy` is defined";
            errors.forbidden(&path.child("preferredHolder"), why);
        }
    },
    columns: &[NAME, column("Holder", "string", 0), AGE],
    cells: |object, now| {
        let holder = edit::get(object, &["spec", "holderIdentity"]).to_owned();
        vec![name_cell(object), Cell::Text(holder), age_cell(object, now)]
    },
    ..GENERIC
};

/// How the best of several candidates is chosen (KEP-4355).
fn election(strategy: &str, at: &Path, errors: &mut Errors) {
    let at = at.child("strategy");
    match strategy.split_once('/') {
        None if strategy == "OldestEmulationVersion" => {}
        None => errors.not_supported_in_order(&at, strategy, &["OldestEmulationVersion"]),
        Some(_) => errors.each(&at, strategy, content::qualified_name(strategy)),
    }
}

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
