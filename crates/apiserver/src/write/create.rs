//! `POST` of an object.

use kinds::Part;
use schema::Object;
use store::Expect;

use super::admit::Operation;
use super::commit::{Committed, Refused};
use super::decode::Decoded;
use super::{WriteContext, admit, commit, prepare, validate};
use crate::status::{ApiError, Result};

/// How often another generated name is tried when one is taken.
const NAME_TRIES: usize = 8;

/// Makes an object of what was decoded.
///
/// # Errors
/// Those of every stage; 409 when the name is taken. What was to be warned of goes with them.
pub async fn create(ctx: &WriteContext<'_>, decoded: Decoded) -> Result<(Committed, Vec<String>)> {
    let (mut object, mut warnings) = decoded.into_parts();
    let twice = prepare::dedup_owners(&mut object);
    if !twice.is_empty() {
        warnings.push(prepare::owners_warning(&twice, false));
    }
    match make(ctx, &object, &mut warnings).await {
        Ok(committed) => Ok((committed, warnings)),
        Err(error) => Err(error.warned(warnings)),
    }
}

async fn make(ctx: &WriteContext<'_>, object: &Object, warnings: &mut Vec<String>) -> Result<Committed> {
    let generated = object.name().is_empty();
    let mut tries = if generated { NAME_TRIES } else { 1 };
    loop {
        tries -= 1;
        let mut object = object.clone();
        prepare::new_object(ctx, &mut object)?;
        (ctx.resource.rules.defaults)(&mut object);
        if let Some(custom) = &ctx.resource.custom {
            custom.apply_defaults(&mut object);
        }
        let prepare = |object: &mut Object| prepare::of_its_kind(ctx, object);
        let admitted = admit::admit(ctx, Operation::Create, object, None, prepare).await?;
        // Reserved before the commit, let go of when it fails.
        let (admitted, reservation) = ctx.core.allocators.reserve(ctx, admitted)?;
        let valid = validate::validate(ctx.resource, admitted, Part::Main)?;
        warnings.extend((ctx.resource.rules.warnings)(valid.object(), None, Part::Main));
        let allowed = admit::allow(ctx, Operation::Create, valid, warnings).await?;
        let name = allowed.object().name().to_owned();
        match commit::put(ctx, allowed, Expect::Absent).await {
            Ok(committed) => {
                if !ctx.options.dry_run {
                    reservation.keep();
                }
                return Ok(committed);
            }
            Err(Refused::Failed(error)) => return Err(error),
            Err(Refused::Changed(_)) if tries > 0 => {}
            Err(Refused::Changed(_)) => {
                return Err(ApiError::already_exists(&ctx.resource.group, &ctx.resource.plural, &name));
            }
        }
    }
}
