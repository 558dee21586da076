//! The status of a claim: what it has, who uses it, and what drivers tell of its devices.

use std::collections::BTreeSet;

use schema::{Object, Value};

use super::claim::{names, reference};
use super::parts::{binding, configuration, driver, label, pool, raw, set, slice, texts, uuid};
use crate::content;
use crate::field::{At, Errors, Json};
use crate::pod::validate::read::{has, int, items, list, maybe, sub, text};
use crate::pod::validate::shown::internal;

const MOST_USERS: usize = 256;
const MOST_RESULTS: usize = 32;
/// Of the class and of the claim.
const MOST_CONFIGURATIONS: usize = 64;
const MOST_CONDITIONS: usize = 8;
const LONGEST_DATA: usize = 10 * 1024;
const MOST_ADDRESSES: usize = 16;
const LONGEST_INTERFACE: usize = 256;
const LONGEST_HARDWARE: usize = 128;
const LONGEST_REASON: usize = 1024;
const LONGEST_MESSAGE: usize = 32 * 1024;
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];
const REASON: &str = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')";

/// Driver, pool, device, and the share of one that several have.
type DeviceId<'o> = (&'o str, &'o str, &'o str, Option<&'o str>);

fn id(object: &Object) -> DeviceId<'_> {
    let field = |name| text(object, name);
    (field("driver"), field("pool"), field("device"), maybe(object, "shareID"))
}

fn allocated(claim: &Object) -> BTreeSet<DeviceId<'_>> {
    let devices = claim.struct_at(&["status", "allocation", "devices"]);
    devices.into_iter().flat_map(|devices| items(devices, "results")).map(id).collect()
}

/// What drivers told of devices that the claim does not have any more is of no use.
pub(super) fn drop_deallocated(new: &mut Object, old: &Object) {
    let kept = allocated(new);
    let gone: BTreeSet<DeviceId<'_>> = allocated(old).difference(&kept).copied().collect();
    if gone.is_empty() {
        return;
    }
    let told = new.list_at(&["status", "devices"]).unwrap_or_default();
    let left: Vec<Value> = told
        .iter()
        .filter(|one| one.as_struct().is_some_and(|one| !gone.contains(&id(one))))
        .cloned()
        .collect();
    let is_same = told.len() == left.len();
    if let Some(status) = new.struct_mut("status").filter(|_| !is_same) {
        match left.is_empty() {
            true => drop(status.remove("devices")),
            false => drop(status.set("devices", Value::List(left))),
        }
    }
}

/// Checks a change of a claim's status.
pub(super) fn validate(new: &Object, old: &Object, errors: &mut Errors) {
    let Some(status) = sub(new, "status") else { return };
    let at = At::new("status");
    let users_at = at.child("reservedFor");
    set(status, ("reservedFor", "uid"), MOST_USERS, &users_at, errors, |user, at, errors| {
        for field in ["resource", "name", "uid"] {
            if text(user, field).is_empty() {
                errors.required(&at.child(field), "");
            }
        }
    });
    devices(new, status, &at, errors);
    let old = sub(old, "status");
    let had = old.and_then(|old| old.get("allocation"));
    if !list(status, "reservedFor").is_empty() {
        let known = old.map(|old| list(old, "reservedFor")).unwrap_or_default();
        if !has(status, "allocation") {
            errors.forbidden(&users_at, "may not be specified when `allocated` is not set");
        } else if new.deletion_timestamp().is_some()
            && list(status, "reservedFor").iter().any(|user| !known.contains(user))
        {
            let why =
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&users_at, why);
        }
    }
    let at = at.child("allocation");
    match (had, sub(status, "allocation")) {
        (_, None) => {}
        (Some(had), Some(has)) => {
            if had.as_struct() != Some(has) {
                errors.invalid(&at, Json(internal(has)), "field is immutable");
            }
        }
        (None, Some(allocation)) => self::allocation(new, allocation, &at, errors),
    }
}

fn allocation(claim: &Object, allocation: &Object, at: &At<'_>, errors: &mut Errors) {
    let empty = Object::new(claim.ty().clone());
    let asked = claim.struct_at(&["spec", "devices"]).unwrap_or(&empty);
    if let Some(devices) = sub(allocation, "devices") {
        let at = at.child("devices");
        let results_at = at.child("results");
        slice(items(devices, "results"), MOST_RESULTS, &results_at, errors, |result, at, errors| {
            reference(asked, text(result, "request"), &at.child("request"), errors);
            device_id(result, at, errors);
            binding(result, at, errors);
        });
        let config_at = at.child("config");
        slice(items(devices, "config"), MOST_CONFIGURATIONS, &config_at, errors, |config, at, errors| {
            let source_at = at.child("source");
            match text(config, "source") {
                "" => errors.required(&source_at, ""),
                "FromClass" | "FromClaim" => {}
                other => {
                    errors.not_supported_in_order(&source_at, other, &["FromClaim", "FromClass"]);
                }
            }
            names(asked, config, at, errors);
            configuration(config, at, errors);
        });
    }
    if let Some(selector) = sub(allocation, "nodeSelector") {
        crate::pod::validate::node_selector(selector, &at.child("nodeSelector"), errors);
    }
}

fn device_id(device: &Object, at: &At<'_>, errors: &mut Errors) {
    driver(text(device, "driver"), &at.child("driver"), errors);
    pool(text(device, "pool"), &at.child("pool"), errors);
    label(text(device, "device"), &at.child("device"), errors);
    if let Some(share) = maybe(device, "shareID") {
        uuid(share, &at.child("shareID"), errors);
    }
}

fn devices(claim: &Object, status: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("devices");
    let has = allocated(claim);
    let mut seen = BTreeSet::new();
    let mut twice = Vec::new();
    for (number, device) in items(status, "devices").enumerate() {
        let at = at.index(number);
        device_id(device, &at, errors);
        let (driver, pool, name, share) = id(device);
        // Upstream shows its own struct of these.
        let shown = || {
            let share = share.unwrap_or_default();
            Json(format!(
                "{{\"Driver\":{driver:?},\"Pool\":{pool:?},\"Device\":{name:?},\"ShareID\":{share:?}}}"
            ))
        };
        if !has.contains(&id(device)) {
            errors.invalid(&at, shown(), "must be an allocated device in the claim");
        }
        conditions(device, MOST_CONDITIONS, &at.child("conditions"), errors);
        if device.get("data").and_then(Value::as_bytes).is_some_and(|data| !data.is_empty()) {
            raw(device.get("data"), LONGEST_DATA, &at.child("data"), errors);
        }
        if let Some(network) = sub(device, "networkData") {
            self::network(network, &at.child("networkData"), errors);
        }
        if !seen.insert(id(device)) {
            twice.push((number, shown()));
        }
    }
    for (number, shown) in twice {
        errors.duplicate(&at.index(number), shown);
    }
}

fn network(network: &Object, at: &At<'_>, errors: &mut Errors) {
    for (field, most) in [("interfaceName", LONGEST_INTERFACE), ("hardwareAddress", LONGEST_HARDWARE)] {
        if text(network, field).len() > most {
            errors.too_long(&at.child(field), most);
        }
    }
    texts(list(network, "ips"), MOST_ADDRESSES, &at.child("ips"), errors, |address, at, errors| {
        match canonical(address) {
            None => {
                let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
                errors.invalid(at, address, why);
            }
            Some(canonical) if canonical != address => {
                errors.invalid(at, address, format!("must be in canonical form ({canonical:?})"));
            }
            Some(_) => {}
        }
    });
}

/// An address with the length of its network, as it is usually written. Zeros before a number are forgiven.
fn canonical(text: &str) -> Option<String> {
    let (address, length) = text.split_once('/')?;
    let plain = address.split('.').map(|part| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0",
        stripped if address.contains(':') || stripped.is_empty() => part,
        stripped => stripped,
    });
    let address: std::net::IpAddr = plain.collect::<Vec<_>>().join(".").parse().ok()?;
    let length: u8 = length.parse().ok().filter(|_| length.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (address, length) = match address {
        std::net::IpAddr::V6(long) => match long.to_ipv4_mapped() {
            Some(short) => (std::net::IpAddr::V4(short), length.checked_sub(96)?),
            None => (address, length),
        },
        std::net::IpAddr::V4(_) => (address, length),
    };
    (length <= if address.is_ipv4() { 32 } else { 128 }).then(|| format!("{address}/{length}"))
}

/// Conditions (`metav1.Condition`), of which there may be `most`.
pub(crate) fn conditions(owner: &Object, most: usize, at: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    let all = list(owner, "conditions").len();
    if all > most {
        errors.too_many(at, all, most);
    }
    for (number, condition) in items(owner, "conditions").enumerate() {
        let at = at.index(number);
        let field = |name| text(condition, name);
        let kind_at = at.child("type");
        if !seen.insert(field("type")) {
            errors.duplicate(&kind_at, field("type"));
        }
        errors.each(&kind_at, field("type"), content::qualified_name(field("type")));
        if !STATUSES.contains(&field("status")) {
            errors.not_supported(&at.child("status"), field("status"), &STATUSES);
        }
        if let Some(number) = int(condition, "observedGeneration").filter(|number| *number < 0) {
            let why = "must be greater than or equal to zero";
            errors.invalid(&at.child("observedGeneration"), number, why);
        }
        if condition.get("lastTransitionTime").is_none_or(|time| time.as_time().is_none()) {
            errors.required(&at.child("lastTransitionTime"), "");
        }
        reason(field("reason"), &at.child("reason"), errors);
        if field("message").len() > LONGEST_MESSAGE {
            errors.too_long(&at.child("message"), LONGEST_MESSAGE);
        }
    }
}

fn reason(reason: &str, at: &At<'_>, errors: &mut Errors) {
    if reason.is_empty() {
        return errors.required(at, "");
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_good = reason.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && reason.bytes().last().is_some_and(word)
        && reason.bytes().all(|byte| word(byte) || b",:".contains(&byte));
    if !is_good {
        errors.invalid(at, reason, REASON);
    }
    if reason.len() > LONGEST_REASON {
        errors.too_long(at, LONGEST_REASON);
    }
}
