//! Deployments, replica sets, stateful sets, daemon sets, jobs and cron jobs: everything that makes pods.

mod validate;

use schema::{Object, Value};

use crate::edit::{self, made, number, text, within};
use crate::meta::age;
use crate::pod::template_defaults;
use crate::rules::{Cell, Column, GENERIC, Rules};

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
}

const NAME: Column = Column { name: "Name", ty: "string", format: "name", priority: 0 };

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
    validate: validate::deployment,
    validate_update: validate::immutable_selector,
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
    validate: validate::replica_set,
    validate_update: validate::immutable_selector,
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
    selectable: &[("status.replicas", |object| int(object, &["status", "replicas"]).to_string())],
    ..GENERIC
};

/// The rules of `StatefulSet`.
pub(crate) const STATEFUL_SET: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            number(spec, "replicas", 1);
            number(spec, "revisionHistoryLimit", 10);
            text(spec, "podManagementPolicy", "OrderedReady");
            made(spec, "updateStrategy", |strategy| {
                text(strategy, "type", "RollingUpdate");
                if edit::get(strategy, &["type"]) == "RollingUpdate" {
                    made(strategy, "rollingUpdate", |update| number(update, "partition", 0));
                }
            });
            made(spec, "persistentVolumeClaimRetentionPolicy", |policy| {
                text(policy, "whenDeleted", "Retain");
                text(policy, "whenScaled", "Retain");
            });
            made(spec, "template", template_defaults);
        });
    },
    validate: validate::stateful_set,
    validate_update: validate::immutable_selector,
    ..GENERIC
};

/// The rules of `DaemonSet`.
pub(crate) const DAEMON_SET: Rules = Rules {
    defaults: |object| {
        made(object, "spec", |spec| {
            number(spec, "revisionHistoryLimit", 10);
            made(spec, "updateStrategy", |strategy| {
                text(strategy, "type", "RollingUpdate");
                if edit::get(strategy, &["type"]) == "RollingUpdate" {
                    made(strategy, "rollingUpdate", |update| {
                        number(update, "maxUnavailable", 1);
                        number(update, "maxSurge", 0);
                    });
                }
            });
            made(spec, "template", template_defaults);
        });
    },
    validate: validate::daemon_set,
    validate_update: validate::immutable_selector,
    ..GENERIC
};

/// The rules of `Job`.
pub(crate) const JOB: Rules =
    Rules { defaults: |object| made(object, "spec", job_defaults), validate: validate::job, ..GENERIC };

fn job_defaults(spec: &mut Object) {
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        number(spec, "completions", 1);
    }
    number(spec, "parallelism", 1);
    number(spec, "backoffLimit", 6);
    text(spec, "completionMode", "NonIndexed");
    edit::flag(spec, "suspend", false);
    edit::flag(spec, "manualSelector", false);
    text(spec, "podReplacementPolicy", "TerminatingOrFailed");
    made(spec, "template", template_defaults);
}

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
    validate: validate::cron_job,
    ..GENERIC
};
