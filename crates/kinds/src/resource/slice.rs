//! What drivers publish of their devices.

use jiff::Timestamp;
use schema::Object;

use super::device;
use super::parts::{driver, flag, label, nodes, pool, set};
use super::taint::{date, is_same};
use crate::edit::{self, each, within};
use crate::field::{At, Errors, Json};
use crate::pod::validate::read::{has, int, is_true, items, list, sub, text};
use crate::pod::validate::shown::internal;
use crate::rules::{GENERIC, Part, Rules};

const MOST_DEVICES: usize = 128;
/// With taints, counters or attributes that are lists.
const MOST_ADVANCED_DEVICES: usize = 64;
const MOST_COUNTER_SETS: usize = 8;
const MOST_COUNTERS: usize = 32;

/// The rules of `ResourceSlice`.
pub(crate) const SLICE: Rules = Rules {
    defaults: |slice| {
        within(slice, "spec", |spec| each(spec, "devices", device::defaults));
    },
    dated: |slice, old, now| date_taints(slice, old, now),
    validate_create: |slice, errors| validate(slice, None, errors),
    validate_update: |new, old, part, errors| {
        if part == Part::Main {
            validate(new, Some(old), errors);
        }
    },
    warnings: |slice, _, part| {
        let driver = edit::get(slice, &["spec", "driver"]);
        let told = part == Part::Main && driver.chars().any(char::is_uppercase);
        let why = || {
            format!("spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters")
        };
        told.then(why).into_iter().collect()
    },
    selectable: &[
        ("spec.nodeName", |slice| edit::get(slice, &["spec", "nodeName"]).to_owned()),
        ("spec.driver", |slice| edit::get(slice, &["spec", "driver"]).to_owned()),
    ],
    ..GENERIC
};

/// A taint that a driver publishes again keeps its time.
fn date_taints(slice: &mut Object, old: Option<&Object>, now: Timestamp) {
    let old = old.and_then(|old| old.struct_at(&["spec"]));
    within(slice, "spec", |spec| {
        each(spec, "devices", |device| {
            let had = old.and_then(|old| device::find(old, text(device, "name")));
            each(device, "taints", |taint| {
                if has(taint, "timeAdded") {
                    return;
                }
                let known = had.and_then(|had| items(had, "taints").find(|known| is_same(known, taint)));
                match known.and_then(|known| known.get("timeAdded")) {
                    Some(time) => drop(taint.set("timeAdded", time.clone())),
                    None => date(taint, now),
                }
            });
        });
    });
}

fn validate(slice: &Object, old: Option<&Object>, errors: &mut Errors) {
    let nothing = slice.item_type("spec").map(Object::new);
    let Some(spec) = sub(slice, "spec").or(nothing.as_ref()) else { return };
    let old = old.and_then(|old| sub(old, "spec"));
    let at = At::new("spec");
    driver(text(spec, "driver"), &at.child("driver"), errors);
    let pool_at = at.child("pool");
    self::pool_of(spec, &pool_at, errors);
    if let Some(old) = old {
        let name = |spec: &Object| edit::get(spec, &["pool", "name"]).to_owned();
        immutable(&name(spec), &name(old), &pool_at.child("name"), errors);
        immutable(text(spec, "driver"), text(old, "driver"), &at.child("driver"), errors);
        if spec.get("nodeName") != old.get("nodeName") {
            let shown = spec.str_at(&["nodeName"]).map_or("null".to_owned(), |name| format!("{name:?}"));
            errors.invalid(&at.child("nodeName"), Json(shown), "field is immutable");
        }
    }
    node_selection(spec, &at, errors);
    if has(spec, "sharedCounters") && has(spec, "devices") {
        errors.invalid(&at, "", "only one of `sharedCounters` or `devices` is allowed");
    }
    let is_advanced = items(spec, "devices").any(device::is_advanced);
    let most = if is_advanced { MOST_ADVANCED_DEVICES } else { MOST_DEVICES };
    let per_device = is_true(spec, "perDeviceNodeSelection");
    set(spec, ("devices", "name"), most, &at.child("devices"), errors, |device, at, errors| {
        let old = old.and_then(|old| device::find(old, text(device, "name")));
        device::validate(device, old, per_device, at, errors);
    });
    let counters_at = at.child("sharedCounters");
    set(spec, ("sharedCounters", "name"), MOST_COUNTER_SETS, &counters_at, errors, |set, at, errors| {
        match text(set, "name") {
            "" => errors.required(&at.child("name"), ""),
            name => label(name, &at.child("name"), errors),
        }
        counters(set, at, errors);
    });
}

fn immutable(new: &str, old: &str, at: &At<'_>, errors: &mut Errors) {
    if new != old {
        errors.invalid(at, new, "field is immutable");
    }
}

fn pool_of(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let of = sub(spec, "pool");
    pool(of.map(|pool| text(pool, "name")).unwrap_or_default(), &at.child("name"), errors);
    let number = |field| of.and_then(|pool| int(pool, field)).unwrap_or_default();
    if number("resourceSliceCount") <= 0 {
        let at = at.child("resourceSliceCount");
        errors.invalid(&at, number("resourceSliceCount"), "must be greater than zero");
    }
    if number("generation") < 0 {
        let at = at.child("generation");
        errors.invalid(&at, number("generation"), "must be greater than or equal to zero");
    }
}

fn node_selection(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let mut named = nodes(spec, "must be either unset or set to a non-empty string", at, errors);
    if let Some(selector) = sub(spec, "nodeSelector") {
        let terms = list(selector, "nodeSelectorTerms");
        if terms.len() != 1 {
            let at = at.child("nodeSelector");
            let shown = items(selector, "nodeSelectorTerms").map(internal).collect::<Vec<_>>();
            let shown = Json(format!("[{}]", shown.join(",")));
            errors.invalid(&at.child("nodeSelectorTerms"), shown, "must have exactly one node selector term");
        }
    }
    flag(spec, "perDeviceNodeSelection", "`perDeviceNodeSelection`", at, &mut named, errors);
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match named[..] {
        [] => errors.required(at, one),
        [_] => {}
        _ => {
            let shown = format!("{{{}}}", named.join(", "));
            errors.invalid(at, &shown, format!("{one}, but multiple fields are set"));
        }
    }
}

/// Counters that devices have in common, or a part of.
pub(super) fn counters(owner: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("counters");
    let all = owner.map_at(&["counters"]).filter(|all| !all.is_empty());
    let Some(all) = all else { return errors.required(&at, "") };
    if all.len() > MOST_COUNTERS {
        return errors.too_many(&at, all.len(), MOST_COUNTERS);
    }
    for (name, _) in all.iter() {
        label(name, &at, errors);
    }
}
