//! One device.

use schema::quantity::Quantity;
use schema::{Object, Value};

use super::parts::{LONGEST_QUALIFIED, binding, label, nodes, qualified, set, shortened, slice, taint};
use super::policy;
use super::slice::counters;
use crate::field::{At, Errors, Json};
use crate::pod::validate::read::{has, is_true, items, list, maybe, text};
use crate::pod::validate::resources::is_native;
use crate::pod::validate::shown::internal;

const MOST_TAINTS: usize = 16;
const MOST_CONSUMED_SETS: usize = 2;
const MOST_NAMES: usize = 32;
const MOST_VALUES: usize = 48;
const LONGEST_VALUE: usize = 64;
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

/// The device of a name in a slice.
pub(super) fn find<'s>(spec: &'s Object, name: &str) -> Option<&'s Object> {
    items(spec, "devices").find(|device| text(device, "name") == name)
}

/// Fills in what a device does not say.
pub(super) fn defaults(device: &mut Object) {
    let Some(all) = device.map_mut("nodeAllocatableResourceMappings") else { return };
    for (_, mapping) in all.iter_mut() {
        if let Some(mapping) = mapping.as_struct_mut().filter(|mapping| !has(mapping, "allocationMultiplier"))
        {
            mapping.set("allocationMultiplier", "1");
        }
    }
}

/// Whether a slice may have fewer of such devices.
pub(super) fn is_advanced(device: &Object) -> bool {
    let lists = |attribute: &Value| {
        attribute.as_struct().is_some_and(|attribute| LISTS.iter().any(|field| has(attribute, field)))
    };
    !list(device, "taints").is_empty()
        || !list(device, "consumesCounters").is_empty()
        || device.map_at(&["attributes"]).is_some_and(|all| all.iter().any(|(_, value)| lists(value)))
}

/// Checks a device; `old` is the one of its name before a change.
pub(super) fn validate(
    device: &Object,
    old: Option<&Object>,
    per_device: bool,
    at: &At<'_>,
    errors: &mut Errors,
) {
    label(text(device, "name"), &at.child("name"), errors);
    limits(device, at, errors);
    for (name, attribute) in device.map_at(&["attributes"]).into_iter().flat_map(|all| all.iter()) {
        let at = at.child("attributes");
        qualified(name, &at, errors);
        let shown = shortened(name, LONGEST_QUALIFIED);
        if let Some(found) = attribute.as_struct() {
            self::attribute(found, &at.key(&shown), errors);
        }
    }
    let is_shared = is_true(device, "allowMultipleAllocations");
    for (name, capacity) in device.map_at(&["capacity"]).into_iter().flat_map(|all| all.iter()) {
        let at = at.child("capacity");
        qualified(name, &at, errors);
        let shown = shortened(name, LONGEST_QUALIFIED);
        if let Some(capacity) = capacity.as_struct() {
            policy::validate(capacity, is_shared, &at.key(&shown), errors);
        }
    }
    if old.is_none_or(|old| old.get("taints") != device.get("taints")) {
        let check = |one: &Object, at: &At<'_>, errors: &mut Errors| taint(one, None, at, errors);
        slice(items(device, "taints"), MOST_TAINTS, &at.child("taints"), errors, check);
    }
    let consumed_at = at.child("consumesCounters");
    let key = ("consumesCounters", "counterSet");
    set(device, key, MOST_CONSUMED_SETS, &consumed_at, errors, |consumed, at, errors| {
        match text(consumed, "counterSet") {
            "" => errors.required(&at.child("counterSet"), ""),
            name => label(name, &at.child("counterSet"), errors),
        }
        counters(consumed, at, errors);
    });
    node_selection(device, per_device, at, errors);
    binding(device, at, errors);
    mappings(device, at, errors);
}

fn limits(device: &Object, at: &At<'_>, errors: &mut Errors) {
    let size = |field| device.map_at(&[field]).map_or(0, schema::Map::len);
    let names = size("attributes") + size("capacity");
    let shown = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    if names > MOST_NAMES {
        let why = format!("the total number of attributes and capacities must not exceed {MOST_NAMES}");
        errors.invalid(at, shown(names), why);
    }
    let count = |value: &Value| {
        let all = LISTS.iter().map(|field| value.as_struct().map_or(0, |of| list(of, field).len()));
        all.sum::<usize>().max(1)
    };
    let all = device.map_at(&["attributes"]);
    let values: usize = all.into_iter().flat_map(|all| all.iter()).map(|(_, value)| count(value)).sum();
    if values > MOST_VALUES {
        let why = format!("the total number of attribute values must not exceed {MOST_VALUES}");
        errors.invalid(at, shown(values), why);
    }
}

fn attribute(attribute: &Object, at: &At<'_>, errors: &mut Errors) {
    let mut count = ["bool", "int"].iter().filter(|field| has(attribute, field)).count();
    if let Some(value) = maybe(attribute, "string") {
        count += 1;
        short(value, &at.child("string"), errors);
    }
    if let Some(value) = maybe(attribute, "version") {
        count += 1;
        version(value, &at.child("version"), errors);
    }
    for field in LISTS.iter().filter(|field| has(attribute, field)) {
        count += 1;
        let at = at.child(field);
        let all = list(attribute, field);
        if all.is_empty() {
            errors.invalid(&at, Json("[]".to_owned()), "must not be empty if specified");
        }
        for (number, value) in all.iter().filter_map(Value::as_str).enumerate() {
            match *field {
                "versions" => version(value, &at.index(number), errors),
                _ => short(value, &at.index(number), errors),
            }
        }
    }
    let why = "exactly one value must be specified";
    match count {
        0 => errors.invalid(at, "", why),
        1 => {}
        _ => errors.invalid(at, Json(internal(attribute)), why),
    }
}

fn short(value: &str, at: &At<'_>, errors: &mut Errors) {
    if value.len() > LONGEST_VALUE {
        errors.too_long(at, LONGEST_VALUE);
    }
}

fn version(value: &str, at: &At<'_>, errors: &mut Errors) {
    if value.parse::<semver::Version>().is_err() {
        errors.invalid(at, value, "must be a string compatible with semver.org spec 2.0.0");
    }
    short(value, at, errors);
}

fn node_selection(device: &Object, per_device: bool, at: &At<'_>, errors: &mut Errors) {
    if !per_device {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| has(device, field)) {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                       true in the ResourceSlice spec";
            errors.invalid(at, Json("null".to_owned()), why);
        }
        return;
    }
    let named = nodes(device, "must not be empty", at, errors);
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is \
               set to true in the ResourceSlice spec";
    match named[..] {
        [] => errors.required(at, one),
        [_] => {}
        _ => errors.invalid(at, &format!("{{{}}}", named.join(", ")), one),
    }
}

fn mappings(device: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("nodeAllocatableResourceMappings");
    let all = device.map_at(&["nodeAllocatableResourceMappings"]);
    for (name, mapping) in all.into_iter().flat_map(|all| all.iter()) {
        let at = at.key(name);
        if !is_native(name) {
            errors.invalid(&at, name, "must be a node allocatable resource name");
        }
        let Some(mapping) = mapping.as_struct() else { continue };
        if let Some(text) = maybe(mapping, "allocationMultiplier") {
            if text.parse::<Quantity>().is_ok_and(|amount| amount.sign() <= 0) {
                errors.invalid(&at.child("allocationMultiplier"), text, "must be positive");
            }
        }
        let at = at.child("capacityKey");
        match maybe(mapping, "capacityKey") {
            None => {}
            Some("") => errors.invalid(&at, "", "capacityKey must not be an empty string"),
            Some(key) if capacity(device, key).is_none() => errors.not_found(&at, key),
            Some(_) => {}
        }
    }
}

fn capacity<'d>(device: &'d Object, key: &str) -> Option<&'d Value> {
    device.map_at(&["capacity"])?.get(key)
}
