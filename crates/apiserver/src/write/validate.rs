//! The last look at an object before it is committed.

use std::sync::Arc;

use kinds::Part;
use kinds::field::Errors;
use schema::Object;

use super::admit::Admitted;
use crate::registry::Resource;
use crate::status::{ApiError, Result};

/// An object that may be committed.
pub struct Valid {
    object: Object,
}

impl Valid {
    pub(super) fn object(&self) -> &Object {
        &self.object
    }

    pub(super) fn into_object(self) -> Object {
        self.object
    }
}

/// Validates a new object, or a change of an old one.
///
/// # Errors
/// 422 with everything that is wrong.
pub fn validate(resource: &Arc<Resource>, admitted: Admitted, part: Part) -> Result<Valid> {
    let (object, old) = admitted.into_parts();
    let mut errors = Errors::new();
    kinds::meta::validate(&object, resource.rules.name, resource.namespaced, &mut errors);
    match &old {
        None => (resource.rules.validate_create)(&object, &mut errors),
        Some(old) => {
            kinds::meta::validate_update(&object, old, &mut errors);
            (resource.rules.validate_update)(&object, old, part, &mut errors);
        }
    }
    // A change of the status cannot make the rest of the object wrong, which may be older than today's rules; nor
    // can a deletion.
    if old.is_none() || !matches!(part, Part::Status | Part::Other("deletion")) {
        (resource.rules.validate)(&object, &mut errors);
    }
    if let Some(custom) = &resource.custom {
        custom.validate(&object, &mut errors);
    }
    if errors.is_empty() {
        return Ok(Valid { object });
    }
    let name = if object.name().is_empty() { object.generate_name() } else { object.name() };
    Err(ApiError::invalid(&resource.group, &resource.kind, name, &errors))
}
