//! Tolerations, gates, resource claims and what else tells where a pod may run.

use std::collections::BTreeSet;

use schema::Object;

use super::Subject;
use super::read::{has, items, maybe, sub, text};
use super::shown;
use crate::content;
use crate::field::{At, Errors, Json};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Checks the effect of a taint or a toleration that has one.
pub(crate) fn effect(effect: &str, at: &At<'_>, errors: &mut Errors) {
    if !EFFECTS.contains(&effect) {
        errors.not_supported_in_order(at, effect, &EFFECTS);
    }
}

/// Checks tolerations.
pub(crate) fn tolerations(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    for (index, toleration) in items(spec, "tolerations").enumerate() {
        let at = at.index(index);
        let (key, operator) = (text(toleration, "key"), text(toleration, "operator"));
        let (value, taint) = (text(toleration, "value"), text(toleration, "effect"));
        let operator_at = at.child("operator");
        if !key.is_empty() {
            errors.each(&at.child("key"), key, content::qualified_name(key));
        }
        if key.is_empty() && operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&operator_at, operator, why);
        }
        if has(toleration, "tolerationSeconds") && taint != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), taint, why);
        }
        match operator {
            "Equal" | "" => {
                let problems = content::label_value(value);
                if !problems.is_empty() {
                    errors.invalid(&operator_at, value, problems.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.invalid(&operator_at, value, why);
            }
            "Exists" => {}
            "Lt" | "Gt" => {
                let known = ["Equal", "Exists", "Lt", "Gt"];
                errors.not_supported_in_order(&operator_at, operator, &known);
            }
            other => errors.not_supported_in_order(&operator_at, other, &["Equal", "Exists"]),
        }
        if !taint.is_empty() {
            effect(taint, &at.child("effect"), errors);
        }
    }
}

/// Checks `schedulingGates` and `readinessGates`.
pub(super) fn gates(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let ready_at = at.child("readinessGates");
    for (index, gate) in items(spec, "readinessGates").enumerate() {
        let condition = text(gate, "conditionType");
        let problems = content::qualified_name(condition);
        errors.each(&ready_at.index(index).child("conditionType"), condition, problems);
    }
    let gates_at = at.child("schedulingGates");
    let mut seen = BTreeSet::new();
    for (index, gate) in items(spec, "schedulingGates").enumerate() {
        let (at, name) = (gates_at.index(index), text(gate, "name"));
        errors.each(&at, name, content::qualified_name(name));
        if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
    }
}

/// Checks `resourceClaims`, and gives their names.
pub(super) fn resource_claims<'o>(
    spec: &'o Object,
    subject: &Subject<'_>,
    at: &At<'_>,
    errors: &mut Errors,
) -> BTreeSet<&'o str> {
    let mut names = BTreeSet::new();
    for (index, claim) in items(spec, "resourceClaims").enumerate() {
        if subject.is_mirror() {
            errors.forbidden(&At::new("[]"), "static pods do not support resource claims");
            continue;
        }
        let (at, name) = (at.index(index), text(claim, "name"));
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if names.contains(name) {
            errors.duplicate(&at.child("name"), name);
        } else {
            errors.each(&at.child("name"), name, content::label(name));
            names.insert(name);
        }
        let (direct, template) =
            (maybe(claim, "resourceClaimName"), maybe(claim, "resourceClaimTemplateName"));
        let why = match (direct, template) {
            (Some(_), Some(_)) => {
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            }
            (None, None) => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            _ => "",
        };
        if !why.is_empty() {
            errors.invalid(&at, Json(shown::resource_claim(claim)), why);
        }
        for (field, value) in [("resourceClaimName", direct), ("resourceClaimTemplateName", template)] {
            if let Some(value) = value {
                errors.each(&at.child(field), value, content::subdomain(value));
            }
        }
    }
    names
}

/// Checks `schedulingGroup` (KEP-4671).
pub(super) fn group(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(group) = sub(spec, "schedulingGroup") else { return };
    let at = at.child("schedulingGroup.podGroupName");
    match maybe(group, "podGroupName") {
        None => errors.invalid(&at, Json("null".to_owned()), "must specify one of: `podGroupName`"),
        Some(name) => errors.each(&at, name, content::subdomain(name)),
    }
}
