//! `PodDisruptionBudget` (`pkg/apis/policy/validation`).

use schema::Object;

use crate::field::{At, Errors, Json, Path};
use crate::meta::{Looks, NameRule};
use crate::pod::validate::read::{has, int, maybe, sub};
use crate::pod::validate::{selector, shown};
use crate::rules::{GENERIC, Part, Rules};
use crate::workload::{amount, at_most_all};

const POLICIES: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];
/// The numbers of a status, of which none is negative.
const NUMBERS: [&str; 4] = ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

/// The rules of `PodDisruptionBudget`.
pub(crate) const RULES: Rules = Rules {
    validate,
    validate_update: |budget, _, part, errors| {
        if part == Part::Status {
            status(budget, errors);
        }
    },
    name: NameRule::PathSegment,
    looks: Looks::NONE,
    ..GENERIC
};

fn validate(budget: &Object, errors: &mut Errors) {
    let Some(spec) = sub(budget, "spec") else { return };
    let path = Path::new("spec");
    let numbers = ["minAvailable", "maxUnavailable"];
    if numbers.iter().all(|field| has(spec, field)) {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.invalid(&path, Json(shown::internal(spec)), why);
    }
    for field in numbers.into_iter().filter(|field| has(spec, field)) {
        amount(spec, field, &path, errors);
        at_most_all(spec, field, &path, errors);
    }
    selector::check(sub(spec, "selector"), &At::from_path(&path.child("selector")), errors);
    let policy = "unhealthyPodEvictionPolicy";
    if let Some(given) = maybe(spec, policy).filter(|given| !POLICIES.contains(given)) {
        errors.not_supported(&path.child(policy), given, &POLICIES);
    }
}

fn status(budget: &Object, errors: &mut Errors) {
    let Some(status) = sub(budget, "status") else { return };
    let at = At::new("status");
    crate::resource::conditions(status, usize::MAX, &at.child("conditions"), errors);
    for field in NUMBERS {
        if let Some(number) = int(status, field).filter(|number| *number < 0) {
            errors.invalid(&at.child(field), number, "must be greater than or equal to 0");
        }
    }
}
