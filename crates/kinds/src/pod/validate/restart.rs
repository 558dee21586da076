//! When a single container is started anew, and what a resize does to it.

use std::collections::BTreeSet;

use schema::Object;

use super::read::{items, list, maybe, sub, text};
use crate::field::{At, Errors};

/// Checks `restartPolicy` and `restartPolicyRules` of a container (KEP-5307, KEP-5532).
pub(super) fn policy(container: &Object, at: &At<'_>, errors: &mut Errors) {
    let rules = items(container, "restartPolicyRules").count();
    let place = at.child("restartPolicy");
    match maybe(container, "restartPolicy") {
        None if rules == 0 => return,
        None => {
            errors.required(&place, "must specify restartPolicy when restart rules are used");
        }
        Some("Always" | "Never" | "OnFailure") => {}
        Some(other) => errors.not_supported(&place, other, &["Always", "Never", "OnFailure"]),
    }
    let rules_at = at.child("restartPolicyRules");
    if rules > 20 {
        errors.too_many(&rules_at, rules, 20);
    }
    for (index, rule) in items(container, "restartPolicyRules").enumerate() {
        let (at, action) = (rules_at.index(index), text(rule, "action"));
        const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
        if !ACTIONS.contains(&action) {
            errors.not_supported(&at.child("action"), action, &ACTIONS);
        }
        let at = at.child("exitCodes");
        let Some(codes) = sub(rule, "exitCodes") else {
            errors.required(&at, "must be specified");
            continue;
        };
        let operator = text(codes, "operator");
        if !matches!(operator, "In" | "NotIn") {
            errors.not_supported(&at.child("operator"), operator, &["In", "NotIn"]);
        }
        let values = list(codes, "values").len();
        if values > 255 {
            errors.too_many(&at.child("values"), values, 255);
        }
    }
}

/// As [`policy`] for an init container, which needs no rule where it has no policy.
pub(super) fn init_policy(container: &Object, at: &At<'_>, errors: &mut Errors) {
    if maybe(container, "restartPolicy").is_none() {
        if items(container, "restartPolicyRules").next().is_some() {
            let why = "must specify restartPolicy when restart rules are used";
            errors.required(&at.child("restartPolicy"), why);
        }
        return;
    }
    policy(container, at, errors);
}

/// Checks `resizePolicy` (KEP-1287).
pub(super) fn resize(container: &Object, pod_policy: &str, at: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, policy) in items(container, "resizePolicy").enumerate() {
        let (resource, restart) = (text(policy, "resourceName"), text(policy, "restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&at.index(index), resource);
        }
        match resource {
            "cpu" | "memory" => {}
            "" => errors.required(at, ""),
            other => errors.not_supported(at, other, &["cpu", "memory"]),
        }
        match restart {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(at, ""),
            other => errors.not_supported(at, other, &["NotRequired", "RestartContainer"]),
        }
        if pod_policy == "Never" && restart != "NotRequired" {
            errors.invalid(at, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

/// A container that runs once before the others is not restarted by a resize.
pub(super) fn no_restart_by_resize(container: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("resizePolicy");
    for (index, policy) in items(container, "resizePolicy").enumerate() {
        let restart = text(policy, "restartPolicy");
        if restart == "RestartContainer" {
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.invalid(&at.index(index).child("restartPolicy"), restart, why);
        }
    }
}
