//! Affinity of pods to nodes and to each other.

use std::collections::BTreeSet;

use schema::Object;

use super::read::{entries, has, int, items, sub, text, texts};
use super::selector;
use crate::content;
use crate::field::{At, Errors};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks `affinity`.
pub(super) fn check(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(affinity) = sub(spec, "affinity") else { return };
    if let Some(node) = sub(affinity, "nodeAffinity") {
        let at = at.child("nodeAffinity");
        if let Some(selector) = sub(node, REQUIRED) {
            node_selector(selector, &at.child(REQUIRED), errors);
        }
        let at = at.child(PREFERRED);
        for (index, term) in items(node, PREFERRED).enumerate() {
            let at = at.index(index);
            weight(term, &at, errors);
            if let Some(preference) = sub(term, "preference") {
                // A preference that no node can meet does no harm.
                node_term(preference, true, &at.child("preference"), errors);
            }
        }
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = sub(affinity, field) else { continue };
        let at = at.child(field);
        let required_at = at.child(REQUIRED);
        for (index, term) in items(pods, REQUIRED).enumerate() {
            pod_term(term, &required_at.index(index), errors);
        }
        let preferred_at = at.child(PREFERRED);
        for (index, weighted) in items(pods, PREFERRED).enumerate() {
            let at = preferred_at.index(index);
            weight(weighted, &at, errors);
            let empty;
            let term = match sub(weighted, "podAffinityTerm") {
                Some(term) => term,
                None => match weighted.item_type("podAffinityTerm") {
                    Some(ty) => {
                        empty = Object::new(ty);
                        &empty
                    }
                    None => continue,
                },
            };
            pod_term(term, &at.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Object, at: &At<'_>, errors: &mut Errors) {
    let weight = int(term, "weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.invalid(&at.child("weight"), weight, "must be in the range 1-100");
    }
}

/// Checks a node selector, of a pod or of anything else.
pub(crate) fn node_selector(selector: &Object, at: &At<'_>, errors: &mut Errors) {
    let at = at.child("nodeSelectorTerms");
    if items(selector, "nodeSelectorTerms").next().is_none() {
        errors.required(&at, "must have at least one node selector term");
    }
    for (index, term) in items(selector, "nodeSelectorTerms").enumerate() {
        node_term(term, false, &at.index(index), errors);
    }
}

fn node_term(term: &Object, any_value: bool, at: &At<'_>, errors: &mut Errors) {
    let expressions_at = at.child("matchExpressions");
    for (index, requirement) in items(term, "matchExpressions").enumerate() {
        node_requirement(requirement, any_value, &expressions_at.index(index), errors);
    }
    let fields_at = at.child("matchFields");
    for (index, requirement) in items(term, "matchFields").enumerate() {
        node_field(requirement, &fields_at.index(index), errors);
    }
}

fn node_requirement(requirement: &Object, any_value: bool, at: &At<'_>, errors: &mut Errors) {
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
        "Gt" | "Lt" if values != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.required(&at.child("values"), why);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
    }
    let key = text(requirement, "key");
    errors.each(&at.child("key"), key, content::qualified_name(key));
    if !any_value {
        selector::label_values(requirement, at, errors);
    }
}

fn node_field(requirement: &Object, at: &At<'_>, errors: &mut Errors) {
    match text(requirement, "operator") {
        "In" | "NotIn" => {
            if texts(requirement, "values").count() != 1 {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&at.child("values"), why);
            }
        }
        other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
    }
    let key = text(requirement, "key");
    if key != "metadata.name" {
        errors.invalid(&at.child("key"), key, "not a valid field selector key");
        return;
    }
    let values_at = at.child("values");
    for (index, value) in texts(requirement, "values").enumerate() {
        errors.each(&values_at.index(index), value, content::subdomain(value));
    }
}

fn pod_term(term: &Object, at: &At<'_>, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        selector::check(sub(term, field), &at.child(field), errors);
    }
    for name in texts(term, "namespaces") {
        errors.each(&at.child("namespace"), name, content::label(name));
    }
    label_keys(term, at, errors);
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.required(&at.child("topologyKey"), "can not be empty");
    }
    errors.each(&at.child("topologyKey"), key, content::qualified_name(key));
}

/// Keys of labels whose value is the pod's own, or anything but it (KEP-3633).
pub(super) fn label_keys(term: &Object, at: &At<'_>, errors: &mut Errors) {
    let selector = sub(term, "labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        if texts(term, field).next().is_none() {
            continue;
        }
        let at = at.child(field);
        if selector.is_none() {
            errors.forbidden(&at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in texts(term, field).enumerate() {
            errors.each(&at.index(index), key, content::qualified_name(key));
        }
    }
    if !has(term, "matchLabelKeys") {
        return;
    }
    if let Some(selector) = selector {
        let mut seen: BTreeSet<&str> = entries(selector, "matchLabels").map(|(key, _)| key).collect();
        for requirement in items(selector, "matchExpressions") {
            let key = text(requirement, "key");
            let place = texts(term, "matchLabelKeys").enumerate().filter(|(_, other)| *other == key).last();
            // The key that was merged into the selector is its second mention.
            if let Some((index, _)) = place.filter(|_| seen.contains(key)) {
                errors.invalid(&at.index(index), key, "exists in both matchLabelKeys and labelSelector");
            }
            seen.insert(key);
        }
    }
    let at = at.child("matchLabelKeys");
    for (index, key) in texts(term, "matchLabelKeys").enumerate() {
        if texts(term, "mismatchLabelKeys").any(|other| other == key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&at.index(index), key, why);
        }
    }
}
