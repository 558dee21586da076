//! Dynamic resources (KEP-4381): claims, their templates, and classes of devices.

use schema::Object;

use crate::edit::{self, each, made, positive, structs, text, within};
use crate::field::{At, Errors, Json};
use crate::rules::{GENERIC, Part, Rules};

/// The most that one claim may ask for.
const MOST_REQUESTS: usize = 32;
/// The most alternatives of one request.
const MOST_ALTERNATIVES: usize = 8;

/// The rules of `ResourceClaim`.
pub(crate) const CLAIM: Rules = Rules {
    defaults: |claim| made(claim, "spec", default_spec),
    validate: |claim, errors| claim_spec(claim.struct_at(&["spec"]), &At::new("spec"), errors),
    validate_update: spec_is_immutable,
    ..GENERIC
};

/// The rules of `ResourceClaimTemplate`.
pub(crate) const TEMPLATE: Rules = Rules {
    defaults: |template| made(template, "spec", |spec| made(spec, "spec", default_spec)),
    validate: |template, errors| {
        let spec = At::new("spec");
        claim_spec(template.struct_at(&["spec", "spec"]), &spec.child("spec"), errors);
    },
    validate_update: spec_is_immutable,
    ..GENERIC
};

/// The rules of `DeviceClass`.
pub(crate) const CLASS: Rules = Rules {
    validate: |class, errors| {
        if let Some(spec) = class.struct_at(&["spec"]) {
            selectors(spec, &At::new("spec"), errors);
        }
    },
    ..GENERIC
};

fn default_spec(spec: &mut Object) {
    within(spec, "devices", |devices| {
        each(devices, "requests", |request| {
            // In older versions the request itself says what it wants, unless it has alternatives.
            let has_alternatives = structs(request, &["firstAvailable"]).next().is_some();
            if request.ty().field("deviceClassName").is_some() && !has_alternatives {
                default_request(request);
            }
            within(request, "exactly", default_request);
            each(request, "firstAvailable", default_request);
        });
    });
}

fn default_request(request: &mut Object) {
    text(request, "allocationMode", "ExactCount");
    if edit::get(request, &["allocationMode"]) == "ExactCount" {
        positive(request, "count", 1);
    }
    each(request, "tolerations", |toleration| text(toleration, "operator", "Equal"));
}

fn spec_is_immutable(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    if part == Part::Main && new.get("spec") != old.get("spec") {
        let shown = new.struct_at(&["spec"]).map(schema::json::encode).unwrap_or_default();
        let shown = String::from_utf8_lossy(&shown).into_owned();
        errors.invalid(&At::new("spec"), Json(shown), "field is immutable");
    }
}

fn claim_spec(spec: Option<&Object>, at: &At<'_>, errors: &mut Errors) {
    let Some(devices) = spec.and_then(|spec| spec.struct_at(&["devices"])) else { return };
    let at = at.child("devices");
    let requests: Vec<&Object> = structs(devices, &["requests"]).collect();
    let all = at.child("requests");
    if requests.len() > MOST_REQUESTS {
        errors.too_many(&all, requests.len(), MOST_REQUESTS);
    }
    unique(&requests, &all, errors);
    for (number, request) in requests.iter().enumerate() {
        one(request, &all.index(number), errors);
    }
    for (field, number, user) in users(devices) {
        let at = at.child(field);
        let at = at.index(number);
        let at = at.child("requests");
        let named = user.list_at(&["requests"]).unwrap_or_default().iter().filter_map(schema::Value::as_str);
        for (number, name) in named.enumerate() {
            if !is_request(&requests, name) {
                let why = "must be the name of a request in the claim or the name of a request and a subrequest \
                           separated by '/'";
                errors.invalid(&at.index(number), name, why);
            }
        }
    }
}

/// What names requests: constraints and configurations.
fn users(devices: &Object) -> Vec<(&'static str, usize, &Object)> {
    let of = |field: &'static str| {
        let all = structs(devices, std::slice::from_ref(&field)).enumerate();
        all.map(|(at, user)| (field, at, user)).collect::<Vec<_>>()
    };
    ["constraints", "config"].into_iter().flat_map(of).collect()
}

fn is_request(requests: &[&Object], name: &str) -> bool {
    let (request, sub) = name.split_once('/').map_or((name, None), |(request, sub)| (request, Some(sub)));
    let found = requests.iter().find(|known| edit::get(known, &["name"]) == request);
    found.is_some_and(|found| {
        sub.is_none_or(|sub| {
            structs(found, &["firstAvailable"]).any(|known| edit::get(known, &["name"]) == sub)
        })
    })
}

fn unique(all: &[&Object], at: &At<'_>, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for (number, object) in all.iter().enumerate() {
        let name = edit::get(object, &["name"]);
        let at = at.index(number);
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
    }
}

fn one(request: &Object, at: &At<'_>, errors: &mut Errors) {
    let alternatives: Vec<&Object> = structs(request, &["firstAvailable"]).collect();
    // In older versions the request itself says what it wants.
    let is_flat = request.ty().field("deviceClassName").is_some();
    let exactly = request.struct_at(&["exactly"]);
    let is_exact = exactly.is_some() || (is_flat && !edit::get(request, &["deviceClassName"]).is_empty());
    let one_of = "exactly one of `exactly` or `firstAvailable` is required";
    match (is_exact, alternatives.is_empty()) {
        (false, true) => errors.required(at, one_of),
        (true, false) => {
            errors.invalid(at, Json("null".to_owned()), format!("{one_of}, but multiple fields are set"));
        }
        (true, true) => match exactly {
            Some(exactly) => wanted(exactly, &at.child("exactly"), errors),
            None => wanted(request, at, errors),
        },
        (false, false) => {
            let at = at.child("firstAvailable");
            if alternatives.len() > MOST_ALTERNATIVES {
                errors.too_many(&at, alternatives.len(), MOST_ALTERNATIVES);
            }
            unique(&alternatives, &at, errors);
            for (number, alternative) in alternatives.iter().enumerate() {
                wanted(alternative, &at.index(number), errors);
            }
        }
    }
}

fn wanted(request: &Object, at: &At<'_>, errors: &mut Errors) {
    if edit::get(request, &["deviceClassName"]).is_empty() {
        errors.required(&at.child("deviceClassName"), "");
    }
    selectors(request, at, errors);
    let count = request.int_at(&["count"]).unwrap_or_default();
    match edit::get(request, &["allocationMode"]) {
        "All" if count != 0 => {
            errors.invalid(&at.child("count"), count, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if count <= 0 => {
            errors.invalid(&at.child("count"), count, "must be greater than zero");
        }
        "All" | "ExactCount" => {}
        other => errors.not_supported(&at.child("allocationMode"), other, &["All", "ExactCount"]),
    }
}

fn selectors(owner: &Object, at: &At<'_>, errors: &mut Errors) {
    for (number, selector) in structs(owner, &["selectors"]).enumerate() {
        let at = at.child("selectors");
        let at = at.index(number);
        let at = at.child("cel");
        let Some(cel) = selector.struct_at(&["cel"]) else {
            errors.required(&at, "");
            continue;
        };
        let (expression, at) = (edit::get(cel, &["expression"]), at.child("expression"));
        if expression.len() > cel::LONGEST {
            errors.too_long(&at, cel::LONGEST);
        } else if let Err(why) = cel::Selector::compile(expression) {
            errors.invalid(&at, expression, why.to_string());
        }
    }
}

#[cfg(test)]
mod tests;
