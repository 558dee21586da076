//! What the server itself decides about an object's metadata.

use jiff::Timestamp;
use schema::Object;

use super::WriteContext;
use super::validate::group_of_errors;
use crate::status::{ApiError, Result};

/// The longest prefix that a generated name keeps (`apiserver/pkg/storage/names`).
const MAX_GENERATED_PREFIX: usize = 63 - 5;

/// Makes a decoded object a new one: checks its namespace, names it, gives it a UID and its time.
///
/// # Errors
/// 400 when the namespace is not the path's, or a name is missing.
pub fn new_object(ctx: &WriteContext<'_>, object: &mut Object) -> Result<()> {
    namespace(ctx, object)?;
    let info = ctx.authorized.info();
    if !info.name.is_empty() && info.subresource.is_empty() && object.name().is_empty() {
        object.set_name(&info.name);
    }
    if object.name().is_empty() && !object.generate_name().is_empty() {
        let base: String = object.generate_name().chars().take(MAX_GENERATED_PREFIX).collect();
        object.set_name(&format!("{base}{}", ctx.core.random.suffix(5)));
    }
    if object.name().is_empty() {
        let mut errors = kinds::field::Errors::new();
        let path = kinds::field::Path::new("metadata").child("name");
        errors.required(&path, "name or generateName is required");
        return Err(ApiError::invalid(group_of_errors(ctx.resource), &ctx.resource.kind, "", &errors));
    }
    // Upstream's store says so, which gives it no code of its own, and is not asked when nothing is written.
    let versioned = object.resource_version().parse::<u64>().is_ok_and(|version| version != 0);
    if versioned && !ctx.options.dry_run {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(ApiError::with_code(500, "", why));
    }
    object.set_resource_version("");
    let metadata = object.metadata_mut();
    metadata.remove("selfLink");
    object.set_deletion(None, None);
    let uid = ctx.core.random.uuid();
    object.set_uid(&uid);
    object.set_creation_timestamp(whole_seconds(ctx.core.clock.now()));
    Ok(())
}

/// Has the kind of a new object set what is not its creator's to set.
pub fn of_its_kind(ctx: &WriteContext<'_>, object: &mut Object) {
    (ctx.resource.rules.prepare_create)(object);
    let user = ctx.authorized.user();
    let creator =
        kinds::Creator { name: &user.name, uid: &user.uid, groups: &user.groups, extra: &user.extra };
    (ctx.resource.rules.created_by)(object, &creator);
    (ctx.resource.rules.dated)(object, None, whole_seconds(ctx.core.clock.now()));
}

/// Checks or fills in the namespace.
///
/// # Errors
/// 400 when the object names another one than the path. What has no namespace keeps none.
pub fn namespace(ctx: &WriteContext<'_>, object: &mut Object) -> Result<()> {
    let namespace = ctx.namespace();
    if !ctx.resource.namespaced {
        object.set_namespace("");
        return Ok(());
    }
    if object.namespace().is_empty() {
        object.set_namespace(namespace);
    }
    if object.namespace() == namespace {
        Ok(())
    } else {
        Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ))
    }
}

/// Gives a changed object what only the server may change: UID, times, deletion.
///
/// # Errors
/// 409 when the update names another UID.
pub fn changed_object(ctx: &WriteContext<'_>, new: &mut Object, old: &Object) -> Result<()> {
    let resource = ctx.resource;
    if !new.uid().is_empty() && new.uid() != old.uid() {
        let why = format!(
            "Precondition failed: UID in precondition: {}, UID in object meta: {}",
            new.uid(),
            old.uid()
        );
        return Err(ApiError::conflict(&resource.group, &resource.plural, old.name(), &why));
    }
    new.set_uid(old.uid());
    if let Some(made) = old.creation_timestamp() {
        new.set_creation_timestamp(made);
    }
    // What another value of it is, validation says.
    let grace = |object: &Object| object.int_at(&["metadata", "deletionGracePeriodSeconds"]);
    let grace = grace(new).or_else(|| grace(old));
    new.set_deletion(old.deletion_timestamp().or(new.deletion_timestamp()), grace);
    new.set_generation(old.generation());
    new.metadata_mut().remove("selfLink");
    if new.generate_name().is_empty() && !old.generate_name().is_empty() {
        let generate_name = old.generate_name().to_owned();
        new.metadata_mut().set("generateName", generate_name);
    }
    Ok(())
}

/// A time as `metav1.Time` keeps it.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
