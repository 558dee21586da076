//! Claims, and the claim that an ephemeral volume makes.

use schema::Object;

use super::read::{amount, maybe, sub, text, texts};
use super::{resources, selector};
use crate::content;
use crate::field::{At, Errors};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Checks a claim template.
pub(super) fn check(template: &Object, at: &At<'_>, errors: &mut Errors) {
    crate::meta::of_template(template.metadata(), &at.child("metadata"), errors);
    specification(template, at, errors);
}

/// Checks what a template asks for.
pub(crate) fn specification(template: &Object, at: &At<'_>, errors: &mut Errors) {
    of_spec(template, &at.child("spec"), errors);
}

/// Checks a claim, but for its metadata.
pub(crate) fn check_claim(claim: &Object, errors: &mut Errors) {
    of_spec(claim, &At::new("spec"), errors);
}

fn of_spec(claim: &Object, at: &At<'_>, errors: &mut Errors) {
    match sub(claim, "spec") {
        Some(spec) => check_spec(spec, at, errors),
        None => {
            errors.required(&at.child("accessModes"), "at least 1 access mode is required");
            errors.required(&at.child("resources[storage]"), "");
        }
    }
}

fn check_spec(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let modes_at = at.child("accessModes");
    if texts(spec, "accessModes").next().is_none() {
        errors.required(&modes_at, "at least 1 access mode is required");
    }
    selector::check(sub(spec, "selector"), &at.child("selector"), errors);
    access_modes(spec, &modes_at, errors);
    let storage_at = at.child("resources[storage]");
    match sub(spec, "resources").and_then(|resources| amount(resources, "requests", "storage")) {
        None => errors.required(&storage_at, ""),
        Some(size) if size.sign() <= 0 => {
            errors.invalid(&storage_at, &size.to_string(), "must be greater than zero");
        }
        Some(size) => resources::quantity("storage", &size, &storage_at, errors),
    }
    for field in ["storageClassName", "volumeAttributesClassName"] {
        if let Some(class) = maybe(spec, field).filter(|class| !class.is_empty()) {
            errors.each(&at.child(field), class, content::subdomain(class));
        }
    }
    if let Some(mode) = maybe(spec, "volumeMode").filter(|mode| !matches!(*mode, "Block" | "Filesystem")) {
        errors.not_supported(&at.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    sources(spec, at, errors);
}

/// Checks the ways in which a claim or a volume may be used.
pub(crate) fn access_modes(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    for mode in texts(spec, "accessModes").filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.not_supported(at, mode, &ACCESS_MODES);
    }
    let alone = texts(spec, "accessModes").any(|mode| mode == "ReadWriteOncePod");
    let others =
        texts(spec, "accessModes").any(|mode| mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode));
    if alone && others {
        errors.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn sources(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    for field in ["dataSource", "dataSourceRef"] {
        let Some(source) = sub(spec, field) else { continue };
        let at = at.child(field);
        for field in ["name", "kind"] {
            if text(source, field).is_empty() {
                errors.required(&at.child(field), "");
            }
        }
        let (group, kind) = (text(source, "apiGroup"), text(source, "kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&at, kind, why);
        }
        if !group.is_empty() {
            errors.each(&at.child("apiGroup"), group, content::subdomain(group));
        }
        let namespace = text(source, "namespace");
        if !namespace.is_empty() {
            errors.each(&at.child("namespace"), namespace, content::label(namespace));
        }
    }
    let (Some(source), Some(reference)) = (sub(spec, "dataSource"), sub(spec, "dataSourceRef")) else {
        return;
    };
    let same = ["apiGroup", "kind", "name"].iter().all(|field| source.get(field) == reference.get(field));
    let why = if !text(reference, "namespace").is_empty() {
        "may not be specified when dataSourceRef.namespace is specified"
    } else if !same {
        "must match dataSourceRef"
    } else {
        return;
    };
    // Upstream shows the path, whose JSON has nothing in it.
    errors.invalid(at, crate::field::Json("{}".to_owned()), why);
}
