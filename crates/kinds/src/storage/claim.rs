//! What a claim must be, and what of it may change.

use schema::{Object, Value};

use crate::field::{At, Errors, Path};
use crate::pod::validate::read::{amount, has, maybe, sub, text};
use crate::pod::validate::{claim_template, shown};
use crate::{edit, rules::Part};

const UPDATABLE: &str = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
pub(super) const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// What is wrong with a claim.
pub(super) fn validate(claim: &Object, errors: &mut Errors) {
    claim_template::check_claim(claim, errors);
}

/// What is wrong with a change.
pub(super) fn validate_update(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    let (Some(new_spec), Some(old_spec)) = (sub(new, "spec"), sub(old, "spec")) else { return };
    if part != Part::Main {
        return;
    }
    validate(new, errors);
    let is_bound = edit::get(old, &["status", "phase"]) == "Bound";
    let mut rest = new_spec.clone();
    if text(old_spec, "volumeName").is_empty() {
        // The controller says it, once.
        keep(&mut rest, "volumeName", old_spec.get("volumeName"));
    }
    class(new, old, &mut rest, errors);
    let size =
        |spec: &Object| sub(spec, "resources").and_then(|resources| amount(resources, "requests", "storage"));
    if is_bound {
        let had = old_spec.at(&["resources", "requests"]).and_then(Value::as_map);
        let had = had.and_then(|requests| requests.get("storage")).cloned();
        edit::within(&mut rest, "resources", |resources| {
            if let (Some(requests), Some(had)) = (resources.map_mut("requests"), had) {
                requests.insert("storage", had);
            }
        });
        keep(&mut rest, "volumeAttributesClassName", old_spec.get("volumeAttributesClassName"));
    }
    let at = At::new("spec");
    if !edit::same(&rest, old_spec) {
        let diff = crate::pod::diff(&shown::lines(old_spec), &shown::lines(&rest));
        errors.forbidden(&at, format!("{UPDATABLE}\n{diff}"));
    }
    let had = sub(old, "status").and_then(|status| amount(status, "capacity", "storage")).unwrap_or_default();
    let (now, before) = (size(new_spec).unwrap_or_default(), size(old_spec).unwrap_or_default());
    if now < before && now <= had {
        let (resources, requests) = (at.child("resources"), "requests");
        let requests = resources.child(requests);
        errors.forbidden(&requests.child("storage"), "field can not be less than status.capacity");
    }
    let mode = |spec: &Object| text(spec, "volumeMode").to_owned();
    if mode(new_spec) != mode(old_spec) {
        errors.invalid(&At::new("volumeMode"), mode(new_spec).as_str(), "field is immutable");
    }
    if edit::get(old, &["status", "currentVolumeAttributesClassName"]).is_empty() {
        return;
    }
    let why = match new_spec.get("volumeAttributesClassName").and_then(Value::as_str) {
        None => "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil",
        Some("") => {
            "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"
        }
        Some(_) => return,
    };
    errors.forbidden(&at.child("volumeAttributesClassName"), why);
}

/// A claim keeps its class. It may come to be said by the field instead of the annotation, and one that had none may be
/// given the default later on.
fn class(new: &Object, old: &Object, rest: &mut Object, errors: &mut Errors) {
    let noted = |claim| annotation(claim, OLD_CLASS);
    let named = |claim| sub(claim, "spec").and_then(|spec| maybe(spec, "storageClassName"));
    let (was, is) = (noted(old), named(new));
    let is_moved = was.is_some() && named(old).is_none() && noted(new).is_none() && is == was;
    if !is_moved && noted(new) != was {
        let path = Path::new("metadata").child("annotations").child(OLD_CLASS);
        errors.invalid(&path, noted(new).unwrap_or_default(), "field is immutable");
    }
    let is_given = named(old).is_none() && is.is_some() && (was.is_none() || is == was);
    if is_moved || is_given {
        rest.remove("storageClassName");
    }
}

fn keep(spec: &mut Object, field: &str, value: Option<&Value>) {
    match value.cloned() {
        Some(value) => {
            spec.set(field, value);
        }
        None => {
            spec.remove(field);
        }
    }
}

pub(super) fn annotation<'o>(object: &'o Object, name: &str) -> Option<&'o str> {
    object.map_at(&["metadata", "annotations"])?.get_str(name)
}

/// Each of two ways to name a source says what the other does. What older servers took no notice of is taken away, and a
/// source in another namespace, which is a feature that is off.
pub(super) fn sources(claim: &mut Object, old: Option<&Object>) {
    let used = |field| old.and_then(|old| sub(old, "spec")).is_some_and(|spec| has(spec, field));
    edit::within(claim, "spec", |spec| {
        let is_elsewhere =
            sub(spec, "dataSourceRef").is_some_and(|source| !text(source, "namespace").is_empty());
        if is_elsewhere && !used("dataSourceRef") {
            spec.remove("dataSourceRef");
        }
        let is_known = |source: &Object| {
            matches!(
                (text(source, "apiGroup"), text(source, "kind")),
                ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
            )
        };
        let is_kept = used("dataSource") || used("dataSourceRef") || has(spec, "dataSourceRef");
        if !is_kept && !sub(spec, "dataSource").is_some_and(is_known) {
            spec.remove("dataSource");
        }
        let (source, reference) = (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned());
        match (source, reference) {
            (Some(Value::Struct(source)), None) => {
                edit::made(spec, "dataSourceRef", |reference| copy(&source, reference));
            }
            (None, Some(Value::Struct(reference))) if text(&reference, "namespace").is_empty() => {
                edit::made(spec, "dataSource", |source| copy(&reference, source));
            }
            _ => {}
        }
    });
}

fn copy(from: &Object, to: &mut Object) {
    for field in ["apiGroup", "kind", "name"] {
        if let Some(value) = from.get(field).cloned() {
            to.set(field, value);
        }
    }
}

/// What its author should know.
pub(super) fn warnings(claim: &Object, _: Option<&Object>, part: Part) -> Vec<String> {
    if part != Part::Main {
        return Vec::new();
    }
    let mut told = Vec::new();
    if annotation(claim, OLD_CLASS).is_some() {
        told.push(format!(
            "metadata.annotations[{OLD_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    told.extend(crate::pod::claim_warnings(sub(claim, "spec")));
    told
}
