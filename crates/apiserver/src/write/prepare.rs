//! What the server itself decides about an object's metadata.

use jiff::Timestamp;
use schema::{Object, Value};

use super::WriteContext;
use crate::status::{ApiError, Result};

/// The longest prefix that a generated name keeps (`apiserver/pkg/storage/names`).
const MAX_GENERATED_PREFIX: usize = 63 - 5;

/// Makes a decoded object a new one: checks its namespace, names it, gives it a UID and its time.
///
/// # Errors
/// 400 when the namespace is not the path's. Of a missing name validation tells.
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
    (ctx.resource.rules.gated)(object, None, kinds::Part::Main, ctx.core.settings.gates);
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

/// Gives a changed object what only the server may change: UID, times, deletion. What another UID is, validation says.
pub fn changed_object(new: &mut Object, old: &Object) {
    if new.uid().is_empty() {
        new.set_uid(old.uid());
    }
    if let Some(made) = old.creation_timestamp() {
        new.set_creation_timestamp(made);
    }
    // What another value of it is, validation says.
    let grace = |object: &Object| object.int_at(&["metadata", "deletionGracePeriodSeconds"]);
    let grace = grace(new).or_else(|| grace(old));
    new.set_deletion(old.deletion_timestamp().or(new.deletion_timestamp()), grace);
    new.set_generation(old.generation());
    new.metadata_mut().remove("selfLink");
}

/// An object keeps the prefix that its name was generated from when its client leaves it out.
pub fn keep_generate_name(new: &mut Object, old: &Object) {
    if new.generate_name().is_empty() && !old.generate_name().is_empty() {
        let generate_name = old.generate_name().to_owned();
        new.metadata_mut().set("generateName", generate_name);
    }
}

/// An object that replaces another one means the one whose UID it names.
///
/// # Errors
/// 409 when that is another one.
pub fn same_uid(ctx: &WriteContext<'_>, new: &Object, old: &Object) -> Result<()> {
    if new.uid().is_empty() || new.uid() == old.uid() {
        return Ok(());
    }
    let resource = ctx.resource;
    let (codec, _) = ctx.core.codec(resource)?;
    let key = codec.store_key(old.namespace(), old.name());
    let key = key.strip_prefix(&codec.cluster_prefix).unwrap_or(&key);
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: /{key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {}, UID in object meta: {}",
        new.uid(),
        old.uid()
    );
    Err(ApiError::conflict(&resource.group, &resource.plural, old.name(), &why))
}

/// Leaves one of several references to the same owner, which differ only in nothing; the UIDs of those that were said
/// more than once.
pub fn dedup_owners(object: &mut Object) -> Vec<String> {
    let mut kept: Vec<Value> = Vec::new();
    let mut twice: Vec<String> = Vec::new();
    for owner in object.owner_references() {
        if !kept.contains(owner) {
            kept.push(owner.clone());
            continue;
        }
        let uid = owner.child("uid").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !twice.contains(&uid) {
            twice.push(uid);
        }
    }
    if !twice.is_empty() {
        twice.sort_unstable();
        object.metadata_mut().set("ownerReferences", Value::List(kept));
    }
    twice
}

/// What is said of UIDs that [`dedup_owners`] found.
pub fn owners_warning(uids: &[String], after_mutation: bool) -> String {
    let after = if after_mutation { " after mutating admission happens" } else { "" };
    format!(
        ".metadata.ownerReferences contains duplicate entries{after}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
        uids.join(", ")
    )
}

/// A time as `metav1.Time` keeps it.
pub fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
