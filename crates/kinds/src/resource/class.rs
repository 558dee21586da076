//! Classes of devices.

use super::parts::{configuration, selectors, slice};
use crate::field::{At, Errors};
use crate::meta::Looks;
use crate::pod::validate::read::{items, maybe, sub};
use crate::pod::validate::resources::is_extended;
use crate::rules::{GENERIC, Rules};
use schema::Object;

const MOST_CONFIGURATIONS: usize = 32;

/// The rules of `DeviceClass`.
pub(crate) const CLASS: Rules = Rules { validate, looks: Looks::BOTH, ..GENERIC };

fn validate(class: &Object, errors: &mut Errors) {
    let Some(spec) = sub(class, "spec") else { return };
    let at = At::new("spec");
    selectors(spec, &at, errors);
    slice(items(spec, "config"), MOST_CONFIGURATIONS, &at.child("config"), errors, configuration);
    if let Some(name) = maybe(spec, "extendedResourceName").filter(|name| !is_extended(name)) {
        let why = "must be a valid extended resource name";
        errors.invalid(&at.child("extendedResourceName"), name, why);
    }
}
