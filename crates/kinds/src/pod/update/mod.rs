//! What of a pod may change once it exists, and by which door.

mod blocks;
mod main;
mod resize;
mod status;
#[cfg(test)]
mod tests;
mod transitions;
mod unified;

pub(crate) use unified::diff;

use schema::{Map, Object};

use super::validate::annotations::{APP_ARMOR, MIRROR};
use super::validate::read::{items, sub, text};
use super::validate::shown;
use super::validate::validate_pod;
use crate::edit::same;
use crate::field::{At, Errors};
use crate::meta::{self, NameRule};
use crate::rules::Part;

/// What is wrong with a change.
pub(super) fn validate(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    match part {
        Part::Main => {
            whole(new, errors);
            annotations(new, old, errors);
            main::check(new, old, errors);
        }
        Part::Status => {
            annotations(new, old, errors);
            status::check(new, old, errors);
        }
        Part::Other("ephemeralcontainers") => ephemeral_containers(new, old, errors),
        Part::Other("resize") => resize::check(new, old, errors),
        Part::Other(_) => {}
    }
}

/// A changed pod is judged as a new one, its metadata too.
fn whole(pod: &Object, errors: &mut Errors) {
    meta::validate(pod, NameRule::Subdomain, true, errors);
    meta::standard_finalizers(pod, errors);
    validate_pod(pod, errors);
}

/// Some annotations say what the pod is, and stay.
fn annotations(new: &Object, old: &Object, errors: &mut Errors) {
    let at = At::new("metadata.annotations");
    let empty = Map::new();
    let (new, old) = (new.annotations().unwrap_or(&empty), old.annotations().unwrap_or(&empty));
    for (key, value) in old.strings().filter(|(key, value)| new.get_str(key) != Some(value)) {
        let _ = value;
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&at.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&at.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for key in new.keys().filter(|key| !old.contains_key(key)) {
        if key.starts_with(APP_ARMOR) {
            errors.forbidden(&at.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            errors.forbidden(&at.key(key), "may not add mirror pod annotation");
        }
    }
}

fn is_mirror(pod: &Object) -> bool {
    pod.annotation(MIRROR).is_some()
}

/// Ephemeral containers are added, and neither changed nor removed.
fn ephemeral_containers(new: &Object, old: &Object, errors: &mut Errors) {
    if is_mirror(old) {
        errors.0.clear();
        errors.forbidden(&At::new("[]"), "static pods do not support ephemeral containers");
        return;
    }
    whole(new, errors);
    annotations(new, old, errors);
    let (Some(new), Some(old)) = (sub(new, "spec"), sub(old, "spec")) else { return };
    let at = At::new("spec.ephemeralContainers");
    for container in items(old, "ephemeralContainers") {
        let name = text(container, "name");
        match items(new, "ephemeralContainers").find(|other| text(other, "name") == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&at, why);
            }
            Some(changed) if !same(changed, container) => {
                let diff = unified::diff(&shown::lines(container), &shown::lines(changed));
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                errors.forbidden(&at, why);
            }
            Some(_) => {}
        }
    }
}
