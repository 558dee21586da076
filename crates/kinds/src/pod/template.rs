//! `PodTemplate`, the kind: a template that lies in the store by itself.

use schema::Object;

use super::template_defaults;
use super::validate::validate_template;
use crate::edit;
use crate::field::{Errors, Path};
use crate::rules::{GENERIC, Part, Rules};

/// The rules of `PodTemplate`.
pub(crate) const RULES: Rules = Rules {
    defaults: |object| edit::made(object, "template", template_defaults),
    gated: |new, old, _, gates| {
        let old = old.and_then(|old| old.struct_at(&["template"]));
        edit::within(new, "template", |template| super::unserved::drop(template, old, gates));
    },
    prepare_create: |object| object.set_generation(1),
    prepare_update: |new: &mut Object, old: &Object, _: Part| {
        let changed = new.get("template") != old.get("template");
        new.set_generation(old.generation() + i64::from(changed));
    },
    validate,
    ..GENERIC
};

fn validate(object: &Object, errors: &mut Errors) {
    if let Some(template) = object.struct_at(&["template"]) {
        validate_template(template, &Path::new("template"), errors);
    }
}
