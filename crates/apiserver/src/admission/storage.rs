//! What new claims and volumes get: a class (`DefaultStorageClass`), and what holds them while they are used
//! (`StorageObjectInUseProtection`).

use std::cmp::Reverse;

use kinds::DEFAULT_CLASS;
use schema::{Object, Value};

use super::Attempt;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// A claim's annotation that names its class, as it once was done.
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Gives a new claim that says nothing of its class the one that is the default, the newest where there are several.
///
/// # Errors
/// 500 when what is stored cannot be read.
pub fn default_class(attempt: &Attempt<'_>, claim: &mut Object) -> Result<()> {
    let is_new = attempt.operation == Operation::Create
        && attempt.is_core("persistentvolumeclaims")
        && !attempt.is_sub();
    let is_named = claim.at(&["spec", "storageClassName"]).is_some()
        || claim.map_at(&["metadata", "annotations"]).is_some_and(|all| all.get_str(OLD_CLASS).is_some());
    if !is_new || is_named {
        return Ok(());
    }
    let registry = attempt.core.registry();
    let Some(resource) = registry.preferred("storage.k8s.io", "storageclasses") else { return Ok(()) };
    let (codec, cache) = attempt.core.codec(resource)?;
    let mut defaults = Vec::new();
    for entry in cache.list("").1 {
        let class = codec.object(&entry).map_err(ApiError::internal)?;
        if is_default(&class) {
            let made = class.at(&["metadata", "creationTimestamp"]).and_then(Value::as_time);
            defaults.push((Reverse(made), class.name().to_owned()));
        }
    }
    if let Some((_, name)) = defaults.into_iter().min()
        && let Some(spec) = claim.struct_mut("spec")
    {
        spec.set("storageClassName", name);
    }
    Ok(())
}

fn is_default(class: &Object) -> bool {
    let annotations = class.map_at(&["metadata", "annotations"]);
    DEFAULT_CLASS.iter().any(|name| annotations.and_then(|all| all.get_str(name)) == Some("true"))
}

/// Gives a new claim or volume the finalizer that its controller takes away.
pub fn protect(attempt: &Attempt<'_>, object: &mut Object) {
    if attempt.operation != Operation::Create || attempt.is_sub() {
        return;
    }
    let finalizer = match (attempt.resource.group.as_str(), attempt.resource.plural.as_str()) {
        ("", "persistentvolumeclaims") => "kubernetes.io/pvc-protection",
        ("", "persistentvolumes") => "kubernetes.io/pv-protection",
        _ => return,
    };
    let has = object.list_at(&["metadata", "finalizers"]).unwrap_or_default();
    if has.iter().any(|own| own.as_str() == Some(finalizer)) {
        return;
    }
    let all: Vec<Value> = has.iter().cloned().chain([Value::Str(finalizer.to_owned())]).collect();
    if let Some(metadata) = object.struct_mut("metadata") {
        metadata.set("finalizers", Value::List(all));
    }
}
