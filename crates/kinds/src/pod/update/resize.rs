//! A change of the resources of running containers (KEP-1287, KEP-5419), and of what they have in memory (KEP-6030).

use schema::{Object, Value};

use super::is_mirror;
use crate::edit;
use crate::field::{At, Errors};
use crate::pod::resources::qos_class;
use crate::pod::strategy::{is_in_memory, is_sidecar, put};
use crate::pod::validate::read::{entries, has, items, list, sub, text};
use crate::pod::validate::validate_pod;

/// Checks a resize.
pub(super) fn check(new: &Object, old: &Object, errors: &mut Errors) {
    if is_mirror(old) {
        errors.forbidden(&At::new("[]"), "static pods cannot be resized");
        return;
    }
    if old.str_at(&["spec", "os", "name"]) == Some("windows") {
        errors.forbidden(&At::new("[]"), "windows pods cannot be resized");
        return;
    }
    validate_pod(new, errors);
    let at = At::new("spec");
    let had = match old.str_at(&["status", "qosClass"]) {
        Some(class) if !class.is_empty() => class,
        _ => qos_class(old),
    };
    if had != qos_class(new) {
        let class = new.str_at(&["status", "qosClass"]).unwrap_or_default();
        errors.invalid(&at, class, "Pod QOS Class may not change as a result of resizing");
    }
    if !node_can(old) {
        errors.forbidden(&at, "Pod running on node without support for resize");
    }
    let (Some(new), Some(old_spec)) = (sub(new, "spec"), sub(old, "spec")) else { return };
    let mut rest = new.clone();
    pod_level(new, old_spec, &mut rest, &at, errors);
    if !same_order(new, old_spec, &at, errors) {
        return;
    }
    for field in ["initContainers", "containers"] {
        let at = at.child(field);
        for (index, (new, old)) in items(new, field).zip(items(old_spec, field)).enumerate() {
            let at = at.index(index);
            removed(new, old, &at.child("resources"), "resource", errors);
        }
    }
    only_compute(&mut rest, old_spec, &at, errors);
    keep_sizes(&mut rest, old_spec);
    if errors.is_empty() && !edit::same(&rest, old_spec) {
        errors.forbidden(&at, "only cpu and memory resources are mutable");
    }
}

/// A kubelet that can resize tells the resources of running containers.
fn node_can(pod: &Object) -> bool {
    let Some(status) = sub(pod, "status") else { return true };
    let running = |status: &&Object| status.at(&["state", "running"]).is_some();
    items(status, "containerStatuses").find(running).is_none_or(|status| has(status, "resources"))
}

fn removed(new: &Object, old: &Object, at: &At<'_>, what: &str, errors: &mut Errors) {
    for (field, name) in [("requests", "requests"), ("limits", "limits")] {
        let Some(old) = sub(old, "resources") else { continue };
        let kept = |key: &str| new.at(&["resources", field, key]).is_some();
        if !entries(old, field).all(|(key, _)| kept(key)) {
            errors.forbidden(&at.child(field), format!("{what} {name} cannot be removed"));
        }
    }
}

fn pod_level(new: &Object, old: &Object, rest: &mut Object, at: &At<'_>, errors: &mut Errors) {
    let is_set = |spec: &Object| {
        sub(spec, "resources").is_some_and(|own| {
            ["requests", "limits"].iter().any(|field| entries(own, field).next().is_some())
        })
    };
    if !is_set(new) && !is_set(old) {
        return;
    }
    if has(old, "resources") && !has(new, "resources") {
        errors.forbidden(&at.child("resources"), "pod-level resources cannot be removed");
        return;
    }
    removed(new, old, &at.child("resources"), "pod-level resource", errors);
    let claims = sub(rest, "resources").and_then(|own| own.get("claims").cloned());
    keep_compute(rest, old);
    if claims.is_some() {
        edit::made(rest, "resources", |own| put(own, "claims", claims));
    }
    let empty = sub(rest, "resources").is_some_and(|own| {
        list(own, "claims").is_empty()
            && ["requests", "limits"].iter().all(|field| entries(own, field).next().is_none())
    });
    if !has(old, "resources") && empty {
        rest.remove("resources");
    }
    if !same_resources(rest, old) {
        errors.forbidden(at, "only cpu and memory resources are mutable at pod-level");
    }
}

fn same_order(new: &Object, old: &Object, at: &At<'_>, errors: &mut Errors) -> bool {
    let before = errors.0.len();
    for field in ["containers", "initContainers"] {
        let at = at.child(field);
        if list(new, field).len() != list(old, field).len() {
            errors.forbidden(&at, format!("{field} may not be added or removed on resize"));
            continue;
        }
        for (index, (new, old)) in items(new, field).zip(items(old, field)).enumerate() {
            if text(new, "name") != text(old, "name") {
                let why = format!("{field} may not be renamed or reordered on resize");
                errors.forbidden(&at.index(index).child("name"), why);
            }
        }
    }
    errors.0.len() == before
}

/// Gives an object the processor and memory that another asks for, and an empty map no longer counts.
fn keep_compute(new: &mut Object, old: &Object) {
    let had = sub(old, "resources").cloned();
    if !has(new, "resources") && had.is_none() {
        return;
    }
    edit::made(new, "resources", |resources| {
        for field in ["requests", "limits"] {
            let amounts = had.as_ref().and_then(|had| had.map_at(&[field]));
            if let Some(map) = resources.map_mut(field) {
                for name in ["cpu", "memory"] {
                    map.remove(name);
                    if let Some(amount) = amounts.and_then(|amounts| amounts.get(name)) {
                        map.insert(name, amount.clone());
                    }
                }
            }
            if amounts.is_none_or(schema::Map::is_empty) && entries(resources, field).next().is_none() {
                put(resources, field, amounts.cloned().map(Value::Map));
            }
        }
        // Claims are not kept by upstream's comparison either: it makes the resources anew.
        put(resources, "claims", had.as_ref().and_then(|had| had.get("claims").cloned()));
    });
    if had.is_none() && sub(new, "resources").is_some_and(Object::is_zero) {
        new.remove("resources");
    }
}

/// Gives volumes in memory the sizes that they had. One that had none gets none, and keeps one that it had.
fn keep_sizes(new: &mut Object, old: &Object) {
    let mut had = items(old, "volumes");
    edit::each(new, "volumes", |volume| {
        let Some(old) = had.next() else { return };
        if !is_in_memory(old) || !is_in_memory(volume) {
            return;
        }
        if let Some(size) = old.at(&["emptyDir", "sizeLimit"]).cloned() {
            edit::within(volume, "emptyDir", |empty| {
                if has(empty, "sizeLimit") {
                    put(empty, "sizeLimit", Some(size));
                }
            });
        }
    });
}

fn same_resources(new: &Object, old: &Object) -> bool {
    match (sub(new, "resources"), sub(old, "resources")) {
        (Some(new), Some(old)) => edit::same(new, old),
        (new, old) => new.is_some() == old.is_some(),
    }
}

/// Beside the processor and memory of its resources, each container is what it was.
fn only_compute(rest: &mut Object, old: &Object, at: &At<'_>, errors: &mut Errors) {
    for field in ["containers", "initContainers"] {
        let at = at.child(field);
        let mut had = items(old, field);
        let mut index = 0;
        edit::each(rest, field, |container| {
            let here = at.index(index);
            index += 1;
            let Some(old) = had.next() else { return };
            let modified = !edit::same(container, old);
            keep_compute(container, old);
            if !edit::same(container, old) {
                if field == "containers" {
                    errors.forbidden(&At::new("spec"), "only cpu and memory resources are mutable");
                } else {
                    let why = "only cpu and memory resources for init or sidecar containers are mutable";
                    errors.forbidden(&here, why);
                }
            }
            if field == "initContainers" && modified && !is_sidecar(container) {
                let restarts = items(container, "resizePolicy")
                    .filter(|policy| text(policy, "restartPolicy") == "RestartContainer");
                for _ in restarts {
                    let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                    errors.forbidden(&here, why);
                }
            }
        });
    }
}
