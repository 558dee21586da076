//! Volumes: exactly one source each, and what each source must have.

use std::collections::{BTreeMap, BTreeSet};

use schema::Object;

use super::Subject;
use super::env::{VOLUME_FIELD_PATHS, field_ref, mode, resource_ref};
use super::read::{has, int, items, sub, text};
use super::security::number;
use super::{claim_template, legacy_volumes, paths, projected};
use crate::content;
use crate::field::{At, Errors};

/// The sources, in the order in which upstream looks at them, and the field that it names when there is more than
/// one (which has a misspelling or two).
const SOURCES: [(&str, &str); 30] = [
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
    ("emptyDir", "emptyDir"),
];

/// The volumes that may be mounted, by name.
pub(super) type Volumes<'o> = BTreeMap<&'o str, &'o Object>;

/// Checks all volumes, and gives those that are right.
pub(super) fn volumes<'o>(
    spec: &'o Object,
    subject: &Subject<'_>,
    at: &At<'_>,
    errors: &mut Errors,
) -> Volumes<'o> {
    let made: BTreeSet<String> = items(spec, "volumes")
        .filter(|volume| !subject.name.is_empty() && has(volume, "ephemeral"))
        .map(|volume| format!("{}-{}", subject.name, text(volume, "name")))
        .collect();
    let mut right = Volumes::new();
    for (index, volume) in items(spec, "volumes").enumerate() {
        let at = at.index(index);
        let before = errors.0.len();
        source(volume, subject, &at, errors);
        let name = text(volume, "name");
        match name {
            "" => errors.required(&at.child("name"), ""),
            name => errors.each(&at.child("name"), name, content::label(name)),
        }
        if right.contains_key(name) {
            errors.duplicate(&at.child("name"), name);
        }
        if errors.0.len() == before {
            right.insert(name, volume);
        }
        let claim = volume.str_at(&["persistentVolumeClaim", "claimName"]).unwrap_or_default();
        if made.contains(claim) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&at.child("persistentVolumeClaim.claimName"), claim, why);
        }
    }
    right
}

fn source(volume: &Object, subject: &Subject<'_>, at: &At<'_>, errors: &mut Errors) {
    let mut count = 0;
    if let Some(directory) = sub(volume, "emptyDir") {
        count += 1;
        if text(directory, "sizeLimit").starts_with('-') {
            let why = "SizeLimit field must be a valid resource quantity";
            errors.forbidden(&at.child("emptyDir.sizeLimit"), why);
        }
    }
    for (field, misspelt) in SOURCES {
        if field == "emptyDir" {
            continue;
        }
        let Some(found) = sub(volume, field) else { continue };
        count += 1;
        if count > 1 {
            errors.forbidden(&at.child(misspelt), "may not specify more than 1 volume type");
            continue;
        }
        one(field, found, volume, subject, at, errors);
    }
    if count == 0 {
        errors.required(at, "must specify a volume type");
    }
}

fn one(
    field: &str,
    source: &Object,
    volume: &Object,
    subject: &Subject<'_>,
    parent: &At<'_>,
    errors: &mut Errors,
) {
    let at = &parent.child(field);
    match field {
        "hostPath" => host_path(source, at, errors),
        "secret" => keyed(source, "secretName", at, errors),
        "configMap" => keyed(source, "name", at, errors),
        "downwardAPI" => {
            mode(source, "defaultMode", at, errors);
            number(source, "defaultUser", at, errors);
            for file in items(source, "items") {
                downward_file(file, at, errors);
            }
        }
        "projected" => projected::check(source, at, errors),
        "persistentVolumeClaim" => required(source, &["claimName"], at, errors),
        "csi" => csi(source, at, errors),
        "ephemeral" => ephemeral(source, volume, subject, parent, errors),
        "image" => {
            // What makes pods may leave it to whoever changes them.
            if subject.is_pod && text(source, "reference").is_empty() {
                errors.required(&at.child("reference"), "");
            }
            super::container::pull_policy(text(source, "pullPolicy"), &at.child("pullPolicy"), errors);
        }
        "nfs" => nfs(source, at, errors),
        _ => legacy_volumes::check(field, source, text(volume, "name"), parent, errors),
    }
}

/// Checks a source that a persistent volume has as well; `at` is what has it.
pub(crate) fn persistent_source(field: &str, source: &Object, parent: &At<'_>, errors: &mut Errors) {
    let at = &parent.child(field);
    match field {
        "hostPath" => host_path(source, at, errors),
        "nfs" => nfs(source, at, errors),
        _ => legacy_volumes::check(field, source, "", parent, errors),
    }
}

fn nfs(source: &Object, at: &At<'_>, errors: &mut Errors) {
    required(source, &["server", "path"], at, errors);
    let path = text(source, "path");
    if !path.starts_with('/') {
        errors.invalid(&at.child("path"), path, "must be an absolute path");
    }
}

/// Fields that must have a text.
pub(crate) fn required(source: &Object, fields: &[&str], at: &At<'_>, errors: &mut Errors) {
    for field in fields {
        if text(source, field).is_empty() {
            errors.required(&at.child(field), "");
        }
    }
}

fn host_path(source: &Object, at: &At<'_>, errors: &mut Errors) {
    let path = text(source, "path");
    if path.is_empty() {
        errors.required(&at.child("path"), "");
        return;
    }
    paths::no_backsteps(path, &at.child("path"), errors);
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    let kind = text(source, "type");
    if !TYPES.contains(&kind) {
        errors.not_supported(&at.child("type"), kind, &TYPES);
    }
}

fn keyed(source: &Object, name: &str, at: &At<'_>, errors: &mut Errors) {
    required(source, &[name], at, errors);
    mode(source, "defaultMode", at, errors);
    number(source, "defaultUser", at, errors);
    let at = at.child("items");
    for (index, item) in items(source, "items").enumerate() {
        key_to_path(item, &at.index(index), errors);
    }
}

/// Which key lies at which path.
pub(super) fn key_to_path(item: &Object, at: &At<'_>, errors: &mut Errors) {
    required(item, &["key", "path"], at, errors);
    paths::not_reserved(text(item, "path"), &at.child("path"), errors);
    mode(item, "mode", at, errors);
    number(item, "user", at, errors);
}

/// A file that shows something of the pod.
pub(super) fn downward_file(file: &Object, at: &At<'_>, errors: &mut Errors) {
    required(file, &["path"], at, errors);
    paths::not_reserved(text(file, "path"), &at.child("path"), errors);
    match (sub(file, "fieldRef"), sub(file, "resourceFieldRef")) {
        (Some(field), other) => {
            field_ref(field, &VOLUME_FIELD_PATHS, &at.child("fieldRef"), errors);
            if other.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(at, "resource", why);
            }
        }
        (None, Some(resource)) => resource_ref(resource, &at.child("resourceFieldRef"), true, errors),
        (None, None) => errors.required(at, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(file, "mode", at, errors);
    number(file, "user", at, errors);
}

fn csi(source: &Object, at: &At<'_>, errors: &mut Errors) {
    let driver = text(source, "driver");
    if driver.is_empty() {
        errors.required(&at.child("driver"), "");
    } else {
        if driver.len() > 63 {
            errors.too_long(&at.child("driver"), 63);
        }
        errors.each(&at.child("driver"), driver, content::subdomain(&driver.to_lowercase()));
    }
    if let Some(secret) = sub(source, "nodePublishSecretRef") {
        match text(secret, "name") {
            "" => errors.required(&at.child("nodePublishSecretRef.name"), ""),
            name => errors.each(&at.child("name"), name, content::subdomain(name)),
        }
    }
}

fn ephemeral(source: &Object, volume: &Object, subject: &Subject<'_>, parent: &At<'_>, errors: &mut Errors) {
    let at = &parent.child("ephemeral");
    match sub(source, "volumeClaimTemplate") {
        None => errors.required(&at.child("volumeClaimTemplate"), ""),
        Some(template) => claim_template::check(template, &at.child("volumeClaimTemplate"), errors),
    }
    let name = text(volume, "name");
    if !subject.name.is_empty() && !name.is_empty() {
        let claim = format!("{}-{name}", subject.name);
        for problem in content::subdomain(&claim) {
            errors.invalid(&parent.child("name"), name, format!("PVC name {claim:?}: {problem}"));
        }
    }
}

/// A number within bounds, shown when it is not.
pub(super) fn within(source: &Object, field: &str, most: i64, why: &str, at: &At<'_>, errors: &mut Errors) {
    if let Some(value) = int(source, field).filter(|value| !(0..=most).contains(value)) {
        errors.invalid(&at.child(field), value, why);
    }
}
