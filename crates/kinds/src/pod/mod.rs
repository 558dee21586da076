//! Pods, and the pod templates of everything that makes pods.

mod columns;
mod defaults;
mod features;
pub mod limits;
mod references;
mod resize;
mod resources;
pub mod standards;
mod strategy;
pub(crate) mod template;
pub(crate) mod unserved;
mod update;
pub(crate) mod validate;
mod warnings;

pub use columns::completed;
pub(crate) use defaults::template_defaults;
pub(crate) use defaults::{round, source_defaults};
pub use features::needed_by_update;
pub use references::{api_reference, forbidden_to_mirrors};
pub use resize::{Refusal, refuse_resize};
pub use resources::qos_class;
pub(crate) use update::diff;
pub(crate) use validate::validate_template;
pub use warnings::of_template as template_warnings;
pub(crate) use warnings::{of_claim as claim_warnings, of_node_selector as node_selector_warnings};

use schema::Object;

use crate::edit;
use crate::field::Path;
use crate::rules::{GENERIC, Part, Rules};

/// The rules of `Pod`.
pub(crate) const RULES: Rules = Rules {
    defaults: defaults::pod,
    gated: strategy::gated,
    prepare_create: strategy::prepare_create,
    prepare_update: strategy::prepare_update,
    validate_create: validate::validate_new_pod,
    validate_update: update::validate,
    warnings: warnings::of_pod,
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
        // Upstream knows of it, and finds nothing by it.
        ("status.podIPs", |_| String::new()),
        // What clients of the first days say.
        ("spec.host", |pod| edit::get(pod, &["spec", "nodeName"]).to_owned()),
        ("status.nominatedNodeName", |pod| edit::get(pod, &["status", "nominatedNodeName"]).to_owned()),
    ],
    ..GENERIC
};

type Warn = fn(&Object, Option<&Object>, Part) -> Vec<String>;

/// What tells the author of a kind that makes pods what its template could do better.
pub(crate) fn warnings_of_owner(group: &str, kind: &str) -> Option<Warn> {
    Some(match (group, kind) {
        ("apps", "StatefulSet") => |new, old, part| {
            let mut told = of_owner(new, old, part, &["spec", "template"]);
            let limit = new.int_at(&["spec", "revisionHistoryLimit"]);
            if part == Part::Main && limit.is_some_and(|limit| limit < 0) {
                let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
                told.push(format!("spec.revisionHistoryLimit: {why}"));
            }
            told
        },
        ("apps", "Deployment" | "ReplicaSet" | "DaemonSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => |new, old, part| of_owner(new, old, part, &["spec", "template"]),
        ("batch", "CronJob") => {
            |new, old, part| of_owner(new, old, part, &["spec", "jobTemplate", "spec", "template"])
        }
        ("", "PodTemplate") => |new, old, part| of_owner(new, old, part, &["template"]),
        _ => return None,
    })
}

fn of_owner(new: &Object, old: Option<&Object>, part: Part, path: &[&str]) -> Vec<String> {
    // Nobody is told again what they did not touch.
    let unchanged = old.is_some_and(|old| old.generation() == new.generation() && new.generation() > 0);
    match new.struct_at(path) {
        Some(template) if part == Part::Main && !unchanged => {
            template_warnings(template, &Path::new(&path.join(".")))
        }
        _ => Vec::new(),
    }
}
