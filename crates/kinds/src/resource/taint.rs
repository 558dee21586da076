//! Rules that taint devices (KEP-5055).

use jiff::Timestamp;
use schema::{Object, Value};

use super::parts::{driver, label, pool, taint};
use super::status::conditions;
use crate::edit::{self, within};
use crate::field::{At, Errors};
use crate::pod::validate::read::{maybe, sub, text};
use crate::rules::{GENERIC, Part, Rules};

const MOST_CONDITIONS: usize = 8;

/// The rules of `DeviceTaintRule`.
pub(crate) const RULE: Rules = Rules {
    dated: |rule, old, now| {
        let had = old.and_then(|old| old.struct_at(&["spec", "taint"]));
        within(rule, "spec", |spec| within(spec, "taint", |taint| date_rule(taint, had, now)));
    },
    validate_create: |rule, errors| spec(rule, None, errors),
    validate_update: |new, old, part, errors| match part {
        Part::Status => {
            let at = At::new("status");
            let at = at.child("conditions");
            if let Some(status) = sub(new, "status") {
                conditions(status, MOST_CONDITIONS, &at, errors);
            }
        }
        Part::Main | Part::Other(_) => spec(new, Some(old), errors),
    },
    ..GENERIC
};

fn spec(rule: &Object, old: Option<&Object>, errors: &mut Errors) {
    let at = At::new("spec");
    if let Some(selector) = rule.struct_at(&["spec", "deviceSelector"]) {
        let at = at.child("deviceSelector");
        if let Some(name) = maybe(selector, "driver") {
            driver(name, &at.child("driver"), errors);
        }
        if let Some(name) = maybe(selector, "pool") {
            pool(name, &at.child("pool"), errors);
        }
        if let Some(name) = maybe(selector, "device") {
            label(name, &at.child("device"), errors);
        }
    }
    let had = old.and_then(|old| old.str_at(&["spec", "taint", "effect"]));
    match rule.struct_at(&["spec", "taint"]) {
        Some(new) => taint(new, had, &at.child("taint"), errors),
        None => {
            if let Some(ty) = sub(rule, "spec").and_then(|spec| spec.item_type("taint")) {
                taint(&Object::new(ty), had, &at.child("taint"), errors);
            }
        }
    }
}

/// A taint says since when it is there: since it was added, or since its rule was given another effect.
fn date_rule(taint: &mut Object, had: Option<&Object>, now: Timestamp) {
    let changed = had.is_some_and(|had| {
        text(had, "effect") != text(taint, "effect") && had.get("timeAdded") == taint.get("timeAdded")
    });
    if changed {
        taint.remove("timeAdded");
    }
    date(taint, now);
}

/// A taint that does not say since when it is there is there since now.
pub(super) fn date(taint: &mut Object, now: Timestamp) {
    if taint.get("timeAdded").is_none() {
        taint.set("timeAdded", Value::Time(now));
    }
}

/// Whether two taints are the same but for their time.
pub(super) fn is_same(a: &Object, b: &Object) -> bool {
    ["key", "value", "effect"].iter().all(|field| edit::get(a, &[field]) == edit::get(b, &[field]))
}
