//! What a storage class must be; most of it never changes.

use std::collections::{BTreeMap, BTreeSet};

use schema::Object;

use super::volume::of;
use crate::content;
use crate::field::{At, Errors, Json};
use crate::pod::validate::read::{entries, items, text, texts};
use crate::rules::Part;

const MOST_PARAMETERS: usize = 512;
const LONGEST_PARAMETERS: usize = 256 * 1024;

/// What is wrong with a class.
pub(super) fn validate(class: &Object, errors: &mut Errors) {
    let provisioner = text(class, "provisioner");
    let at = At::new("provisioner");
    match provisioner {
        "" => errors.required(&at, ""),
        name => {
            let name = name.to_lowercase();
            errors.each(&at, name.as_str(), content::qualified_name(&name));
        }
    }
    let at = At::new("parameters");
    let all: Vec<_> = entries(class, "parameters").collect();
    if all.len() > MOST_PARAMETERS {
        errors.too_long(&at, MOST_PARAMETERS);
    } else {
        for _ in all.iter().filter(|(name, _)| name.is_empty()) {
            errors.invalid(&at, "", "field can not be empty.");
        }
        if all.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > LONGEST_PARAMETERS {
            errors.too_long(&at, LONGEST_PARAMETERS);
        }
    }
    let one_of = |field: &'static str, known: &[&str], errors: &mut Errors| {
        let value = text(class, field);
        let is_unsaid = value.is_empty() && field == "reclaimPolicy";
        if !is_unsaid && !known.contains(&value) {
            errors.not_supported(&At::new(field), value, known);
        }
    };
    one_of("reclaimPolicy", &["Delete", "Retain"], errors);
    one_of("volumeBindingMode", &["Immediate", "WaitForFirstConsumer"], errors);
    topologies(class, errors);
}

/// Where volumes may be made. Upstream takes a place for told already that says nothing.
fn topologies(class: &Object, errors: &mut Errors) {
    let at = At::new("allowedTopologies");
    let terms: Vec<&Object> = items(class, "allowedTopologies").collect();
    let mut told: Vec<BTreeMap<&str, BTreeSet<&str>>> = vec![BTreeMap::new(); terms.len()];
    for (index, term) in terms.into_iter().enumerate() {
        let (term_at, mut places) = (at.index(index), BTreeMap::new());
        let rules_at = term_at.child("matchLabelExpressions");
        for (index, rule) in items(term, "matchLabelExpressions").enumerate() {
            let (rule_at, key) = (rules_at.index(index), text(rule, "key"));
            let (values_at, key_at) = (rule_at.child("values"), rule_at.child("key"));
            if texts(rule, "values").next().is_none() {
                errors.required(&values_at, "");
            }
            let mut values = BTreeSet::new();
            for (index, value) in texts(rule, "values").enumerate() {
                if !values.insert(value) {
                    errors.duplicate(&values_at.index(index), value);
                }
            }
            errors.each(&key_at, key, content::qualified_name(key));
            if places.insert(key, values).is_some() {
                errors.duplicate(&key_at, key);
            }
        }
        for _ in told.iter().filter(|known| **known == places) {
            errors.duplicate(&rules_at, "");
        }
        told.push(places);
    }
}

/// What is wrong with a change.
pub(super) fn validate_update(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    if part != Part::Main {
        return;
    }
    validate(new, errors);
    const WHY: &str = "field is immutable";
    let parameters = |class: &Object| class.map_at(&["parameters"]).filter(|all| !all.is_empty()).cloned();
    if parameters(new) != parameters(old) {
        let shown: Vec<String> =
            entries(new, "parameters").map(|(name, value)| format!("{name:?}:{value:?}")).collect();
        let shown = if shown.is_empty() { "null".to_owned() } else { format!("{{{}}}", shown.join(",")) };
        errors.invalid(&At::new("parameters"), Json(shown), WHY);
    }
    for field in ["provisioner", "reclaimPolicy", "volumeBindingMode"] {
        let value = |class: &Object| of(class.get(field)).to_owned();
        if value(new) != value(old) {
            errors.invalid(&At::new(field), value(new).as_str(), WHY);
        }
    }
}
