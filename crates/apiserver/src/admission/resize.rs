//! PodResizeValidator: a pod does not ask for more than its node has.

use kinds::Part;
use schema::Object;

use super::Attempt;
use crate::status::{ApiError, Cause, Result};
use crate::write::admit::Operation;

/// Refuses a size that the node of a pod can never give it.
///
/// # Errors
/// 403, with the kind of shortage as its cause.
pub fn validate(attempt: &Attempt<'_>, pod: &Object) -> Result<()> {
    if !attempt.is_core("pods") || attempt.operation != Operation::Update(Part::Other("resize")) {
        return Ok(());
    }
    let name = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
    let unchanged = attempt.old.is_some_and(|old| old.get("spec") == pod.get("spec"));
    if name.is_empty() || unchanged {
        return Ok(());
    }
    let Some(node) = attempt.read("", "nodes", name)? else {
        return Err(ApiError::forbidden("", "pods", pod.name(), &format!("node {name:?} not found")));
    };
    let Some(refusal) = kinds::pod::refuse_resize(pod, &node) else { return Ok(()) };
    let mut error = ApiError::forbidden("", "pods", pod.name(), &refusal.why);
    let cause = Cause { reason: refusal.cause.to_owned(), message: String::new(), field: String::new() };
    error.details.get_or_insert_default().causes.push(cause);
    Err(error)
}
