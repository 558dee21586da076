//! What a change of a job may not change (`pkg/apis/batch/validation.ValidateJobUpdate`).

use schema::{Object, Value};

use crate::edit::{self, within};
use crate::field::{Errors, Json, Path};
use crate::pod::validate::shown;

const IMMUTABLE: &str = "field is immutable";

/// Checks a changed job against what it was.
pub(super) fn check(new: &Object, old: &Object, errors: &mut Errors) {
    let Some((new_spec, old_spec)) = new.struct_at(&["spec"]).zip(old.struct_at(&["spec"])) else { return };
    let path = Path::new("spec");
    completions(new_spec, old_spec, &path, errors);
    keeps(new_spec, old_spec, "selector", &path, errors);
    template(new_spec, old_spec, may_change(old), errors);
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        keeps(new_spec, old_spec, field, &path, errors);
    }
}

fn value(value: Option<&Value>) -> Json {
    Json(match value {
        None => "null".to_owned(),
        Some(Value::Struct(selector)) if selector.ty().name.contains("apis.meta.") => shown::json(selector),
        Some(Value::Struct(object)) => shown::internal(object),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Str(text)) => format!("{text:?}"),
        Some(_) => String::new(),
    })
}

fn same(new: Option<&Value>, old: Option<&Value>) -> bool {
    match (new, old) {
        (Some(Value::Struct(new)), Some(Value::Struct(old))) => edit::same(new, old),
        (new, old) => new == old,
    }
}

fn keeps(new: &Object, old: &Object, field: &str, path: &Path, errors: &mut Errors) {
    if !same(new.get(field), old.get(field)) {
        errors.invalid(&path.child(field), value(new.get(field)), IMMUTABLE);
    }
}

/// How many pods complete a job stays, but where each has an index (KEP-3715).
fn completions(new: &Object, old: &Object, path: &Path, errors: &mut Errors) {
    if new.str_at(&["completionMode"]) != Some("Indexed") {
        keeps(new, old, "completions", path, errors);
        return;
    }
    let Some(given) = new.int_at(&["completions"]) else { return };
    let parallelism = new.int_at(&["parallelism"]);
    if Some(given) != old.int_at(&["completions"]) && Some(given) != parallelism {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&path.child("completions"), given, why);
    }
}

/// Whether the template of a job may change in part: it is held back, and none of its pods is there
/// (KEP-2926, KEP-5440).
fn may_change(job: &Object) -> bool {
    let suspended = edit::structs(job, &["status", "conditions"]).any(|condition| {
        edit::get(condition, &["type"]) == "Suspended" && edit::get(condition, &["status"]) == "True"
    });
    let begun = job.at(&["status", "startTime"]).is_some();
    job.bool_at(&["spec", "suspend"]) == Some(true)
        && (!begun || suspended)
        && job.int_at(&["status", "active"]).unwrap_or_default() == 0
}

fn template(new: &Object, old: &Object, may_change: bool, errors: &mut Errors) {
    let Some((new, old)) = new.struct_at(&["template"]).zip(old.struct_at(&["template"])) else { return };
    let at = Path::new("spec").child("template");
    if !may_change {
        if !edit::same(new, old) {
            errors.invalid(&at, Json(shown::internal(new)), IMMUTABLE);
        }
        return;
    }
    let Some((new, old)) = new.struct_at(&["spec"]).zip(old.struct_at(&["spec"])) else { return };
    let mut allowed = old.clone();
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        put(&mut allowed, field, new.get(field).cloned());
    }
    node_affinity(&mut allowed, new);
    for list in ["containers", "initContainers"] {
        resources(&mut allowed, new, list);
    }
    if !edit::same(new, &allowed) {
        errors.invalid(&at.child("spec"), Json(shown::internal(new)), IMMUTABLE);
    }
}

fn put(object: &mut Object, field: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(object.set(field, value)),
        None => drop(object.remove(field)),
    }
}

/// Of affinities that of nodes is the new one's.
fn node_affinity(allowed: &mut Object, new: &Object) {
    const NODES: &str = "nodeAffinity";
    let given = new.at(&["affinity", NODES]).cloned();
    match (new.get("affinity").is_some(), allowed.get("affinity").is_some()) {
        (false, true) => {
            within(allowed, "affinity", |affinity| drop(affinity.remove(NODES)));
            if allowed.struct_at(&["affinity"]).is_some_and(|affinity| affinity.fields().next().is_none()) {
                allowed.remove("affinity");
            }
        }
        (true, _) => edit::made(allowed, "affinity", |affinity| put(affinity, NODES, given)),
        (false, false) => {}
    }
}

/// Resources of containers are the new ones', where there are as many of them.
fn resources(allowed: &mut Object, new: &Object, list: &str) {
    let given: Vec<(&str, Option<Value>)> = edit::structs(new, &[list])
        .map(|container| (edit::get(container, &["name"]), container.get("resources").cloned()))
        .collect();
    if edit::structs(allowed, &[list]).count() != given.len() {
        return;
    }
    let mut given = given.into_iter();
    edit::each(allowed, list, |container| {
        if let Some((name, resources)) = given.next()
            && name == edit::get(container, &["name"])
        {
            put(container, "resources", resources);
        }
    });
}
