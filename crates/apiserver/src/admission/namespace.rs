//! NamespaceLifecycle: nothing is made in a namespace that is not there or going, and some must not go.

use super::Attempt;
use crate::status::{ApiError, Cause, Result};
use crate::write::admit::Operation;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Whether the namespace of a write is not in the watch cache.
pub fn is_missing(attempt: &Attempt<'_>) -> bool {
    let namespace = &attempt.authorized.info().namespace;
    !namespace.is_empty() && attempt.find("", "namespaces", namespace).is_none()
}

/// Checks the namespace of a write.
///
/// # Errors
/// 403 for an immortal or terminating namespace, 404 for one that does not exist.
pub fn lifecycle(attempt: &Attempt<'_>) -> Result<()> {
    let info = attempt.authorized.info();
    let (group, plural) = (&attempt.resource.group, &attempt.resource.plural);
    if attempt.is_core("namespaces") {
        if attempt.operation == Operation::Delete && IMMORTAL.contains(&info.name.as_str()) {
            return Err(ApiError::forbidden(group, plural, &info.name, "this namespace may not be deleted"));
        }
        return Ok(());
    }
    if info.namespace.is_empty() || attempt.operation != Operation::Create {
        return Ok(());
    }
    // Access reviews ask about namespaces that need not exist.
    if attempt.resource.stored.is_none() && attempt.resource.group == "authorization.k8s.io" {
        return Ok(());
    }
    let namespace = &info.namespace;
    let Some(found) = attempt.read("", "namespaces", namespace)? else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if found.deletion_timestamp().is_none() {
        return Ok(());
    }
    let name = info.name.as_str();
    let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
    let mut error = ApiError::forbidden(group, plural, name, &why);
    if let Some(details) = &mut error.details {
        details.causes.push(Cause {
            reason: "NamespaceTerminating".to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
    }
    Err(error)
}
