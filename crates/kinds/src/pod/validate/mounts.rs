//! Where the volumes of a pod appear in its containers.

use std::collections::BTreeSet;

use schema::{Object, Value};

use super::paths;
use super::read::{has, is_true, items, list, maybe, sub, text};
use super::volume::Volumes;
use crate::field::{At, Errors};

/// Checks `volumeMounts`.
pub(super) fn mounts(container: &Object, volumes: &Volumes<'_>, at: &At<'_>, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (index, mount) in items(container, "volumeMounts").enumerate() {
        let here = at.index(index);
        let (name, path) = (text(mount, "name"), text(mount, "mountPath"));
        if name.is_empty() {
            errors.required(&here.child("name"), "");
        }
        if !volumes.contains_key(name) {
            errors.not_found(&here.child("name"), name);
        }
        if path.is_empty() {
            errors.required(&here.child("mountPath"), "");
        }
        if !taken.insert(path) {
            errors.invalid(&here.child("mountPath"), path, "must be unique");
        }
        if items(container, "volumeDevices").any(|device| text(device, "name") == name) {
            errors.invalid(&here.child("name"), name, "must not already exist in volumeDevices");
        }
        if items(container, "volumeDevices").any(|device| text(device, "devicePath") == path) {
            let why = "must not already exist as a path in volumeDevices";
            errors.invalid(&here.child("mountPath"), path, why);
        }
        let (sub_path, expression) = (text(mount, "subPath"), text(mount, "subPathExpr"));
        // What is below names the list, not its element, as upstream does.
        if !sub_path.is_empty() {
            paths::descending(sub_path, &at.child("subPath"), errors);
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.invalid(&here.child("subPathExpr"), expression, why);
            }
            paths::descending(expression, &at.child("subPathExpr"), errors);
        }
        propagation(container, mount, &at.child("mountPropagation"), errors);
        read_only(mount, &at.child("recursiveReadOnly"), errors);
        let is_image = volumes.get(name).is_some_and(|volume| has(volume, "image"));
        options(mount, is_image, &here.child("bindMountOptions"), errors);
    }
}

/// What a mount forbids (KEP-5855).
fn options(mount: &Object, is_image: bool, at: &At<'_>, errors: &mut Errors) {
    const OPTIONS: [&str; 3] = ["nodev", "noexec", "nosuid"];
    let mut named = BTreeSet::new();
    let wanted = list(mount, "bindMountOptions");
    if is_image && !wanted.is_empty() {
        errors.forbidden(at, "not supported with image volumes");
    }
    for (index, option) in wanted.iter().filter_map(Value::as_str).enumerate() {
        if !OPTIONS.contains(&option) {
            errors.not_supported(&at.index(index), option, &OPTIONS);
        } else if !named.insert(option) {
            errors.duplicate(&at.index(index), option);
        }
    }
}

fn propagation(container: &Object, mount: &Object, at: &At<'_>, errors: &mut Errors) {
    let Some(mode) = maybe(mount, "mountPropagation") else { return };
    const MODES: [&str; 3] = ["Bidirectional", "HostToContainer", "None"];
    if !MODES.contains(&mode) {
        errors.not_supported(at, mode, &MODES);
    }
    let privileged = sub(container, "securityContext").is_some_and(|context| is_true(context, "privileged"));
    if mode == "Bidirectional" && !privileged {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        errors.forbidden(at, why);
    }
}

fn read_only(mount: &Object, at: &At<'_>, errors: &mut Errors) {
    match maybe(mount, "recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !is_true(mount, "readOnly") {
                errors.forbidden(at, "may only be specified when readOnly is true");
            }
            if maybe(mount, "mountPropagation").is_some_and(|mode| mode != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(at, why);
            }
        }
        Some(other) => errors.not_supported(at, other, &["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Checks `volumeDevices`.
pub(super) fn devices(container: &Object, volumes: &Volumes<'_>, at: &At<'_>, errors: &mut Errors) {
    let (mut names, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for (index, device) in items(container, "volumeDevices").enumerate() {
        let at = at.index(index);
        let (name, path) = (text(device, "name"), text(device, "devicePath"));
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        }
        if names.contains(name) {
            errors.invalid(&at.child("name"), name, "must be unique");
        }
        match volumes.get(name) {
            None => errors.not_found(&at.child("name"), name),
            Some(volume) if !has(volume, "persistentVolumeClaim") && !has(volume, "ephemeral") => {
                let why =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&at.child("name"), name, why);
            }
            Some(_) => {}
        }
        if path.is_empty() {
            errors.required(&at.child("devicePath"), "");
        }
        if taken.contains(path) {
            errors.invalid(&at.child("devicePath"), path, "must be unique");
        }
        if path.split('/').any(|part| part == "..") {
            errors.invalid(&at.child("devicePath"), path, "can not contain backsteps ('..')");
        } else {
            taken.insert(path);
        }
        if items(container, "volumeMounts").any(|mount| text(mount, "name") == name) {
            errors.invalid(&at.child("name"), name, "must not already exist in volumeMounts");
        }
        if items(container, "volumeMounts").any(|mount| text(mount, "mountPath") == path) {
            let why = "must not already exist as a path in volumeMounts";
            errors.invalid(&at.child("devicePath"), path, why);
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}
