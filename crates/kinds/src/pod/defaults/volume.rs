//! Volumes and their sources.

use schema::{Object, Value};

use super::super::validate::read::text as text_of;
use super::{amounts, pull_policy};
use crate::edit::{each, flag, made, number, present, text, within};

const FILE_MODE: i64 = 0o644;

/// Fills in a volume; one without a source is an empty folder.
pub(super) fn defaults(volume: &mut Object) {
    if volume.fields().all(|(field, _)| &*field.json == "name") {
        present(volume, "emptyDir");
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        within(volume, source, |source| number(source, "defaultMode", FILE_MODE));
    }
    within(volume, "hostPath", |source| maybe_text(source, "type", ""));
    within(volume, "downwardAPI", |source| each(source, "items", file));
    within(volume, "projected", |source| {
        each(source, "sources", |projection| {
            within(projection, "downwardAPI", |source| each(source, "items", file));
            within(projection, "serviceAccountToken", |token| number(token, "expirationSeconds", 3600));
        });
    });
    within(volume, "ephemeral", |source| within(source, "volumeClaimTemplate", claim));
    within(volume, "image", |image| {
        if text_of(image, "pullPolicy").is_empty() {
            let policy = pull_policy(text_of(image, "reference"));
            image.set("pullPolicy", policy);
        }
    });
    vendors(volume);
}

/// Fills in a source of the older kinds, wherever it stands.
pub(crate) fn vendors(volume: &mut Object) {
    within(volume, "iscsi", |source| text(source, "iscsiInterface", "default"));
    within(volume, "rbd", |source| {
        text(source, "pool", "rbd");
        text(source, "user", "admin");
        text(source, "keyring", "/etc/ceph/keyring");
    });
    within(volume, "azureDisk", |source| {
        maybe_text(source, "cachingMode", "ReadWrite");
        maybe_text(source, "fsType", "ext4");
        flag(source, "readOnly", false);
        maybe_text(source, "kind", "Shared");
    });
    within(volume, "scaleIO", |source| {
        text(source, "storageMode", "ThinProvisioned");
        text(source, "fsType", "xfs");
    });
}

/// A text that may be empty and is never absent.
fn maybe_text(source: &mut Object, field: &str, value: &str) {
    if source.get(field).is_none() {
        source.set(field, Value::Str(value.to_owned()));
    }
}

fn claim(template: &mut Object) {
    made(template, "spec", |spec| {
        maybe_text(spec, "volumeMode", "Filesystem");
        if spec.get("resources").is_some() {
            within(spec, "resources", amounts::round_requirements);
        }
    });
}

fn file(item: &mut Object) {
    within(item, "fieldRef", |field| text(field, "apiVersion", "v1"));
}
