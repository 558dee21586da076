//! Annotations that mean something for a pod.

use schema::{Map, Object};

use super::read::{containers, maybe, sub, text};
use super::{paths, scheduling};
use crate::content;
use crate::field::{At, Errors};

pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
pub(crate) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
pub(crate) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(crate) const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";

/// Checks the annotations of a pod or a template.
pub(super) fn check(annotations: Option<&Map>, spec: Option<&Object>, at: &At<'_>, errors: &mut Errors) {
    let Some(annotations) = annotations else { return };
    let node = spec.map(|spec| text(spec, "nodeName")).unwrap_or_default();
    if let Some(value) = annotations.get_str(MIRROR).filter(|_| node.is_empty()) {
        errors.invalid(&at.key(MIRROR), value, "must set spec.nodeName if mirror pod annotation is set");
    }
    if let Some(cost) = annotations.get_str(DELETION_COST) {
        // Written as `strconv` would: no plus, no zeros in front.
        let fits = cost.parse::<i32>().is_ok() && content::decimal(cost).is_empty();
        if !fits {
            errors.invalid(&at.key(DELETION_COST), cost, "must be a 32bit integer");
        }
    }
    tolerations(annotations, spec, at, errors);
    for (key, profile) in annotations.strings() {
        if key == SECCOMP_POD || key.starts_with(SECCOMP) {
            seccomp(profile, &at.child(key), errors);
        } else if let Some(container) = key.strip_prefix(APP_ARMOR) {
            let known = spec.is_some_and(|spec| containers(spec).any(|(.., c)| text(c, "name") == container));
            if !known {
                errors.invalid(&at.key(key), container, "container not found");
            }
            let fits =
                matches!(profile, "" | "runtime/default" | "unconfined") || profile.starts_with("localhost/");
            if !fits {
                errors.invalid(&at.key(key), profile, format!("invalid AppArmor profile name: {profile:?}"));
            }
        }
    }
}

/// Tolerations as they were written before they had a field: JSON in an annotation.
fn tolerations(annotations: &Map, spec: Option<&Object>, at: &At<'_>, errors: &mut Errors) {
    let Some(json) = annotations.get_str(TOLERATIONS).filter(|json| !json.is_empty()) else { return };
    let Some(spec) = spec else { return };
    let wrapped = format!("{{\"tolerations\":{json}}}");
    match schema::json::decode(spec.ty(), wrapped.as_bytes()) {
        Ok(decoded) => scheduling::tolerations(&decoded.object, &at.child(TOLERATIONS), errors),
        Err(error) => errors.invalid(at, TOLERATIONS, error.to_string()),
    }
}

fn seccomp(profile: &str, at: &At<'_>, errors: &mut Errors) {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => {}
        other => match other.strip_prefix("localhost/") {
            Some(path) => paths::descending(path, at, errors),
            None => errors.invalid(at, other, "must be a valid seccomp profile"),
        },
    }
}

/// Fields and the annotations that they replace say the same.
pub(super) fn match_fields(annotations: Option<&Map>, spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(annotations) = annotations else { return };
    let profile = |object: &'_ Object, field: &str| -> Option<(String, Option<String>)> {
        let profile = sub(sub(object, "securityContext")?, field)?;
        Some((text(profile, "type").to_owned(), maybe(profile, "localhostProfile").map(str::to_owned)))
    };
    if let (Some(own), Some(annotation)) = (profile(spec, "seccompProfile"), annotations.get_str(SECCOMP_POD))
    {
        agree("seccomp", &own, annotation, &at.child("securityContext.seccompProfile"), errors);
    }
    for (list, index, container) in containers(spec) {
        let key = format!("{SECCOMP}{}", text(container, "name"));
        if let (Some(own), Some(annotation)) =
            (profile(container, "seccompProfile"), annotations.get_str(&key))
        {
            let at = at.child(list);
            let at = at.index(index);
            agree("seccomp", &own, annotation, &at.child("securityContext.seccompProfile"), errors);
        }
    }
    if spec.str_at(&["os", "name"]) == Some("windows") {
        return;
    }
    let of_pod = profile(spec, "appArmorProfile");
    for (list, index, container) in containers(spec) {
        let key = format!("{APP_ARMOR}{}", text(container, "name"));
        let own = profile(container, "appArmorProfile").or_else(|| of_pod.clone());
        if let (Some(own), Some(annotation)) = (own, annotations.get_str(&key)) {
            let at = at.child(list);
            let at = at.index(index);
            agree("apparmor", &own, annotation, &at.child("securityContext.appArmorProfile"), errors);
        }
    }
}

fn agree(
    what: &str,
    (kind, path): &(String, Option<String>),
    annotation: &str,
    at: &At<'_>,
    errors: &mut Errors,
) {
    let same_kind = match kind.as_str() {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => {
            annotation == "runtime/default" || (what == "seccomp" && annotation == "docker/default")
        }
        "Localhost" => annotation.starts_with("localhost/"),
        _ => true,
    };
    if !same_kind {
        errors.forbidden(&at.child("type"), format!("{what} type in annotation and field must match"));
    } else if kind == "Localhost" && annotation.strip_prefix("localhost/") != path.as_deref() {
        let why = format!("{what} profile in annotation and field must match");
        errors.forbidden(&at.child("localhostProfile"), why);
    }
}
