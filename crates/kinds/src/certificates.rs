//! `CertificateSigningRequest` (`registry/certificates/certificates`).

use schema::{Map, Object, Value};

use crate::edit;
use crate::field::{Errors, Path};
use crate::meta::age;
use crate::rules::{Cell, Column, Creator, GENERIC, Part, Rules};

const fn column(name: &'static str, ty: &'static str) -> Column {
    Column { name, ty, format: "", priority: 0 }
}

const SIGNER: &str = "signerName";
/// The shortest time that may be asked for, in seconds.
const MIN_SECONDS: i64 = 600;

/// The rules of `CertificateSigningRequest`.
pub(crate) const RULES: Rules = Rules {
    defaults: |request| {
        for condition in conditions_mut(request) {
            edit::text(condition, "status", "True");
        }
    },
    prepare_create: |request| {
        request.remove("status");
    },
    created_by,
    prepare_update,
    validate,
    columns: &[
        Column { name: "Name", ty: "string", format: "name", priority: 0 },
        column("Age", "string"),
        column("SignerName", "string"),
        column("Requestor", "string"),
        column("RequestedDuration", "string"),
        column("Condition", "string"),
    ],
    cells,
    selectable: &[("spec.signerName", |request| edit::get(request, &["spec", SIGNER]).to_owned())],
    ..GENERIC
};

fn conditions_mut(request: &mut Object) -> impl Iterator<Item = &mut Object> {
    let status = request.get_mut("status").and_then(Value::as_struct_mut);
    let list = status.and_then(|status| status.get_mut("conditions")).and_then(Value::as_list_mut);
    list.into_iter().flatten().filter_map(Value::as_struct_mut)
}

/// Who asks is never taken from the body.
fn created_by(request: &mut Object, creator: &Creator<'_>) {
    edit::made(request, "spec", |spec| {
        spec.set("username", creator.name);
        spec.set("uid", creator.uid);
        let groups = creator.groups.iter().map(|group| Value::Str(group.clone())).collect();
        spec.set("groups", Value::List(groups));
        let mut extra = Map::new();
        for (key, values) in creator.extra {
            let values = values.iter().map(|value| Value::Str(value.clone())).collect();
            extra.insert(key.as_str(), Value::List(values));
        }
        spec.remove("extra");
        if !extra.is_empty() {
            spec.set("extra", Value::Map(extra));
        }
    });
}

fn is_decision(condition: &Object) -> bool {
    matches!(edit::get(condition, &["type"]), "Approved" | "Denied")
}

/// The specification never changes; `approval` changes conditions alone, and `status` everything but the decision.
fn prepare_update(new: &mut Object, old: &Object, part: Part) {
    if let Some(spec) = old.get("spec") {
        new.set("spec", spec.clone());
    }
    let (old_status, new_status) = (old.struct_at(&["status"]), new.struct_at(&["status"]));
    let list = |status: Option<&Object>| {
        status.and_then(|status| status.list_at(&["conditions"])).unwrap_or_default().to_vec()
    };
    let decided = |value: &Value| value.as_struct().is_some_and(is_decision);
    let (conditions, keep_old) = match part {
        Part::Other("approval") => (list(new_status), true),
        Part::Status => {
            let mut kept: Vec<Value> = list(old_status).into_iter().filter(decided).collect();
            kept.extend(list(new_status).into_iter().filter(|value| !decided(value)));
            (kept, false)
        }
        Part::Main | Part::Other(_) => (list(old_status), true),
    };
    let mut status = if keep_old { old_status.cloned() } else { new_status.cloned() };
    if status.is_none() && !conditions.is_empty() {
        status = new_status.cloned();
        if let Some(status) = &mut status {
            status.remove("certificate");
        }
    }
    new.remove("status");
    if let Some(mut status) = status {
        status.remove("conditions");
        if !conditions.is_empty() {
            status.set("conditions", Value::List(conditions));
        }
        new.set("status", Value::Struct(status));
    }
}

fn validate(request: &Object, errors: &mut Errors) {
    let path = Path::new("spec");
    if request.at(&["spec", "request"]).is_none() {
        errors.required(&path.child("request"), "");
    }
    let usages = request.list_at(&["spec", "usages"]).unwrap_or_default();
    if usages.is_empty() {
        errors.required(&path.child("usages"), "");
    }
    let signer = edit::get(request, &["spec", SIGNER]);
    if signer.is_empty() {
        errors.required(&path.child(SIGNER), "");
    } else if signer.split('/').count() != 2 || signer.split('/').any(str::is_empty) {
        errors.invalid(
            &path.child(SIGNER),
            signer,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    }
    if let Some(seconds) = request.int_at(&["spec", "expirationSeconds"]) {
        if seconds < MIN_SECONDS {
            let shown = crate::field::Json(seconds.to_string());
            errors.invalid(
                &path.child("expirationSeconds"),
                shown,
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
    }
    let path = Path::new("status").child("conditions");
    let (mut approved, mut denied) = (false, false);
    for (index, condition) in edit::structs(request, &["status", "conditions"]).enumerate() {
        let kind = edit::get(condition, &["type"]);
        approved |= kind == "Approved";
        denied |= kind == "Denied";
        if kind.is_empty() {
            errors.required(&path.index(index).child("type"), "");
        }
        if approved && denied {
            errors.invalid(
                &path.index(index).child("type"),
                kind,
                "Approved and Denied conditions are mutually exclusive",
            );
        }
    }
}

fn cells(request: &Object, now: i64) -> Vec<Cell> {
    let text = |path: &[&str]| match edit::get(request, path) {
        "" => "<none>".to_owned(),
        text => text.to_owned(),
    };
    let duration = request.int_at(&["spec", "expirationSeconds"]);
    let mut decision = None;
    let mut failed = false;
    for condition in edit::structs(request, &["status", "conditions"]) {
        match edit::get(condition, &["type"]) {
            kind @ ("Approved" | "Denied") => decision = Some(kind),
            "Failed" => failed = true,
            _ => {}
        }
    }
    let mut state = decision.unwrap_or("Pending").to_owned();
    if failed {
        state.push_str(",Failed");
    }
    if request.at(&["status", "certificate"]).is_some() {
        state.push_str(",Issued");
    }
    vec![
        Cell::Text(request.name().to_owned()),
        Cell::Text(age(request, now)),
        Cell::Text(text(&["spec", SIGNER])),
        Cell::Text(text(&["spec", "username"])),
        Cell::Text(duration.map_or_else(|| "<none>".to_owned(), crate::meta::duration)),
        Cell::Text(state),
    ]
}
