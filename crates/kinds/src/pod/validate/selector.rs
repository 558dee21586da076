//! Label selectors.

use schema::Object;

use super::read::{entries, items, text, texts};
use crate::content;
use crate::field::{At, Errors};

/// Checks a map of labels.
pub(crate) fn labels(object: &Object, field: &str, at: &At<'_>, errors: &mut Errors) {
    for (key, value) in entries(object, field) {
        errors.each(at, key, content::qualified_name(key));
        errors.each(at, value, content::label_value(value));
    }
}

/// Checks a selector that may be absent.
pub(crate) fn check(selector: Option<&Object>, at: &At<'_>, errors: &mut Errors) {
    let Some(selector) = selector else { return };
    labels(selector, "matchLabels", &at.child("matchLabels"), errors);
    let at = at.child("matchExpressions");
    for (index, requirement) in items(selector, "matchExpressions").enumerate() {
        let at = at.index(index);
        let values = texts(requirement, "values").count();
        match text(requirement, "operator") {
            "In" | "NotIn" if values == 0 => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.required(&at.child("values"), why);
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.forbidden(&at.child("values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        let key = text(requirement, "key");
        errors.each(&at.child("key"), key, content::qualified_name(key));
        label_values(requirement, &at, errors);
    }
}

/// Checks `values`.
pub(super) fn label_values(requirement: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("values");
    for (index, value) in texts(requirement, "values").enumerate() {
        errors.each(&at.index(index), value, content::label_value(value));
    }
}
