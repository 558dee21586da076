//! How much of a device's capacity a claim may take (KEP-5075).

use schema::Object;
use schema::quantity::Quantity;

use crate::field::{At, Errors};
use crate::pod::validate::read::{has, maybe, sub, texts};

const MOST_VALUES: usize = 10;

fn amount(object: &Object, field: &str) -> Option<Quantity> {
    maybe(object, field)?.parse().ok()
}

/// Checks a capacity of a device that several may have, or of one that one may have.
pub(super) fn validate(capacity: &Object, is_shared: bool, at: &At<'_>, errors: &mut Errors) {
    let Some(policy) = sub(capacity, "requestPolicy") else { return };
    let at = at.child("requestPolicy");
    if !is_shared {
        return errors.forbidden(&at, "allowMultipleAllocations must be true");
    }
    let most = amount(capacity, "value").unwrap_or_default();
    let has_values = texts(policy, "validValues").next().is_some();
    let range = sub(policy, "validRange");
    let default = amount(policy, "default");
    let default_at = at.child("default");
    match (has_values, range, default) {
        (true, Some(_), _) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                       same time";
            errors.forbidden(&at, why);
        }
        (true, None, None) => errors.required(&default_at, "required when validValues is defined"),
        (true, None, Some(default)) => values(policy, &default, &most, &at.child("validValues"), errors),
        (false, Some(_), None) => errors.required(&default_at, "required when validRange is defined"),
        (false, Some(range), Some(default)) => {
            self::range(range, &default, &most, &at.child("validRange"), errors);
        }
        (false, None, _) => {}
    }
}

fn values(policy: &Object, default: &Quantity, most: &Quantity, at: &At<'_>, errors: &mut Errors) {
    let all: Vec<Quantity> = texts(policy, "validValues").filter_map(|text| text.parse().ok()).collect();
    for (number, pair) in all.windows(2).enumerate() {
        if let [a, b] = pair
            && a > b
        {
            errors.invalid(&at.index(number + 1), &b.to_string(), "values must be sorted in ascending order");
        }
    }
    // Upstream looks for the default only while it looks at each.
    let mut has_default = false;
    if all.len() > MOST_VALUES {
        errors.too_many(at, all.len(), MOST_VALUES);
    } else {
        for (number, value) in all.iter().enumerate() {
            if value > most {
                let why = format!("option is larger than capacity value: {most}");
                errors.invalid(&at.index(number), &value.to_string(), why);
            }
            has_default |= value == default;
        }
        let mut seen = std::collections::BTreeSet::new();
        for (number, value) in all.iter().enumerate() {
            if !seen.insert(value.value()) {
                errors.duplicate(&at.index(number), &value.value().to_string());
            }
        }
    }
    if !has_default {
        errors.invalid(at, &default.to_string(), "default value is not valid according to the requestPolicy");
    }
}

fn range(range: &Object, default: &Quantity, most: &Quantity, at: &At<'_>, errors: &mut Errors) {
    let Some(min) = amount(range, "min") else {
        return errors.required(&at.child("min"), "required when validRange is defined");
    };
    let max = amount(range, "max");
    let mut bad = |field: &'static str, value: &Quantity, why: String| {
        errors.invalid(&at.child(field), &value.to_string(), why);
    };
    if min > *most {
        bad("min", &min, format!("min is larger than capacity value: {most}"));
    }
    if *default < min {
        bad("min", default, format!("default is less than min: {min}"));
    }
    if let Some(max) = &max {
        if min > *max {
            bad("max", &min, format!("min is larger than max: {max}"));
        }
        if *max > *most {
            bad("max", max, format!("max is larger than capacity value: {most}"));
        }
        if *default > *max {
            bad("max", default, format!("default is more than max: {max}"));
        }
    }
    if let Some(step) = amount(range, "step").filter(|_| has(range, "step")) {
        let one = min.add(&step);
        if one > *most {
            bad("step", &step, format!("one step {one} is larger than capacity value: {most}"));
        }
        for value in [Some(default), max.as_ref()].into_iter().flatten() {
            let rest = value.value().saturating_sub(min.value()).checked_rem(step.value());
            if rest != Some(0) {
                bad("step", value, format!("value is not a multiple of a given step ({step}) from ({min})"));
            }
        }
    }
}
