//! Deployments, replica sets, stateful sets, daemon sets, jobs and cron jobs: everything that makes pods.

mod daemon_set;
mod job;
mod replication_controller;
mod stateful_set;
mod status;
mod template;
mod validate;

use schema::{Object, Value};

use crate::edit::{self, made, number, text, within};
use crate::meta::age;
use crate::pod::template_defaults;
use crate::rules::{Cell, Column, GENERIC, Part, Rules};

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
}

const NAME: Column = Column { name: "Name", ty: "string", format: "name", priority: 0 };

pub(crate) use daemon_set::RULES as DAEMON_SET;
pub(crate) use job::RULES as JOB;
pub(crate) use replication_controller::RULES as REPLICATION_CONTROLLER;
pub(crate) use stateful_set::RULES as STATEFUL_SET;

/// What has no labels has those of its template.
fn labels_of_template(object: &mut Object) {
    let labels = object.at(&["spec", "template", "metadata", "labels"]).cloned();
    if let (Some(labels), None) = (labels, object.labels().filter(|labels| !labels.is_empty())) {
        object.metadata_mut().set("labels", labels);
    }
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
    gated: template::gated,
    validate: validate::deployment,
    validate_update: |new, old, part, errors| {
        validate::immutable_selector(new, old, part, errors);
        if part == Part::Status {
            status::check(new, old, &status::DEPLOYMENT, errors);
        }
    },
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
        validate::immutable_selector(new, old, part, errors);
        if part == Part::Status {
            status::check(new, old, &status::REPLICA_SET, errors);
        }
    },
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

/// The rules of `CronJob`.
pub(crate) const CRON_JOB: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            text(spec, "concurrencyPolicy", "Allow");
            edit::flag(spec, "suspend", false);
            number(spec, "successfulJobsHistoryLimit", 3);
            number(spec, "failedJobsHistoryLimit", 1);
            within(spec, "jobTemplate", |template| {
                made(template, "spec", |spec| made(spec, "template", template_defaults));
            });
        });
    },
    gated: template::cron_job_gated,
    validate: validate::cron_job,
    ..GENERIC
};
