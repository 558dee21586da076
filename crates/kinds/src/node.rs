//! Nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schema::{Object, Value};

use crate::content;
use crate::edit;
use crate::field::{At, Errors, Json};
use crate::meta::{self, NameRule, age};
use crate::pod::round;
use crate::pod::validate::read::{amounts, has, int, items, sub, text, texts};
use crate::pod::validate::{resources, scheduling, shown};
use crate::rules::{Cell, Column, GENERIC, Part, Rules, generic_prepare_update};

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
}

/// The rules of `Node`.
pub(crate) const RULES: Rules = Rules {
    defaults,
    prepare_create: |node| {
        // Configuration by the API is gone since v1.24.
        edit::within(node, "spec", |spec| {
            spec.remove("configSource");
            spec.remove(PREEMPTION);
        });
        edit::within(node, "status", |status| {
            status.remove("config");
        });
    },
    prepare_update,
    validate_create,
    validate_update,
    warnings,
    columns: &[
        Column { name: "Name", ty: "string", format: "name", priority: 0 },
        column("Status", "string", 0),
        column("Roles", "string", 0),
        column("Age", "string", 0),
        column("Version", "string", 0),
        column("Internal-IP", "string", 1),
        column("External-IP", "string", 1),
        column("OS-Image", "string", 1),
        column("Kernel-Version", "string", 1),
        column("Container-Runtime", "string", 1),
    ],
    cells: node_cells,
    selectable: &[("spec.unschedulable", |node| {
        node.bool_at(&["spec", "unschedulable"]).unwrap_or_default().to_string()
    })],
    ..GENERIC
};

fn node_cells(node: &Object, now: i64) -> Vec<Cell> {
    let ready = edit::structs(node, &["status", "conditions"]).find(|c| edit::get(c, &["type"]) == "Ready");
    let mut status = match ready.map(|condition| edit::get(condition, &["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if node.bool_at(&["spec", "unschedulable"]) == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = edit::structs(node, &["status", "addresses"]).find(|a| edit::get(a, &["type"]) == kind);
        found.map_or("<none>", |address| edit::get(address, &["address"])).to_owned()
    };
    let info = |field: &str| match edit::get(node, &["status", "nodeInfo", field]) {
        "" => "<unknown>".to_owned(),
        text => text.to_owned(),
    };
    let mut roles: Vec<&str> = node
        .labels()
        .into_iter()
        .flat_map(schema::Map::strings)
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None => (key == "kubernetes.io/role").then_some(value),
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    vec![
        Cell::Text(node.name().to_owned()),
        Cell::Text(status),
        Cell::Text(roles),
        Cell::Text(age(node, now)),
        Cell::Text(edit::get(node, &["status", "nodeInfo", "kubeletVersion"]).to_owned()),
        Cell::Text(address("InternalIP")),
        Cell::Text(address("ExternalIP")),
        Cell::Text(info("osImage")),
        Cell::Text(match edit::get(node, &["status", "nodeInfo", "architecture"]) {
            "" => info("kernelVersion"),
            architecture => format!("{} ({architecture})", info("kernelVersion")),
        }),
        Cell::Text(info("containerRuntimeVersion")),
    ]
}

/// What a node has it can give, unless it says otherwise.
fn defaults(node: &mut Object) {
    edit::within(node, "spec", one_or_more_networks);
    edit::within(node, "status", |status| {
        let says = status.map_at(&["allocatable"]).is_some_and(|amounts| !amounts.is_empty());
        if let (false, Some(capacity)) = (says, status.get("capacity").cloned()) {
            status.set("allocatable", capacity);
        }
        for field in ["capacity", "allocatable"] {
            round(status, field);
        }
    });
}

/// `podCIDR` is the first of `podCIDRs`, and the only one where the two differ.
fn one_or_more_networks(spec: &mut Object) {
    let single = text(spec, "podCIDR").to_owned();
    let first = texts(spec, "podCIDRs").next().map(str::to_owned);
    match first {
        Some(first) if single.is_empty() => {
            spec.set("podCIDR", first);
        }
        first if !single.is_empty() && first.as_ref() != Some(&single) => {
            spec.set("podCIDRs", Value::List(vec![Value::Str(single)]));
        }
        _ => {}
    }
}

/// Of a feature that v1.37 has and keeps off.
const PREEMPTION: &str = "podPreemptionPolicy";

/// Keeps `field` of the part only where the old object has it: what the API no longer offers, or not yet.
fn no_longer(new: &mut Object, old: &Object, part: &str, field: &str) {
    if old.at(&[part, field]).is_none() {
        edit::within(new, part, |part| {
            part.remove(field);
        });
    }
}

/// A node's generation says nothing: upstream never counts it.
fn prepare_update(new: &mut Object, old: &Object, part: Part) {
    if part == Part::Status {
        // Labels and annotations may come with the status, as kubelets send them.
        let spec = old.get("spec").cloned();
        match spec {
            Some(spec) => {
                new.set("spec", spec);
            }
            None => {
                new.remove("spec");
            }
        }
        no_longer(new, old, "status", "config");
    } else {
        generic_prepare_update(new, old, part);
        no_longer(new, old, "spec", "configSource");
        no_longer(new, old, "spec", PREEMPTION);
    }
    new.set_generation(old.generation());
}

fn validate_create(node: &Object, errors: &mut Errors) {
    taints(node, errors);
    amounts_of(node, errors);
    swap(node, errors);
    declared_features(node, errors);
    pod_networks(node, errors);
}

fn taints(node: &Object, errors: &mut Errors) {
    let Some(spec) = sub(node, "spec") else { return };
    let at = At::new("metadata.taints");
    let mut seen = BTreeSet::new();
    for (index, taint) in items(spec, "taints").enumerate() {
        let (at, key, value) = (at.index(index), text(taint, "key"), text(taint, "value"));
        errors.each(&at.child("key"), key, content::qualified_name(key));
        let problems = content::label_value(value);
        if !problems.is_empty() {
            errors.invalid(&at.child("value"), value, problems.join(";"));
        }
        match text(taint, "effect") {
            "" => errors.required(&at.child("effect"), ""),
            effect => scheduling::effect(effect, &at.child("effect"), errors),
        }
        if !seen.insert((text(taint, "effect"), key)) {
            let why = "taints must be unique by key and effect pair";
            errors.duplicate_because(&at, Json(shown::internal(taint)), why);
        }
    }
}

fn amounts_of(node: &Object, errors: &mut Errors) {
    let Some(status) = sub(node, "status") else { return };
    let at = At::new("status");
    for field in ["capacity", "allocatable"] {
        let at = at.child(field);
        for (name, value) in amounts(status, field) {
            resources::quantity(name, &value, &at.child(name), errors);
        }
    }
}

fn swap(node: &Object, errors: &mut Errors) {
    let Some(status) = sub(node, "status") else { return };
    let swap = status.struct_at(&["nodeInfo", "swap"]).and_then(|swap| int(swap, "capacity"));
    if let Some(swap) = swap.filter(|swap| *swap <= 0) {
        errors.invalid(&At::new("metadata.nodeSwapStatus.capacity"), swap, "must be greater than zero");
    }
}

const NO_FEATURE: &str = "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes";

fn is_feature(name: &str) -> bool {
    let word = |part: &str| {
        part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    name.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase()) && name.split('/').all(word)
}

/// Names of features, sorted: `Feature/detail`.
fn declared_features(node: &Object, errors: &mut Errors) {
    let Some(status) = sub(node, "status") else { return };
    let at = At::new("status.declaredFeatures");
    let mut earlier: Option<&str> = None;
    for (index, feature) in texts(status, "declaredFeatures").enumerate() {
        let wrong = if feature.len() > 253 {
            Some("must be no more than 253 characters")
        } else {
            (!is_feature(feature)).then_some(NO_FEATURE)
        };
        if let Some(earlier) = earlier {
            if earlier == feature {
                errors.duplicate(&at.index(index), feature);
            } else if earlier > feature {
                errors.invalid(&at.index(index), feature, "list must be sorted alphabetically");
            }
        }
        if let Some(why) = wrong {
            errors.invalid(&at.index(index), feature, format!("invalid feature name {feature:?}: {why}"));
        }
        earlier = Some(feature);
    }
}

fn pod_networks(node: &Object, errors: &mut Errors) {
    let Some(spec) = sub(node, "spec") else { return };
    let at = At::new("spec.podCIDRs");
    let mut families = BTreeSet::new();
    let mut wrong: Option<(usize, &str)> = None;
    let all: Vec<&str> = texts(spec, "podCIDRs").collect();
    for (index, network) in all.iter().enumerate() {
        let parsed = network.split_once('/').and_then(|(ip, length)| {
            let ip: IpAddr = ip.parse().ok()?;
            let length: u8 = length.parse().ok()?;
            (length <= if ip.is_ipv4() { 32 } else { 128 }).then_some(ip)
        });
        match parsed {
            Some(ip) => {
                families.insert(ip.is_ipv4());
            }
            None => {
                wrong = wrong.or(Some((index, *network)));
                let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                errors.invalid(&at.index(index), *network, why);
            }
        }
    }
    if all.len() < 2 {
        return;
    }
    if let Some((index, network)) = wrong {
        let why = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{index}]: <nil> (invalid CIDR address: {network})"
        );
        errors.internal(&at, why);
    }
    if families.len() != 2 || all.len() > 2 || wrong.is_some() {
        let quoted: Vec<String> = all.iter().map(|network| format!("{network:?}")).collect();
        let why = "may specify no more than one CIDR for each IP family";
        errors.invalid(&at, Json(format!("[{}]", quoted.join(","))), why);
    }
}

fn validate_update(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    if matches!(part, Part::Other("deletion")) {
        return;
    }
    if part != Part::Status {
        // Judged as a new one, and then as a changed one.
        meta::validate(new, NameRule::Subdomain, false, errors);
        meta::standard_finalizers(new, errors);
        validate_create(new, errors);
    }
    amounts_of(new, errors);
    declared_features(new, errors);
    if let Some(status) = sub(new, "status") {
        let at = At::new("status.addresses");
        let mut seen = BTreeSet::new();
        for (index, address) in items(status, "addresses").enumerate() {
            if !seen.insert((text(address, "type"), text(address, "address"))) {
                errors.duplicate(&at.index(index), Json(shown::internal(address)));
            }
        }
    }
    let empty = Object::new(new.ty().clone());
    let (new_spec, old_spec) = (sub(new, "spec").unwrap_or(&empty), sub(old, "spec").unwrap_or(&empty));
    let had: Vec<&str> = texts(old_spec, "podCIDRs").collect();
    let given: Vec<&str> = texts(new_spec, "podCIDRs").collect();
    let changed = if had.len() == given.len() {
        had.iter().zip(&given).filter(|(had, given)| had != given).count()
    } else {
        1
    };
    if !had.is_empty() {
        for _ in 0..changed {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&At::new("spec.podCIDRs"), why);
        }
    }
    let (id, had) = (text(new_spec, "providerID"), text(old_spec, "providerID"));
    if !had.is_empty() && id != had {
        let why = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&At::new("spec.providerID"), why);
    }
    taints(new, errors);
    if text(new_spec, "externalID") != text(old_spec, "externalID") {
        errors.forbidden(&At::new("spec.externalID"), "may not be updated");
    }
}

/// What is left of what a node once could be told.
fn warnings(node: &Object, _: Option<&Object>, part: Part) -> Vec<String> {
    let Some(spec) = sub(node, "spec").filter(|_| part == Part::Main) else { return Vec::new() };
    let mut warnings = Vec::new();
    if has(spec, "configSource") {
        warnings.push("spec.configSource: the feature is removed".to_owned());
    }
    if !text(spec, "externalID").is_empty() {
        let why = "spec.externalID: this field is deprecated, and is unused by Kubernetes";
        warnings.push(why.to_owned());
    }
    warnings
}
