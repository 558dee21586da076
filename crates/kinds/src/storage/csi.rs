//! `CSIDriver` and `CSINode`: what drivers there are, and at which nodes. `CSIStorageCapacity`: how much they have.

use std::collections::BTreeSet;

use schema::{Object, Value};

use crate::content;
use crate::edit::{self, flag, made, unsaid};
use crate::field::{At, Errors, Json};
use crate::meta::Looks;
use crate::pod::validate::read::{int, items, list, maybe, sub, text, texts};
use crate::pod::validate::{selector, shown};
use crate::rules::{GENERIC, Rules, generic_prepare_update};

const LONGEST_NODE_ID: usize = 256;
const POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const MODES: [&str; 2] = ["Persistent", "Ephemeral"];
const LEAST_PERIOD: i64 = 10;
const LEAST_TOKEN: i64 = 600;
const MOST_TOKEN: i64 = 1 << 32;
const IMMUTABLE: &str = "field is immutable";

/// The rules of `CSIDriver`.
pub(crate) const CSI_DRIVER: Rules = Rules {
    defaults: |driver| {
        made(driver, "spec", |spec| {
            flag(spec, "attachRequired", true);
            for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
                flag(spec, field, false);
            }
            unsaid(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            if list(spec, "volumeLifecycleModes").is_empty() {
                spec.set("volumeLifecycleModes", Value::List(vec![Value::from("Persistent")]));
            }
        });
    },
    prepare_create: |_| {},
    prepare_update: generic_prepare_update,
    validate: driver,
    validate_last: |new, old, _, errors| {
        let Some((new, old)) = sub(new, "spec").zip(old.and_then(|old| sub(old, "spec"))) else { return };
        // Upstream names one of them wrongly.
        for (field, told) in
            [("attachRequired", "attachedRequired"), ("volumeLifecycleModes", "volumeLifecycleModes")]
        {
            if new.get(field) != old.get(field) {
                let shown = Json(new.get(field).map_or_else(|| "null".to_owned(), shown::value_of));
                errors.invalid(&At::new("spec").child(told), shown, IMMUTABLE);
            }
        }
    },
    warnings: |new, old, _| {
        let requests = |driver: &'_ Object| driver.at(&["spec", "tokenRequests"]).cloned();
        let told = new.list_at(&["spec", "tokenRequests"]).is_some_and(|list| !list.is_empty())
            && new.at(&["spec", "serviceAccountTokenInSecrets"]).is_none()
            && old.is_none_or(|old| requests(old) != requests(new));
        let why = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
        told.then(|| why.to_owned()).into_iter().collect()
    },
    ..GENERIC
};

fn driver(driver: &Object, errors: &mut Errors) {
    let Some(spec) = sub(driver, "spec") else { return };
    let at = At::new("spec");
    if let Some(policy) = maybe(spec, "fsGroupPolicy").filter(|policy| !POLICIES.contains(policy)) {
        errors.not_supported(&at.child("fsGroupPolicy"), policy, &POLICIES);
    }
    tokens(spec, &at.child("tokenRequests"), errors);
    for mode in texts(spec, "volumeLifecycleModes").filter(|mode| !MODES.contains(mode)) {
        errors.not_supported_in_order(&at.child("volumeLifecycleModes"), mode, &MODES);
    }
    let period = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(seconds) = int(spec, period).filter(|seconds| *seconds < LEAST_PERIOD) {
        errors.invalid(&at.child(period), seconds, "must be greater than or equal to 10 seconds");
    }
    let in_secrets = "serviceAccountTokenInSecrets";
    if let Some(Value::Bool(given)) = spec.get(in_secrets).filter(|_| list(spec, "tokenRequests").is_empty())
    {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.invalid(&at.child(in_secrets), *given, why);
    }
}

fn tokens(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (index, request) in items(spec, "tokenRequests").enumerate() {
        let at = at.index(index);
        let audience = text(request, "audience");
        if !seen.insert(audience) {
            errors.duplicate(&at.child("audience"), audience);
            continue;
        }
        let Some(seconds) = int(request, "expirationSeconds") else { continue };
        let at = at.child("expirationSeconds");
        if seconds < LEAST_TOKEN {
            errors.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > MOST_TOKEN {
            errors.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
}

/// The rules of `CSINode`.
pub(crate) const CSI_NODE: Rules = Rules {
    prepare_create: |_| {},
    prepare_update: |_, _, _| {},
    validate: |node, errors| {
        let at = At::new("spec.drivers");
        let mut seen = BTreeSet::new();
        for (index, driver) in
            sub(node, "spec").into_iter().flat_map(|spec| items(spec, "drivers")).enumerate()
        {
            at_node(driver, &mut seen, &at.index(index), errors);
        }
    },
    validate_last: |new, old, _, errors| {
        let Some((new, old)) = sub(new, "spec").zip(old.and_then(|old| sub(old, "spec"))) else { return };
        // How many volumes it can have there may change.
        let fixed = |driver: &Object| {
            let mut driver = driver.clone();
            driver.remove("allocatable");
            driver
        };
        for old in items(old, "drivers") {
            for new in items(new, "drivers").filter(|new| text(new, "name") == text(old, "name")) {
                let (new, old) = (fixed(new), fixed(old));
                if !edit::same(&new, &old) {
                    errors.invalid(&At::new("spec.drivers"), Json(shown::internal(&new)), IMMUTABLE);
                }
            }
        }
    },
    looks: Looks::WHOLE,
    ..GENERIC
};

fn at_node<'o>(driver: &'o Object, seen: &mut BTreeSet<&'o str>, at: &At<'_>, errors: &mut Errors) {
    let (name, id) = (text(driver, "name"), text(driver, "nodeID"));
    crate::resource::driver_name(name, &at.child("name"), errors);
    if id.is_empty() {
        errors.required(&at.child("nodeID"), "");
    }
    if id.len() > LONGEST_NODE_ID {
        errors.invalid(&at.child("nodeID"), id, format!("must be {LONGEST_NODE_ID} characters or less"));
    }
    let count = sub(driver, "allocatable").and_then(|resources| int(resources, "count"));
    if let Some(count) = count.filter(|count| *count < 0) {
        let why = "must be greater than or equal to 0";
        errors.invalid(&at.child("allocatable").child("count"), count, why);
    }
    if !seen.insert(name) {
        errors.duplicate(&at.child("name"), name);
    }
    let mut keys = BTreeSet::new();
    for key in texts(driver, "topologyKeys") {
        if key.is_empty() {
            errors.required(at, "");
        }
        if !keys.insert(key) {
            errors.duplicate(at, key);
        }
        errors.each(at, key, content::qualified_name(key));
    }
}

/// The rules of `CSIStorageCapacity`.
pub(crate) const CAPACITY: Rules = Rules {
    prepare_create: |_| {},
    prepare_update: |_, _, _| {},
    validate: |capacity, errors| {
        selector::check(sub(capacity, "nodeTopology"), &At::new("nodeTopology"), errors);
        let class = text(capacity, "storageClassName");
        errors.each(&At::new("storageClassName"), class, content::subdomain(class));
        let amount = maybe(capacity, "capacity");
        let parsed = amount.and_then(|amount| amount.parse::<schema::quantity::Quantity>().ok());
        if let Some((amount, _)) = amount.zip(parsed.filter(|amount| amount.sign() < 0)) {
            errors.invalid(&At::new("capacity"), amount, "must be greater than or equal to 0");
        }
    },
    validate_last: |new, old, _, errors| {
        let Some(old) = old else { return };
        let same = match (sub(new, "nodeTopology"), sub(old, "nodeTopology")) {
            (Some(new), Some(old)) => edit::same(new, old),
            (new, old) => new.is_none() && old.is_none(),
        };
        if !same {
            let shown = sub(new, "nodeTopology").map_or_else(|| "null".to_owned(), shown::json);
            errors.invalid(&At::new("nodeTopology"), Json(shown), IMMUTABLE);
        }
        let class = |capacity| text(capacity, "storageClassName");
        if class(new) != class(old) {
            errors.invalid(&At::new("storageClassName"), class(new), IMMUTABLE);
        }
    },
    looks: Looks::BOTH,
    ..GENERIC
};
