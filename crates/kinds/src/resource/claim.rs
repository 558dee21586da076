//! Claims of devices, and templates of claims.

use schema::{Object, Value};

use super::parts::{configuration, fully_qualified, label, selectors, set, slice, texts, tolerations};
use super::status;
use crate::content;
use crate::edit::{self, each, made, positive, structs, text, within};
use crate::field::{At, Errors, Json};
use crate::meta::Looks;
use crate::pod::validate::read::{has, items, list};
use crate::pod::validate::shown::internal;
use crate::rules::{GENERIC, Part, Rules, generic_prepare_create, generic_prepare_update};

/// The most requests, constraints and configurations of one claim, and the most requests that one of those names.
const MOST: usize = 32;
/// The most alternatives of one request.
const MOST_ALTERNATIVES: usize = 8;

/// The rules of `ResourceClaim`.
pub(crate) const CLAIM: Rules = Rules {
    defaults: |claim| made(claim, "spec", default_spec),
    prepare_create: |claim| {
        generic_prepare_create(claim);
        claim.set_generation(0);
    },
    prepare_update: |new, old, part| {
        generic_prepare_update(new, old, part);
        new.set_generation(old.generation());
        if part == Part::Status {
            status::drop_deallocated(new, old);
        }
    },
    validate_create: |claim, errors| claim_spec(claim.struct_at(&["spec"]), &At::new("spec"), errors),
    validate_update: |new, old, part, errors| {
        spec_is_immutable(new, old, part, errors);
        if part == Part::Status {
            status::validate(new, old, errors);
        }
    },
    looks: Looks::BOTH,
    ..GENERIC
};

/// The rules of `ResourceClaimTemplate`.
pub(crate) const TEMPLATE: Rules = Rules {
    defaults: |template| made(template, "spec", |spec| made(spec, "spec", default_spec)),
    prepare_create: |template| {
        generic_prepare_create(template);
        template.set_generation(0);
    },
    prepare_update: |new, old, part| {
        generic_prepare_update(new, old, part);
        new.set_generation(old.generation());
    },
    validate: template,
    validate_last: |new, old, part, errors| {
        if let Some(old) = old {
            spec_is_immutable(new, old, part, errors);
        }
    },
    looks: Looks::BOTH,
    ..GENERIC
};

fn template(template: &Object, errors: &mut Errors) {
    let spec = At::new("spec");
    if let Some(metadata) = template.struct_at(&["spec", "metadata"]) {
        crate::meta::of_template(metadata, &spec.child("metadata"), errors);
    }
    claim_spec(template.struct_at(&["spec", "spec"]), &spec.child("spec"), errors);
}

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
        let shown = new.struct_at(&["spec"]).map_or_else(|| "{}".to_owned(), internal);
        errors.invalid(&At::new("spec"), Json(shown), "field is immutable");
    }
}

fn claim_spec(spec: Option<&Object>, at: &At<'_>, errors: &mut Errors) {
    let Some(devices) = spec.and_then(|spec| spec.struct_at(&["devices"])) else { return };
    let at = at.child("devices");
    set(devices, ("requests", "name"), MOST, &at.child("requests"), errors, request);
    let constraints = items(devices, "constraints");
    slice(constraints, MOST, &at.child("constraints"), errors, |constraint, at, errors| {
        names(devices, constraint, at, errors);
        self::constraint(constraint, at, errors);
    });
    slice(items(devices, "config"), MOST, &at.child("config"), errors, |config, at, errors| {
        names(devices, config, at, errors);
        configuration(config, at, errors);
    });
}

fn constraint(constraint: &Object, at: &At<'_>, errors: &mut Errors) {
    for field in ["matchAttribute", "distinctAttribute"] {
        if let Some(name) = constraint.get(field).and_then(Value::as_str) {
            return fully_qualified(name, &at.child(field), errors);
        }
    }
    let why =
        "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
    errors.required(at, why);
}

/// The requests that a constraint, a configuration or what was given names.
pub(super) fn names(devices: &Object, owner: &Object, at: &At<'_>, errors: &mut Errors) {
    texts(list(owner, "requests"), MOST, &at.child("requests"), errors, |name, at, errors| {
        reference(devices, name, at, errors);
    });
}

/// The name of a request of a claim, or of one of its alternatives.
pub(super) fn reference(devices: &Object, name: &str, at: &At<'_>, errors: &mut Errors) {
    let why = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = name.split('/').collect();
    if parts.len() > 2 {
        return errors.invalid(at, name, why);
    }
    parts.iter().for_each(|part| label(part, at, errors));
    if !is_request(devices, &parts) {
        errors.invalid(at, name, why);
    }
}

fn is_request(devices: &Object, parts: &[&str]) -> bool {
    let named = |object: &Object, name: &str| edit::get(object, &["name"]) == name;
    // Of several with one name the last counts.
    let find = |name: &str| items(devices, "requests").filter(|request| named(request, name)).last();
    match *parts {
        [name] => find(name).is_some(),
        [name, sub] => find(name)
            .is_some_and(|found| items(found, "firstAvailable").any(|alternative| named(alternative, sub))),
        _ => false,
    }
}

fn request(request: &Object, at: &At<'_>, errors: &mut Errors) {
    label(edit::get(request, &["name"]), &at.child("name"), errors);
    // In older versions the request itself says what it wants.
    let is_flat = request.ty().field("deviceClassName").is_some();
    let exactly = request.struct_at(&["exactly"]);
    let is_exact = exactly.is_some() || (is_flat && says_what_it_wants(request));
    let has_alternatives = !list(request, "firstAvailable").is_empty();
    let one_of = "exactly one of `exactly` or `firstAvailable` is required";
    match (is_exact, has_alternatives) {
        (false, false) => errors.required(at, one_of),
        (true, true) => {
            errors.invalid(at, Json("null".to_owned()), format!("{one_of}, but multiple fields are set"));
        }
        (true, false) => match exactly {
            Some(exactly) => wanted(exactly, &at.child("exactly"), errors),
            None => wanted(request, at, errors),
        },
        (false, true) => {
            let at = at.child("firstAvailable");
            set(request, ("firstAvailable", "name"), MOST_ALTERNATIVES, &at, errors, |sub, at, errors| {
                label(edit::get(sub, &["name"]), &at.child("name"), errors);
                wanted(sub, at, errors);
            });
        }
    }
}

fn says_what_it_wants(request: &Object) -> bool {
    ["deviceClassName", "selectors", "allocationMode", "count", "adminAccess", "tolerations", "capacity"]
        .iter()
        .any(|field| has(request, field))
}

fn wanted(request: &Object, at: &At<'_>, errors: &mut Errors) {
    let class = edit::get(request, &["deviceClassName"]);
    match class {
        "" => errors.required(&at.child("deviceClassName"), ""),
        class => errors.each(&at.child("deviceClassName"), class, content::subdomain(class)),
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
        other => {
            errors.not_supported_in_order(&at.child("allocationMode"), other, &["All", "ExactCount"]);
        }
    }
    tolerations(request, at, errors);
}
