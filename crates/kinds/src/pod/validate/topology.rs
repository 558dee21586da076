//! Topology spread constraints.

use schema::Object;

use super::affinity::label_keys;
use super::read::{int, items, maybe, sub, text};
use super::selector;
use crate::field::{At, Errors};

/// Checks `topologySpreadConstraints`.
pub(super) fn check(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    for (index, constraint) in items(spec, "topologySpreadConstraints").enumerate() {
        let at = at.index(index);
        let skew = int(constraint, "maxSkew").unwrap_or_default();
        if skew <= 0 {
            errors.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        let (key, action) = (text(constraint, "topologyKey"), text(constraint, "whenUnsatisfiable"));
        if key.is_empty() {
            errors.required(&at.child("topologyKey"), "can not be empty");
        }
        const ACTIONS: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
        if !ACTIONS.contains(&action) {
            errors.not_supported(&at.child("whenUnsatisfiable"), action, &ACTIONS);
        }
        let again = items(spec, "topologySpreadConstraints")
            .skip(index + 1)
            .any(|other| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action);
        if again {
            let shown = format!("{{{key}, {action}}}");
            errors.duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), &shown);
        }
        if let Some(domains) = int(constraint, "minDomains") {
            let place = at.child("minDomains");
            if domains <= 0 {
                errors.invalid(&place, domains, "must be greater than zero");
            }
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&place, domains, why);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = maybe(constraint, field).filter(|p| !matches!(*p, "Honor" | "Ignore")) {
                errors.not_supported(&at.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(constraint, &at, errors);
        selector::check(sub(constraint, "labelSelector"), &at.child("labelSelector"), errors);
    }
}
