//! Deployments, replica sets, stateful sets, daemon sets, jobs and cron jobs: everything that makes pods.

mod cron_job;
mod daemon_set;
mod durations;
mod job;
mod job_policies;
mod job_spec;
mod job_status;
mod job_update;
mod replication_controller;
mod schedule;
mod stateful_set;
mod status;
mod template;
mod validate;

use schema::{Object, Value};

use crate::edit::{self, made, number, text};
use crate::meta::age;
use crate::pod::template_defaults;
use crate::rules::{Cell, Column, GENERIC, Part, Rules, generic_prepare_update};

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
}

const NAME: Column = Column { name: "Name", ty: "string", format: "name", priority: 0 };

pub(crate) use cron_job::RULES as CRON_JOB;
pub(crate) use daemon_set::RULES as DAEMON_SET;
pub(crate) use job::RULES as JOB;
pub(crate) use replication_controller::RULES as REPLICATION_CONTROLLER;
pub(crate) use stateful_set::RULES as STATEFUL_SET;
pub(crate) use validate::{amount, at_most_all};

/// What has no labels has those of its template.
fn labels_of_template(object: &mut Object) {
    let labels = object.at(&["spec", "template", "metadata", "labels"]).cloned();
    if let (Some(labels), None) = (labels, object.labels().filter(|labels| !labels.is_empty())) {
        object.metadata_mut().set("labels", labels);
    }
}

/// A number as Go's `strconv.Atoi` reads it.
fn atoi(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    text.parse::<i64>().map_err(|error| {
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {text:?}: {why}")
    })
}

fn int(object: &Object, path: &[&str]) -> i64 {
    object.int_at(path).unwrap_or_default()
}

fn selector(object: &Object) -> String {
    let selector = object.struct_at(&["spec", "selector"]);
    match schema::labels::Selector::from_label_selector(selector) {
        Ok(selector) if !selector.is_everything() => selector.to_string(),
        _ => "<none>".to_owned(),
    }
}

fn containers(object: &Object) -> (String, String) {
    let list = |field: &str| {
        let path = ["spec", "template", "spec", "containers"];
        edit::structs(object, &path)
            .map(|container| edit::get(container, &[field]))
            .collect::<Vec<_>>()
            .join(",")
    };
    (list("name"), list("image"))
}

fn rolling_update(strategy: &mut Object) {
    text(strategy, "type", "RollingUpdate");
    if edit::get(strategy, &["type"]) == "RollingUpdate" {
        made(strategy, "rollingUpdate", |update| {
            for field in ["maxUnavailable", "maxSurge"] {
                if update.get(field).is_none() {
                    update.set(field, Value::Str("25%".to_owned()));
                }
            }
        });
    }
}

/// The rules of `Deployment`.
pub(crate) const DEPLOYMENT: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            number(spec, "replicas", 1);
            number(spec, "revisionHistoryLimit", 10);
            number(spec, "progressDeadlineSeconds", 600);
            made(spec, "strategy", rolling_update);
            made(spec, "template", template_defaults);
        });
    },
    prepare_update: |new, old, part| {
        generic_prepare_update(new, old, part);
        // What its author notes of it counts as well.
        if part == Part::Main && new.annotations() != old.annotations() {
            new.set_generation(old.generation() + 1);
        }
    },
    gated: template::gated,
    validate: validate::deployment,
    validate_update: |new, old, part, errors| {
        if part == Part::Status {
            status::check(new, old, &status::DEPLOYMENT, errors);
        }
    },
    validate_last: validate::immutable_selector,
    columns: &[
        NAME,
        column("Ready", "string", 0),
        column("Up-to-date", "string", 0),
        column("Available", "string", 0),
        column("Age", "string", 0),
        column("Containers", "string", 1),
        column("Images", "string", 1),
        column("Selector", "string", 1),
    ],
    cells: |object, now| {
        let (names, images) = containers(object);
        vec![
            Cell::Text(object.name().to_owned()),
            Cell::Text(format!(
                "{}/{}",
                int(object, &["status", "readyReplicas"]),
                int(object, &["spec", "replicas"])
            )),
            Cell::Int(int(object, &["status", "updatedReplicas"])),
            Cell::Int(int(object, &["status", "availableReplicas"])),
            Cell::Text(age(object, now)),
            Cell::Text(names),
            Cell::Text(images),
            Cell::Text(selector(object)),
        ]
    },
    ..GENERIC
};

/// The rules of `ReplicaSet`.
pub(crate) const REPLICA_SET: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            number(spec, "replicas", 1);
            made(spec, "template", template_defaults);
        });
    },
    gated: template::gated,
    validate: validate::replica_set,
    validate_update: |new, old, part, errors| {
        if part == Part::Status {
            status::check(new, old, &status::REPLICA_SET, errors);
        }
    },
    validate_last: validate::immutable_selector,
    columns: &[
        NAME,
        column("Desired", "integer", 0),
        column("Current", "integer", 0),
        column("Ready", "integer", 0),
        column("Age", "string", 0),
        column("Containers", "string", 1),
        column("Images", "string", 1),
        column("Selector", "string", 1),
    ],
    cells: |object, now| {
        let (names, images) = containers(object);
        vec![
            Cell::Text(object.name().to_owned()),
            Cell::Int(int(object, &["spec", "replicas"])),
            Cell::Int(int(object, &["status", "replicas"])),
            Cell::Int(int(object, &["status", "readyReplicas"])),
            Cell::Text(age(object, now)),
            Cell::Text(names),
            Cell::Text(images),
            Cell::Text(selector(object)),
        ]
    },
    ..GENERIC
};
