//! `VolumeAttachment`: that a volume is to be at a node, and whether it is.

use schema::Object;

use super::{volume, without_generation};
use crate::content;
use crate::edit;
use crate::field::{At, Errors, Json};
use crate::meta::Looks;
use crate::pod::validate::read::{entries, int, maybe, sub, text};
use crate::rules::{GENERIC, Part, Rules};

const LONGEST_MESSAGE: usize = 1024;
const MOST_METADATA: usize = 256 * 1024;

/// The rules of `VolumeAttachment`.
pub(crate) const ATTACHMENT: Rules = Rules {
    defaults: |attachment| {
        edit::within(attachment, "spec", |spec| {
            edit::within(spec, "source", |source| {
                edit::within(source, "inlineVolumeSpec", crate::pod::source_defaults);
            });
        });
    },
    prepare_create: |attachment| drop(attachment.remove("status")),
    prepare_update: without_generation,
    validate_create: validate,
    validate_update: |new, old, part, errors| {
        if matches!(part, Part::Main | Part::Status) {
            validate(new, errors);
            immutable(new, old, errors);
        }
    },
    looks: Looks::WHOLE,
    ..GENERIC
};

fn validate(attachment: &Object, errors: &mut Errors) {
    let nothing = Object::new(attachment.ty().clone());
    let (at, spec) = (At::new("spec"), sub(attachment, "spec").unwrap_or(&nothing));
    crate::resource::driver_name(text(spec, "attacher"), &at.child("attacher"), errors);
    let source_at = at.child("source");
    let volume_name = sub(spec, "source").and_then(|source| maybe(source, "persistentVolumeName"));
    source(sub(spec, "source").unwrap_or(&nothing), &source_at, errors);
    let node = text(spec, "nodeName");
    errors.each(&at.child("nodeName"), node, content::subdomain(node));
    if let Some(status) = sub(attachment, "status") {
        self::status(status, &At::new("status"), errors);
    }
    if let Some(name) = volume_name {
        errors.each(&source_at.child("persistentVolumeName"), name, content::subdomain(name));
    }
}

fn source(source: &Object, at: &At<'_>, errors: &mut Errors) {
    let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (sub(source, "inlineVolumeSpec"), maybe(source, "persistentVolumeName")) {
        (None, None) => errors.required(at, why),
        (Some(_), Some(_)) => errors.forbidden(at, why),
        (None, Some("")) => {
            let why = "must specify non empty persistentVolumeName";
            errors.required(&at.child("persistentVolumeName"), why);
        }
        (None, Some(_)) => {}
        (Some(spec), None) => volume::inline(spec, &at.child("inlineVolumeSpec"), errors),
    }
}

fn status(status: &Object, at: &At<'_>, errors: &mut Errors) {
    let size: usize = entries(status, "attachmentMetadata").map(|(key, value)| key.len() + value.len()).sum();
    if size > MOST_METADATA {
        errors.too_long(&at.child("attachmentMetadata"), MOST_METADATA);
    }
    for field in ["attachError", "detachError"] {
        let Some(error) = sub(status, field) else { continue };
        let at = at.child(field);
        if text(error, "message").len() > LONGEST_MESSAGE {
            // Upstream tells the limit of another field.
            errors.too_long(&at.child("message"), MOST_METADATA);
        }
        if let Some(code) = int(error, "errorCode").filter(|code| *code < 0) {
            let why = format!("must be between 0 and {}, inclusive", i32::MAX);
            errors.invalid(&at.child("errorCode"), code, why);
        }
    }
}

/// What v1.37 declares immutable is not shown.
fn immutable(new: &Object, old: &Object, errors: &mut Errors) {
    let same = match (sub(new, "spec"), sub(old, "spec")) {
        (Some(new), Some(old)) => edit::same(new, old),
        (new, old) => new.is_none() && old.is_none(),
    };
    if !same {
        errors.invalid(&At::new("spec"), Json("null".to_owned()), "field is immutable");
    }
}
