//! The commit: the one place where the API server changes the store.

use std::sync::Arc;

use schema::Object;
use store::{Change, Expect, Op, StoreError};

use super::WriteContext;
use super::admit::Allowed;
use crate::cache::Entry;
use crate::codec::Codec;
use crate::convert::convert;
use crate::registry::StoredAs;
use crate::status::{ApiError, Result};

/// An object as it was committed, in the version of the request, with its resource version.
pub struct Committed {
    /// The object.
    pub object: Object,
    /// Whether it was made by this write.
    pub created: bool,
}

/// What a commit found instead of what it expected.
pub enum Refused {
    /// Somebody else wrote: the object is now this, or gone.
    Changed(Option<Arc<Entry>>),
    /// Anything else.
    Failed(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Failed(error)
    }
}

/// Commits an object if what is stored under its name was last written at `expect`.
///
/// # Errors
/// [`Refused::Changed`] with what is there now.
pub async fn put(
    ctx: &WriteContext<'_>,
    allowed: Allowed,
    expect: Expect,
) -> std::result::Result<Committed, Refused> {
    let resource = ctx.resource;
    let (codec, _) = ctx.core.codec(resource)?;
    let created = expect == Expect::Absent;
    if ctx.options.dry_run {
        return dry(ctx, allowed, created).await;
    }
    let mut object = allowed.into_object();
    forget_empty(&codec, &mut object);
    let key = codec.store_key(object.namespace(), object.name());
    let mut stored = convert(object.clone(), &codec.storage.api_version, &resource.kind, &codec.storage.ty)?;
    stored.set_resource_version("");
    let value = codec.to_stored(&key, &stored).map_err(ApiError::internal)?;
    let lease = lease(ctx, &object).await?;
    let op = Op { key: key.into(), expect, change: Change::Put { value, lease } };
    match ctx.core.store.commit(vec![op]).await {
        Ok(commit) => {
            object.set_resource_version(&commit.revision.to_string());
            Ok(Committed { object, created })
        }
        Err(error) => Err(refused(&codec, &object, error)),
    }
}

/// Makes of an object what will be read of it.
pub(super) fn forget_empty(codec: &Codec, object: &mut Object) {
    if codec.storage.stored_as == StoredAs::Protobuf {
        schema::protobuf::forget_empty(object);
    }
}

/// Does all of a commit but the write: a name that is taken stays so.
async fn dry(
    ctx: &WriteContext<'_>,
    allowed: Allowed,
    created: bool,
) -> std::result::Result<Committed, Refused> {
    let mut object = allowed.into_object();
    let (codec, cache) = ctx.core.codec(ctx.resource)?;
    forget_empty(&codec, &mut object);
    if created {
        ctx.core.consistent().await?;
        let (namespace, name) = (object.namespace(), object.name());
        let key = if codec.namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
        let taken = cache.get(&key);
        if taken.is_some() {
            return Err(Refused::Changed(taken));
        }
    }
    Ok(Committed { object, created })
}

/// Events go an hour after they were written, as upstream's `--event-ttl` has it.
const EVENT_TTL_SECONDS: i64 = 3600;

async fn lease(ctx: &WriteContext<'_>, object: &Object) -> Result<Option<store::LeaseId>> {
    if object.kind() != "Event" || ctx.resource.plural != "events" {
        return Ok(None);
    }
    Ok(Some(ctx.core.event_leases.current(ctx.core, EVENT_TTL_SECONDS).await?))
}

/// Removes an object that was last written at `revision`.
///
/// # Errors
/// [`Refused::Changed`] with what is there now.
pub async fn delete(
    ctx: &WriteContext<'_>,
    object: &Object,
    revision: u64,
) -> std::result::Result<Option<u64>, Refused> {
    if ctx.options.dry_run {
        return Ok(None);
    }
    let (codec, _) = ctx.core.codec(ctx.resource)?;
    let key = codec.store_key(object.namespace(), object.name());
    let op = Op { key: key.into(), expect: Expect::Revision(revision), change: Change::Delete };
    match ctx.core.store.commit(vec![op]).await {
        Ok(commit) => Ok(Some(commit.revision)),
        Err(error) => Err(refused(&codec, object, error)),
    }
}

fn refused(codec: &Codec, object: &Object, error: StoreError) -> Refused {
    match error {
        StoreError::Conflict { current: None, .. } => Refused::Changed(None),
        StoreError::Conflict { current: Some(kv), .. } => {
            match codec.entry_of(object.namespace(), object.name(), &kv) {
                Ok(entry) => Refused::Changed(Some(Arc::new(entry))),
                Err(error) => Refused::Failed(ApiError::internal(error)),
            }
        }
        other => Refused::Failed(other.into()),
    }
}
