//! A change of the pod itself: images, a shorter deadline, more tolerations, fewer gates, and little else.

use schema::{Object, Value};

use super::unified;
use crate::edit;
use crate::field::{At, Errors, Json};
use crate::pod::strategy::put;
use crate::pod::validate::read::{entries, int, items, list, sub, text};
use crate::pod::validate::{scheduling, shown};

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks the specification of a changed pod against what it was.
pub(super) fn check(new: &Object, old: &Object, errors: &mut Errors) {
    let (Some(new), Some(old)) = (sub(new, "spec"), sub(old, "spec")) else { return };
    let at = At::new("spec");
    for field in ["containers", "initContainers"] {
        if !images(new, old, field, &at, errors) {
            return;
        }
    }
    if !deadline(new, old, &at, errors) {
        return;
    }
    added_tolerations(new, old, &at.child("tolerations"), errors);
    removed_gates(new, old, &at.child("schedulingGates"), errors);
    if new == old {
        return;
    }
    let mut rest = new.clone();
    restore(&mut rest, old);
    if items(old, "schedulingGates").next().is_some() {
        gated(&mut rest, old, &at, errors);
    }
    if !edit::same(&rest, old) {
        let diff = unified::diff(&shown::lines(old), &shown::lines(&rest));
        errors.forbidden(&at, format!("{UPDATABLE}\n{diff}"));
    }
}

/// False when containers came or went, after which nothing else is looked at.
fn images(new: &Object, old: &Object, field: &str, at: &At<'_>, errors: &mut Errors) -> bool {
    let at = at.child(field);
    if list(new, field).len() != list(old, field).len() {
        errors.forbidden(&at, "pod updates may not add or remove containers");
        return false;
    }
    for (index, container) in items(new, field).enumerate() {
        let (at, image) = (at.index(index), text(container, "image"));
        if image.is_empty() {
            errors.required(&at.child("image"), "");
        }
        if image.trim() != image {
            errors.invalid(&at.child("image"), image, "must not have leading or trailing whitespace");
        }
    }
    true
}

fn deadline(new: &Object, old: &Object, at: &At<'_>, errors: &mut Errors) -> bool {
    let at = at.child("activeDeadlineSeconds");
    let most = i64::from(i32::MAX);
    match (int(new, "activeDeadlineSeconds"), int(old, "activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=most).contains(&new) => {
            errors.invalid(&at, new, format!("must be between 0 and {most}, inclusive"));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(&at, new, "must be less than or equal to previous value");
            false
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.invalid(&at, Json("null".to_owned()), why);
            true
        }
        _ => true,
    }
}

fn added_tolerations(new: &Object, old: &Object, at: &At<'_>, errors: &mut Errors) {
    let same = |a: &Object, b: &Object| {
        ["key", "operator", "value", "effect"].iter().all(|field| a.get(field) == b.get(field))
    };
    let kept = |old: &Object| items(new, "tolerations").any(|new| same(new, old));
    if !items(old, "tolerations").all(kept) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.forbidden(at, why);
        return;
    }
    scheduling::tolerations(new, at, errors);
}

fn removed_gates(new: &Object, old: &Object, at: &At<'_>, errors: &mut Errors) {
    for (index, gate) in items(new, "schedulingGates").enumerate() {
        let name = text(gate, "name");
        if !items(old, "schedulingGates").any(|old| text(old, "name") == name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&at.index(index).child("name"), why);
        }
    }
}

/// Puts back what may change, so that the rest can be compared.
fn restore(new: &mut Object, old: &Object) {
    for field in ["containers", "initContainers"] {
        let mut images = items(old, field).map(|container| container.get("image").cloned());
        edit::each(new, field, |container| put(container, "image", images.next().flatten()));
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        put(new, field, old.get(field).cloned());
    }
    let grace = "terminationGracePeriodSeconds";
    if int(old, grace).is_some_and(|seconds| seconds < 0) && int(new, grace) == Some(1) {
        put(new, grace, old.get(grace).cloned());
    }
}

/// A pod whose scheduling is held back may yet be told more narrowly where to run (KEP-3838).
fn gated(new: &mut Object, old: &Object, at: &At<'_>, errors: &mut Errors) {
    if new.get("nodeSelector") != old.get("nodeSelector") {
        let narrowed = entries(old, "nodeSelector")
            .all(|(key, value)| entries(new, "nodeSelector").any(|(k, v)| k == key && v == value));
        if !narrowed {
            let labels: Vec<String> =
                entries(new, "nodeSelector").map(|(k, v)| format!("{k:?}:{v:?}")).collect();
            let value = match labels.is_empty() {
                true => "null".to_owned(),
                false => format!("{{{}}}", labels.join(",")),
            };
            let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            errors.invalid(&at.child("nodeSelector"), Json(value), why);
        }
        put(new, "nodeSelector", old.get("nodeSelector").cloned());
    }
    let affinity = |spec: &'_ Object| spec.at(&["affinity", "nodeAffinity"]).cloned();
    let (given, had) = (affinity(new), affinity(old));
    if given == had {
        return;
    }
    node_affinity(given.as_ref(), had.as_ref(), at, errors);
    let only_node = sub(new, "affinity").is_some_and(|a| a.fields().all(|(f, _)| &*f.json == "nodeAffinity"));
    if old.get("affinity").is_none() && only_node {
        new.remove("affinity");
    } else {
        edit::made(new, "affinity", |affinity| put(affinity, "nodeAffinity", had));
    }
}

fn node_affinity(new: Option<&Value>, old: Option<&Value>, at: &At<'_>, errors: &mut Errors) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |affinity: Option<&Value>| -> Vec<Object> {
        let required = affinity.and_then(|affinity| affinity.child(REQUIRED)).and_then(Value::as_struct);
        required.into_iter().flat_map(|required| items(required, "nodeSelectorTerms")).cloned().collect()
    };
    let (new, old) = (terms(new), terms(old));
    let at = at.child("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution");
    let at = at.child("nodeSelectorTerms");
    if !old.is_empty() && old.len() != new.len() {
        let shown: Vec<String> = new.iter().map(shown::internal).collect();
        let value = if shown.is_empty() { "null".to_owned() } else { format!("[{}]", shown.join(",")) };
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid(&at, Json(value), why);
        return;
    }
    for (index, (new, old)) in new.iter().zip(&old).enumerate() {
        if !only_more(new, old) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.invalid(&at.index(index), Json(shown::internal(new)), why);
        }
    }
}

/// Whether a term has what it had, in front, and more. One that selected nothing stays so.
fn only_more(new: &Object, old: &Object) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    if lists.iter().all(|field| list(old, field).is_empty()) {
        return lists.iter().all(|field| list(new, field).is_empty());
    }
    lists.iter().all(|field| list(new, field).starts_with(list(old, field)))
}
