//! Deployments, replica sets, stateful sets, daemon sets, jobs and cron jobs: everything that makes pods.

use schema::{Object, Value};

use crate::edit::{self, made, number, text, within};
use crate::field::{Errors, Path};
use crate::meta::age;
use crate::pod::{template_defaults, validate_template};
use crate::rules::{Cell, Column, GENERIC, Part, Rules};

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

/// What a selector and a template must be to each other.
fn validate_selected_template(object: &Object, errors: &mut Errors) {
    let path = Path::new("spec");
    let replicas = int(object, &["spec", "replicas"]);
    if replicas < 0 {
        errors.invalid(&path.child("replicas"), replicas, "must be greater than or equal to 0");
    }
    let Some(template) = object.struct_at(&["spec", "template"]) else {
        errors.required(&path.child("template"), "");
        return;
    };
    match object.struct_at(&["spec", "selector"]) {
        None => errors.required(&path.child("selector"), ""),
        Some(selector) => match schema::labels::Selector::from_label_selector(Some(selector)) {
            Err(error) => errors.invalid(&path.child("selector"), "", error.to_string()),
            Ok(parsed) if parsed.is_everything() => {
                errors.invalid(
                    &path.child("selector"),
                    crate::field::Json("{}".to_owned()),
                    "empty selector is invalid for deployment",
                );
            }
            Ok(parsed) if !parsed.matches(|key| template.label(key)) => {
                let labels = labels_json(template);
                let why = "`selector` does not match template `labels`";
                errors.invalid(
                    &path.child("template").child("metadata").child("labels"),
                    crate::field::Json(labels),
                    why,
                );
            }
            Ok(_) => {}
        },
    }
    validate_template(template, &path.child("template"), errors);
}

fn labels_json(template: &Object) -> String {
    let labels: Vec<String> = template
        .labels()
        .into_iter()
        .flat_map(schema::Map::strings)
        .map(|(key, value)| format!("{key:?}:{value:?}"))
        .collect();
    format!("{{{}}}", labels.join(","))
}

fn always_restarts(object: &Object, errors: &mut Errors) {
    let policy = edit::get(object, &["spec", "template", "spec", "restartPolicy"]);
    if !policy.is_empty() && policy != "Always" {
        let path = Path::new("spec").child("template").child("spec").child("restartPolicy");
        errors.not_supported(&path, policy, &["Always"]);
    }
}

fn immutable_selector(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    if part == Part::Main && new.at(&["spec", "selector"]) != old.at(&["spec", "selector"]) {
        let shown = new.struct_at(&["spec", "selector"]).map(schema::json::encode).unwrap_or_default();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        errors.invalid(&Path::new("spec").child("selector"), crate::field::Json(shown), "field is immutable");
    }
}

/// A number of pods, or a share of them.
fn validate_amount(update: &Object, field: &str, path: &Path, errors: &mut Errors) -> bool {
    let path = path.child(field);
    match update.get(field) {
        Some(Value::Int(number)) if *number < 0 => {
            errors.invalid(&path, *number, "must be greater than or equal to 0");
            false
        }
        Some(Value::Int(number)) => *number == 0,
        Some(Value::Str(share)) => match share.strip_suffix('%').map(str::parse::<u32>) {
            Some(Ok(number)) => number == 0,
            _ => {
                errors.invalid(&path, share.as_str(), "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
                false
            }
        },
        _ => true,
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
    validate: |object, errors| {
        validate_selected_template(object, errors);
        always_restarts(object, errors);
        let strategy = Path::new("spec").child("strategy");
        match edit::get(object, &["spec", "strategy", "type"]) {
            "Recreate" if object.at(&["spec", "strategy", "rollingUpdate"]).is_some() => {
                errors.forbidden(
                    &strategy.child("rollingUpdate"),
                    "may not be specified when strategy `type` is 'Recreate'",
                );
            }
            "RollingUpdate" | "Recreate" => {}
            other => errors.not_supported(&strategy.child("type"), other, &["Recreate", "RollingUpdate"]),
        }
        if let Some(update) = object.struct_at(&["spec", "strategy", "rollingUpdate"]) {
            let path = strategy.child("rollingUpdate");
            let unavailable = validate_amount(update, "maxUnavailable", &path, errors);
            let surge = validate_amount(update, "maxSurge", &path, errors);
            if unavailable && surge {
                errors.invalid(&path.child("maxUnavailable"), 0, "may not be 0 when `maxSurge` is 0");
            }
        }
        let (deadline, ready) =
            (object.int_at(&["spec", "progressDeadlineSeconds"]), int(object, &["spec", "minReadySeconds"]));
        if let Some(deadline) = deadline.filter(|&deadline| deadline <= ready) {
            errors.invalid(
                &Path::new("spec").child("progressDeadlineSeconds"),
                deadline,
                "must be greater than minReadySeconds",
            );
        }
    },
    validate_update: immutable_selector,
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
    validate: |object, errors| {
        validate_selected_template(object, errors);
        always_restarts(object, errors);
    },
    validate_update: immutable_selector,
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
    validate: validate_selected_template,
    validate_update: immutable_selector,
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
    validate: validate_selected_template,
    validate_update: immutable_selector,
    ..GENERIC
};

/// The rules of `Job`.
pub(crate) const JOB: Rules = Rules { defaults: |object| made(object, "spec", job_defaults), ..GENERIC };

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
    ..GENERIC
};
