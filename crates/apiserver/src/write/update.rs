//! `PUT`, `PATCH` and every other change of an object that exists.

use std::sync::Arc;

use kinds::Part;
use schema::Object;
use store::Expect;

use super::admit::Operation;
use super::commit::{Committed, Refused};
use super::decode::Decoded;
use super::{WriteContext, admit, commit, prepare, validate};
use crate::cache::Entry;
use crate::codec::Codec;
use crate::convert::convert;
use crate::status::{ApiError, Result};

/// How often a change is made anew when others write in between and the client did not insist on a version.
const TRIES: usize = 30;

/// Makes the new object of the old one; called again when somebody else wrote in between.
pub trait Mutate: Send {
    /// The new object, in the version of the request.
    ///
    /// # Errors
    /// What is answered.
    fn apply(&mut self, old: &Object) -> Result<Decoded>;
}

impl<F: FnMut(&Object) -> Result<Decoded> + Send> Mutate for F {
    fn apply(&mut self, old: &Object) -> Result<Decoded> {
        self(old)
    }
}

/// Changes the object that the request names.
///
/// # Errors
/// 404, 409 when the client's version is not the stored one, and those of every stage.
pub async fn update(
    ctx: &WriteContext<'_>,
    part: Part,
    mutate: &mut dyn Mutate,
) -> Result<(Committed, Vec<String>)> {
    let (codec, _) = ctx.core.codec(ctx.resource)?;
    let mut entry = current(ctx, &codec).await?;
    for _ in 0..TRIES {
        let old = in_request_version(ctx, &codec, &entry)?;
        let mut warnings = Vec::new();
        match attempt(ctx, part, mutate, (&old, entry.revision), &mut warnings).await {
            Ok(done) => return Ok((done, warnings)),
            Err(Attempt::Failed(error)) => return Err(error.warned(warnings)),
            Err(Attempt::Changed { retry: true, now: Some(now) }) => entry = now,
            Err(Attempt::Changed { retry: false, now: Some(_) }) => {
                let resource = ctx.resource;
                return Err(ApiError::modified(&resource.group, &resource.plural, old.name()));
            }
            Err(Attempt::Changed { now: None, .. }) => {
                return Err(ApiError::not_found(&ctx.resource.group, &ctx.resource.plural, old.name()));
            }
        }
    }
    Err(ApiError::modified(&ctx.resource.group, &ctx.resource.plural, entry.name()))
}

enum Attempt {
    Failed(ApiError),
    Changed { retry: bool, now: Option<Arc<Entry>> },
}

impl From<ApiError> for Attempt {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

async fn attempt(
    ctx: &WriteContext<'_>,
    part: Part,
    mutate: &mut dyn Mutate,
    (old, revision): (&Object, u64),
    warnings: &mut Vec<String>,
) -> std::result::Result<Committed, Attempt> {
    let resource = ctx.resource;
    let (mut new, of_decoding) = mutate.apply(old)?.into_parts();
    warnings.extend(of_decoding);
    prepare::namespace(ctx, &mut new)?;
    crate::handlers::resource::same_name(&new, old.name())?;
    // As upstream, which reads either as zero.
    let insists = !matches!(new.resource_version(), "" | "0");
    if insists && new.resource_version().parse::<u64>().is_err() {
        let why = format!("strconv.ParseUint: parsing {:?}: invalid syntax", new.resource_version());
        return Err(ApiError::with_code(500, "", why).into());
    }
    if insists && new.resource_version() != old.resource_version() {
        return Err(ApiError::modified(&resource.group, &resource.plural, old.name()).into());
    }
    prepare::changed_object(&mut new, old);
    let twice = prepare::dedup_owners(&mut new);
    if !twice.is_empty() {
        warnings.push(prepare::owners_warning(&twice, true));
    }
    (resource.rules.defaults)(&mut new);
    if let Some(custom) = &resource.custom {
        custom.apply_defaults(&mut new);
    }
    let now = prepare::whole_seconds(ctx.core.clock.now());
    let prepare = |new: &mut Object| {
        prepare::keep_generate_name(new, old);
        if part == Part::Main {
            (resource.rules.dated)(new, Some(old), now);
        }
        (resource.rules.gated)(new, Some(old), part, ctx.core.settings.gates);
        (resource.rules.prepare_update)(new, old, part);
    };
    let admitted = admit::admit(ctx, Operation::Update(part), new, Some(old.clone()), prepare).await?;
    let (admitted, reservation) = ctx.core.allocators.reserve(ctx, admitted)?;
    let valid = validate::validate(resource, admitted, part)?;
    warnings.extend((resource.rules.warnings)(valid.object(), Some(old), part));
    let allowed = admit::allow(ctx, Operation::Update(part), valid, warnings).await?;
    let mut same = allowed.object().clone();
    commit::forget_empty(&ctx.core.codec(resource)?.0, &mut same);
    same.set_resource_version(old.resource_version());
    if same == *old {
        // Nothing changed: nothing is written, and watchers hear nothing.
        return Ok(Committed { object: same, created: false });
    }
    if is_finished(allowed.object()) {
        let mut object = allowed.into_object();
        return match commit::delete(ctx, &object, revision).await {
            Ok(deleted) => {
                object.set_resource_version(&deleted.unwrap_or(revision).to_string());
                Ok(Committed { object, created: false })
            }
            Err(refused) => Err(changed(refused, !insists)),
        };
    }
    match commit::put(ctx, allowed, Expect::Revision(revision)).await {
        Ok(committed) => {
            if !ctx.options.dry_run {
                reservation.keep();
            }
            Ok(committed)
        }
        Err(refused) => Err(changed(refused, !insists)),
    }
}

fn changed(refused: Refused, retry: bool) -> Attempt {
    match refused {
        Refused::Failed(error) => Attempt::Failed(error),
        Refused::Changed(now) => Attempt::Changed { retry, now },
    }
}

/// Whether an object that is being deleted has nothing left that keeps it.
pub fn is_finished(object: &Object) -> bool {
    object.deletion_timestamp().is_some()
        && object.finalizers().is_empty()
        && object.int_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default() == 0
        && object
            .list_at(&["spec", "finalizers"])
            .is_none_or(|list| object.kind() != "Namespace" || list.is_empty())
}

/// The entry of the object that the request names, as of now or later.
///
/// # Errors
/// 404.
pub async fn current(ctx: &WriteContext<'_>, codec: &Codec) -> Result<Arc<Entry>> {
    ctx.core.consistent().await?;
    let (_, cache) = ctx.core.codec(ctx.resource)?;
    let name = &ctx.authorized.info().name;
    let key = if codec.namespaced { format!("{}/{name}", ctx.namespace()) } else { name.clone() };
    let resource = ctx.resource;
    cache.get(&key).ok_or_else(|| ApiError::not_found(&resource.group, &resource.plural, name))
}

/// The object of an entry, in the version of the request.
///
/// # Errors
/// 500 when what is stored cannot be read.
pub fn in_request_version(ctx: &WriteContext<'_>, codec: &Codec, entry: &Entry) -> Result<Object> {
    let object = codec.object(entry).map_err(ApiError::internal)?;
    convert(object, &ctx.resource.api_version(), &ctx.resource.kind, &ctx.resource.ty)
}
