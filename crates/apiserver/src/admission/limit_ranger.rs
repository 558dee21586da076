//! LimitRanger: pods and claims within what their namespace's ranges say.

use kinds::Part;
use kinds::pod::limits;
use schema::Object;

use super::Attempt;
use super::pod::is_new_pod;
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// Fills in what containers leave out.
///
/// # Errors
/// 500 when a range cannot be read.
pub fn mutate(attempt: &Attempt<'_>, object: &mut Object) -> Result<()> {
    if is_new_pod(attempt) {
        for range in ranges(attempt)? {
            limits::fill_in(&range, object);
        }
    }
    Ok(())
}

/// Refuses what is out of range.
///
/// # Errors
/// 403.
pub fn validate(attempt: &Attempt<'_>, object: &Object) -> Result<()> {
    let resize = attempt.is_core("pods") && attempt.operation == Operation::Update(Part::Other("resize"));
    let claim = attempt.is_core("persistentvolumeclaims")
        && !attempt.is_sub()
        && attempt.operation != Operation::Delete;
    if !is_new_pod(attempt) && !resize && !claim {
        return Ok(());
    }
    if attempt.old.is_some_and(|old| old.deletion_timestamp().is_some()) {
        return Ok(());
    }
    for range in ranges(attempt)? {
        let found =
            if claim { limits::forbidden_claim(&range, object) } else { limits::forbidden(&range, object) };
        if let Some(why) = found {
            return Err(ApiError::forbidden("", &attempt.resource.plural, object.name(), &why));
        }
    }
    Ok(())
}

fn ranges(attempt: &Attempt<'_>) -> Result<Vec<Object>> {
    let registry = attempt.core.registry();
    let Some(resource) = registry.preferred("", "limitranges") else { return Ok(Vec::new()) };
    let (codec, cache) = attempt.core.codec(resource)?;
    let entries = cache.list(attempt.namespace()).1;
    entries.iter().map(|entry| codec.object(entry).map_err(ApiError::internal)).collect()
}
