//! Pods, and the pod templates of everything that makes pods.

mod columns;
mod defaults;
mod validate;

use schema::{Object, Value};

pub(crate) use defaults::{pod_defaults, template_defaults};
pub(crate) use validate::{validate_spec, validate_template};

use crate::edit;
use crate::field::{Errors, Path};
use crate::rules::{Part, Rules, generic_prepare_update};

/// The rules of `Pod`.
pub(crate) const RULES: Rules = Rules {
    defaults: |pod| edit::made(pod, "spec", pod_defaults),
    prepare_create,
    created_by: |_, _| {},
    prepare_update,
    validate: |pod, errors| {
        if let Some(spec) = pod.struct_at(&["spec"]) {
            validate_spec(spec, &Path::new("spec"), errors);
        }
    },
    validate_update,
    columns: columns::COLUMNS,
    cells: columns::cells,
    selectable: &[
        ("spec.nodeName", |pod| edit::get(pod, &["spec", "nodeName"]).to_owned()),
        ("spec.restartPolicy", |pod| edit::get(pod, &["spec", "restartPolicy"]).to_owned()),
        ("spec.schedulerName", |pod| edit::get(pod, &["spec", "schedulerName"]).to_owned()),
        ("spec.serviceAccountName", |pod| edit::get(pod, &["spec", "serviceAccountName"]).to_owned()),
        ("spec.hostNetwork", |pod| pod.bool_at(&["spec", "hostNetwork"]).unwrap_or_default().to_string()),
        ("status.phase", |pod| edit::get(pod, &["status", "phase"]).to_owned()),
        ("status.podIP", |pod| edit::get(pod, &["status", "podIP"]).to_owned()),
        ("status.nominatedNodeName", |pod| edit::get(pod, &["status", "nominatedNodeName"]).to_owned()),
    ],
    name: crate::meta::NameRule::Subdomain,
};

fn prepare_create(pod: &mut Object) {
    let class = qos_class(pod);
    pod.remove("status");
    pod.set_generation(1);
    edit::made(pod, "status", |status| {
        status.set("phase", "Pending");
        status.set("qosClass", class);
    });
}

fn prepare_update(new: &mut Object, old: &Object, part: Part) {
    generic_prepare_update(new, old, part);
    if part == Part::Other("binding") {
        // Binding is not a change of what the pod is.
        new.set_generation(old.generation());
    }
}

/// The quality of service that requests and limits amount to (`component-helpers/resource`).
pub fn qos_class(pod: &Object) -> &'static str {
    let containers =
        || edit::structs(pod, &["spec", "containers"]).chain(edit::structs(pod, &["spec", "initContainers"]));
    let amount = |container: &Object, which: &str, resource: &str| -> String {
        edit::get(container, &["resources", which, resource]).to_owned()
    };
    let is_set = |text: &str| !text.is_empty() && text != "0";
    let mut any = false;
    let mut guaranteed = true;
    for container in containers() {
        for resource in ["cpu", "memory"] {
            let (request, limit) =
                (amount(container, "requests", resource), amount(container, "limits", resource));
            any |= is_set(&request) || is_set(&limit);
            guaranteed &= is_set(&limit) && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What of a pod's specification may change once it exists.
fn validate_update(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    if part != Part::Main {
        return;
    }
    let path = Path::new("spec");
    let (Some(new_spec), Some(old_spec)) = (new.struct_at(&["spec"]), old.struct_at(&["spec"])) else {
        return;
    };
    let mut munged = new_spec.clone();
    for field in ["activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates"]
    {
        match old_spec.get(field) {
            Some(value) => {
                munged.set(field, value.clone());
            }
            None => {
                munged.remove(field);
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let images: Vec<Value> = edit::structs(old_spec, &[list])
            .map(|container| container.get("image").cloned().unwrap_or(Value::Null))
            .collect();
        let mut images = images.into_iter();
        edit::each(&mut munged, list, |container| match images.next() {
            Some(Value::Null) | None => {
                container.remove("image");
            }
            Some(image) => {
                container.set("image", image);
            }
        });
    }
    if munged != *old_spec {
        errors.forbidden(&path, "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)");
    }
}
