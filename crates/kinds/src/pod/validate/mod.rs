//! What a pod must be (`pkg/apis/core/validation`): the same fields, kinds of error and words as upstream, in its
//! order. Maps are walked by key, where upstream's order is any.
//!
//! Nothing here knows whether the pod is new or changed: [`super::update`] does.

mod affinity;
pub(crate) mod annotations;
pub(crate) mod claim_template;
mod container;
mod dns;
mod env;
mod internal;
mod legacy_volumes;
mod mounts;
mod paths;
mod ports;
mod probe;
mod projected;
pub(crate) mod read;
pub(crate) mod resources;
mod restart;
pub(crate) mod scheduling;
pub(crate) mod security;
pub(crate) mod selector;
pub(crate) mod shown;
mod signer;
mod spec;
#[cfg(test)]
mod tests;
mod topology;
mod volume;
mod windows;

use schema::{Map, Object};

pub(crate) use self::affinity::node_selector;
use self::read::{items, sub};
use crate::field::{At, Errors, Path};
use crate::meta;

/// Whose specification is looked at.
pub(crate) struct Subject<'o> {
    /// The pod's name; empty for a template.
    pub name: &'o str,
    /// The pod's annotations.
    pub annotations: Option<&'o Map>,
    /// Whether it is a pod rather than a template.
    pub is_pod: bool,
}

impl Subject<'_> {
    /// Whether the pod stands for one that a kubelet took from a file.
    pub(crate) fn is_mirror(&self) -> bool {
        self.annotations.is_some_and(|annotations| annotations.contains_key(annotations::MIRROR))
    }
}

/// What is wrong with a pod, new or changed, its metadata apart.
pub(crate) fn validate_pod(pod: &Object, errors: &mut Errors) {
    let empty = || pod.item_type("spec").map(Object::new);
    let made;
    let spec = match sub(pod, "spec") {
        Some(spec) => spec,
        None => match empty() {
            Some(spec) => {
                made = spec;
                &made
            }
            None => return,
        },
    };
    let annotations = pod.annotations();
    annotations::check(annotations, Some(spec), &At::new("metadata.annotations"), errors);
    let subject = Subject { name: pod.name(), annotations, is_pod: true };
    let at = At::new("spec");
    spec::check(spec, &subject, &at, errors);
    spec::only_for_pods(spec, &at, errors);
}

/// What is wrong with a new pod beyond [`validate_pod`].
pub(crate) fn validate_new_pod(pod: &Object, errors: &mut Errors) {
    validate_pod(pod, errors);
    let Some(spec) = sub(pod, "spec") else { return };
    let at = At::new("spec");
    if items(spec, "ephemeralContainers").next().is_some() {
        errors.forbidden(&at.child("ephemeralContainers"), "cannot be set on create");
    }
    if spec::gated_but_bound(spec) {
        let why = "cannot be set until all schedulingGates have been cleared";
        errors.forbidden(&at.child("nodeName"), why);
    }
    annotations::match_fields(pod.annotations(), spec, &at, errors);
}

/// What is wrong with a pod template.
pub(crate) fn validate_template(template: &Object, path: &Path, errors: &mut Errors) {
    let at = At::from_path(path);
    let labels_at = path.child("labels");
    meta::labels(template.labels(), &labels_at, errors);
    let annotations = template.annotations();
    for (key, _) in annotations.into_iter().flat_map(Map::strings) {
        let problems = crate::content::qualified_name(&key.to_lowercase());
        errors.each(&at.child("annotations"), key, problems);
    }
    let made;
    let spec = match (sub(template, "spec"), template.item_type("spec")) {
        (Some(spec), _) => spec,
        (None, Some(ty)) => {
            made = Object::new(ty);
            &made
        }
        (None, None) => return,
    };
    annotations::check(annotations, Some(spec), &at.child("annotations"), errors);
    let subject = Subject { name: "", annotations: None, is_pod: false };
    let spec_at = at.child("spec");
    spec::check(spec, &subject, &spec_at, errors);
    annotations::match_fields(annotations, spec, &spec_at, errors);
    if items(spec, "ephemeralContainers").next().is_some() {
        let why = "ephemeral containers not allowed in pod template";
        errors.forbidden(&spec_at.child("ephemeralContainers"), why);
    }
}
