//! Field ownership.

use crate::Object;

/// Updates `metadata.managedFields` after a write.
pub fn update_managed_fields(
    _old: Option<&Object>,
    _new: &mut Object,
    _manager: &str,
    _operation: &str,
    _api_version: &str,
    _subresource: &str,
    _time: jiff::Timestamp,
) {
}
