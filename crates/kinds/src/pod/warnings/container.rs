//! Amounts and variables of a container.

use std::collections::BTreeSet;

use schema::Object;

use super::{Warnings, fraction};
use crate::field::At;
use crate::pod::validate::read::{has, items, sub, text};

/// Looks at one container.
pub(super) fn check(container: &Object, at: &At<'_>, warnings: &mut Warnings) {
    if let Some(resources) = sub(container, "resources") {
        for name in ["memory", "ephemeral-storage"] {
            for field in ["limits", "requests"] {
                let at = at.child("resources");
                fraction(resources, field, name, &at.child(field), warnings);
            }
        }
    }
    let at = at.child("env");
    let mut seen = BTreeSet::new();
    for (index, variable) in items(container, "env").enumerate() {
        let (name, value) = (text(variable, "name"), text(variable, "value"));
        if seen.insert(name) {
            continue;
        }
        // A value that builds on the earlier one is meant so.
        let earlier = format!("$({name})");
        if has(variable, "valueFrom") || value == earlier || !value.contains(&earlier) {
            let why = format!("hides previous definition of {name:?}, which may be dropped when using apply");
            warnings.push(&at.index(index), why);
        }
    }
}
