//! A container that has ended for good does not come back.

use schema::Object;

use crate::field::{At, Errors};
use crate::pod::validate::read::{int, items, list, maybe, sub, text};

/// Checks the states of the containers of one list.
pub(super) fn check(new: &Object, old: &Object, spec: &Object, errors: &mut Errors) {
    let everything = ["containers", "initContainers"].iter().any(|list| {
        items(spec, list).any(|container| {
            items(container, "restartPolicyRules").any(|rule| text(rule, "action") == "RestartAllContainers")
        })
    });
    for (field, containers) in [
        ("containerStatuses", Some("containers")),
        ("initContainerStatuses", Some("initContainers")),
        ("ephemeralContainerStatuses", None),
    ] {
        if everything && containers.is_some() {
            continue;
        }
        let at = At::new("status");
        let at = at.child(field);
        for (index, old) in items(old, field).enumerate() {
            let Some(ended) = terminated(old) else { continue };
            let name = text(old, "name");
            let back = items(new, field).any(|new| text(new, "name") == name && terminated(new).is_none());
            let may = containers.is_some_and(|list| {
                let container = items(spec, list).find(|container| text(container, "name") == name);
                container.is_some_and(|container| restarts(container, spec, ended))
            });
            if back && !may {
                let why = "may not be transitioned to non-terminated state";
                errors.forbidden(&at.index(index).child("state"), why);
            }
        }
    }
}

fn terminated(status: &Object) -> Option<&Object> {
    sub(sub(status, "state")?, "terminated")
}

/// Whether a container is started again after it ended so (`pkg/api/v1/pod.ContainerShouldRestart`).
fn restarts(container: &Object, spec: &Object, ended: &Object) -> bool {
    let code = int(ended, "exitCode").unwrap_or_default();
    let by = |policy: &str| match policy {
        "Always" => Some(true),
        "OnFailure" => Some(code != 0),
        "Never" => Some(false),
        _ => None,
    };
    if let Some(policy) = maybe(container, "restartPolicy") {
        let rule = items(container, "restartPolicyRules").find(|rule| matches(rule, code));
        if rule.is_some_and(|rule| text(rule, "action") == "Restart") {
            return true;
        }
        if let Some(restarts) = by(policy) {
            return restarts;
        }
    }
    by(text(spec, "restartPolicy")).unwrap_or(true)
}

/// Whether a rule is about this exit code.
fn matches(rule: &Object, code: i64) -> bool {
    let Some(codes) = sub(rule, "exitCodes") else { return false };
    let listed = list(codes, "values").iter().any(|value| value.as_int().unwrap_or_default() == code);
    match text(codes, "operator") {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}
