//! NodeDeclaredFeatureValidator: a pod that has a node is changed only as that node can follow (KEP-5328).

use kinds::Part;
use schema::Object;

use super::Attempt;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// Refuses a change that needs what the node of a pod does not declare.
///
/// # Errors
/// 403.
pub fn validate(attempt: &Attempt<'_>, pod: &Object) -> Result<()> {
    let looked_at = [Part::Main, Part::Other("resize")].map(Operation::Update);
    if !attempt.is_core("pods") || !looked_at.contains(&attempt.operation) {
        return Ok(());
    }
    let (Some(old), Some(name)) = (attempt.old, pod.str_at(&["spec", "nodeName"])) else { return Ok(()) };
    let needed = kinds::pod::needed_by_update(pod, old);
    if name.is_empty() || needed.is_empty() {
        return Ok(());
    }
    let forbidden = |why: String| Err(ApiError::forbidden("", "pods", pod.name(), &why));
    let Some(node) = attempt.read("", "nodes", name)? else {
        return forbidden(format!("node {name:?} not found"));
    };
    let declared = node.list_at(&["status", "declaredFeatures"]).unwrap_or_default();
    let declares = |feature: &&str| declared.iter().any(|known| known.as_str() == Some(*feature));
    let missing: Vec<&str> = needed.into_iter().filter(|feature| !declares(feature)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(", ");
    forbidden(format!("pod update requires features {missing} which are not available on node {name:?}"))
}
