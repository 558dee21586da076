//! The last look at an object before it is committed.

use std::sync::Arc;

use kinds::Part;
use kinds::field::Errors;
use kinds::meta::NameRule;
use schema::Object;

use super::admit::Admitted;
use crate::registry::Resource;
use crate::status::{ApiError, Result};

/// An object with which nothing is wrong.
pub struct Valid {
    object: Object,
    old: Option<Object>,
}

impl Valid {
    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    pub(super) fn into_parts(self) -> (Object, Option<Object>) {
        (self.object, self.old)
    }
}

/// Whether a kind may have finalizers without a domain: of groups that are not judged by the rules of the core
/// group, and custom ones.
fn any_finalizer(resource: &Resource) -> bool {
    resource.custom.is_some()
        || is_core_event(resource)
        || matches!(
            resource.group.as_str(),
            "admissionregistration.k8s.io"
                | "apiextensions.k8s.io"
                | "apiregistration.k8s.io"
                | "coordination.k8s.io"
                | "node.k8s.io"
                | "policy"
        )
}

/// Events of the core group are as old as the API, and their metadata is only looked at as every object's is.
fn is_core_event(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.kind == "Event"
}

/// The group that errors name: an Event is one of the core group by whichever path it comes.
pub(super) fn group_of_errors(resource: &Resource) -> &str {
    if resource.kind == "Event" { "" } else { &resource.group }
}

/// Validates a new object, or a change of an old one.
///
/// # Errors
/// 422 with everything that is wrong.
pub fn validate(resource: &Arc<Resource>, admitted: Admitted, part: Part) -> Result<Valid> {
    let (object, old) = admitted.into_parts();
    let mut errors = Errors::new();
    let meta = |rule: NameRule, errors: &mut Errors| {
        kinds::meta::validate(&object, rule, resource.namespaced, errors);
    };
    match &old {
        None => {
            meta(resource.rules.name, &mut errors);
            if !any_finalizer(resource) {
                kinds::meta::standard_finalizers(&object, &mut errors);
            }
            (resource.rules.validate_create)(&object, &mut errors);
        }
        // It changes the metadata as nobody else may; and what a pod is bound with is not looked at.
        Some(_) if matches!(part, Part::Other("deletion" | "binding")) => {}
        Some(old) => {
            // What every object must be, then what those of its kind must be: what is wrong is told by both.
            meta(NameRule::PathSegment, &mut errors);
            kinds::meta::validate_update(&object, old, &mut errors);
            let looks = resource.rules.looks;
            let (whole, change) = if part == Part::Main { looks.main } else { looks.part };
            let finalizers = |errors: &mut Errors| {
                if !any_finalizer(resource) {
                    kinds::meta::standard_finalizers(&object, errors);
                }
            };
            for _ in 0..whole {
                meta(resource.rules.name, &mut errors);
                finalizers(&mut errors);
            }
            for _ in 0..change {
                kinds::meta::validate_update(&object, old, &mut errors);
                finalizers(&mut errors);
            }
            (resource.rules.validate_update)(&object, old, part, &mut errors);
        }
    }
    // A change of the status cannot make the rest of the object wrong, which may be older than today's rules; nor
    // can a deletion.
    if old.is_none() || !matches!(part, Part::Status | Part::Other("deletion" | "binding")) {
        (resource.rules.validate)(&object, &mut errors);
        (resource.rules.validate_last)(&object, old.as_ref(), part, &mut errors);
    }
    if let Some(custom) = &resource.custom {
        custom.validate(&object, &mut errors);
    }
    if errors.is_empty() {
        return Ok(Valid { object, old });
    }
    let name = if object.name().is_empty() { object.generate_name() } else { object.name() };
    Err(ApiError::invalid(group_of_errors(resource), &resource.kind, name, &errors))
}
