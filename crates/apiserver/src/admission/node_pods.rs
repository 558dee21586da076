//! NodeRestriction for pods: a kubelet shows its static pods by mirrors, tells the status of its own pods, and deletes
//! and evicts them.

use kinds::Part;
use schema::{Object, Value};

use super::Attempt;
use super::node::MIRROR;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// Checks what a kubelet does to a pod.
///
/// # Errors
/// 403.
pub fn restrict(attempt: &Attempt<'_>, node: &str, object: Option<&Object>) -> Result<()> {
    let name = attempt.authorized.info().name.as_str();
    let refuse = |why: String| Err(ApiError::forbidden("", "pods", name, &why));
    let bound_elsewhere = |pod: Option<&Object>| pod.is_some_and(|pod| node_of(pod) != node);
    let sub = attempt.authorized.info().subresource.as_str();
    match (attempt.operation, sub) {
        (Operation::Create, "") => match object {
            Some(pod) => match mirror(attempt, node, pod)? {
                Some(why) => Err(ApiError::forbidden("", "pods", pod.name(), &why)),
                None => Ok(()),
            },
            None => Ok(()),
        },
        (_, "eviction") if bound_elsewhere(attempt.old) => {
            refuse(format!("node {node} can only evict pods with spec.nodeName set to itself"))
        }
        (_, "eviction") => Ok(()),
        (Operation::Delete, _) if bound_elsewhere(attempt.old) => {
            refuse(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
        (Operation::Delete, _) => Ok(()),
        (Operation::Update(Part::Status), _) => match (attempt.old, object) {
            (Some(old), Some(new)) => status(node, old, new).map_or(Ok(()), refuse),
            _ => Ok(()),
        },
        (Operation::Update(_), _) => refuse(format!(
            "unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"
        )),
        _ => Ok(()),
    }
}

fn node_of(pod: &Object) -> &str {
    pod.str_at(&["spec", "nodeName"]).unwrap_or_default()
}

/// What is wrong with a status as a kubelet tells it.
fn status(node: &str, old: &Object, new: &Object) -> Option<String> {
    if node_of(old) != node {
        return Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if new.labels() != old.labels() {
        return Some(format!("node {node:?} cannot update labels through pod status"));
    }
    for (field, what) in [
        ("resourceClaimStatuses", "resource claim statues"),
        ("extendedResourceClaimStatus", "extended resource claim status"),
        ("nodeAllocatableResourceClaimStatuses", "node allocatable resource claim statuses"),
    ] {
        if new.at(&["status", field]) != old.at(&["status", field]) {
            return Some(format!("node {node:?} cannot update {what}"));
        }
    }
    None
}

/// What is wrong with a pod that a kubelet makes: it is a mirror, belongs to the node, and names nothing that the
/// kubelet could not read otherwise.
fn mirror(attempt: &Attempt<'_>, node: &str, pod: &Object) -> Result<Option<String>> {
    if pod.annotation(MIRROR).is_none() {
        return Ok(Some(format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        )));
    }
    if node_of(pod) != node {
        return Ok(Some(format!("node {node:?} can only create pods with spec.nodeName set to itself")));
    }
    let owner = match pod.owner_references() {
        [owner] => owner,
        [] => {
            let why = format!("node {node:?} can only create pods with an owner reference set to itself");
            return Ok(Some(why));
        }
        _ => {
            let why =
                format!("node {node:?} can only create pods with a single owner reference set to itself");
            return Ok(Some(why));
        }
    };
    let uid = attempt.read("", "nodes", node)?.map(|node| node.uid().to_owned());
    let Some(uid) = uid else { return Err(ApiError::not_found("", "nodes", node)) };
    Ok(owned(node, &uid, owner).or_else(|| {
        let spec = pod.struct_at(&["spec"])?;
        let what = kinds::pod::api_reference(spec)?;
        Some(format!("node {node:?} can not create pods that reference {what}"))
    }))
}

fn owned(node: &str, uid: &str, owner: &Value) -> Option<String> {
    let text = |field: &str| owner.child(field).and_then(Value::as_str).unwrap_or_default();
    let flag = |field: &str| owner.child(field).and_then(Value::as_bool) == Some(true);
    if text("apiVersion") != "v1" || text("kind") != "Node" || text("name") != node {
        return Some(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !flag("controller") {
        let why =
            format!("node {node:?} can only create pods with a controller owner reference set to itself");
        return Some(why);
    }
    if flag("blockOwnerDeletion") {
        return Some(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    (text("uid") != uid).then(|| format!("node {node} UID mismatch: expected {} got {uid}", text("uid")))
}
