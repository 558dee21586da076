//! `DELETE`: graceful where the kind says so, waiting for finalizers, with the dependents as the client wishes.

use std::sync::Arc;
use std::time::Duration;

use schema::{Object, Value};
use store::Expect;

use super::admit::Operation;
use super::commit::Refused;
use super::{WriteContext, admit, commit, update, validate};
use crate::admission;
use crate::cache::Entry;
use crate::options::{DeleteOptions, Propagation};
use crate::status::{ApiError, Result};

/// What became of an object.
pub enum Deletion {
    /// It is gone; this was its last state.
    Gone(Object),
    /// It is still there, marked as being deleted.
    Marked(Object),
}

const TRIES: usize = 30;

/// Deletes the object that the request names.
///
/// # Errors
/// 404, 409 when a precondition does not hold, and those of admission.
pub async fn delete(ctx: &WriteContext<'_>, options: &DeleteOptions) -> Result<(Deletion, Vec<String>)> {
    let (codec, _) = ctx.core.codec(ctx.resource)?;
    let entry = update::current(ctx, &codec).await?;
    delete_entry(ctx, options, entry).await
}

/// Deletes the object of an entry, or what became of it since.
///
/// # Errors
/// As [`delete`].
pub async fn delete_entry(
    ctx: &WriteContext<'_>,
    options: &DeleteOptions,
    mut entry: Arc<Entry>,
) -> Result<(Deletion, Vec<String>)> {
    let (codec, _) = ctx.core.codec(ctx.resource)?;
    let mut warnings = Vec::new();
    for _ in 0..TRIES {
        let old = update::in_request_version(ctx, &codec, &entry)?;
        preconditions(ctx, options, &old)?;
        let attempt = admission::Attempt::new(ctx, Operation::Delete, Some(&old));
        admission::admit_deletion(&attempt, &mut warnings).await?;
        match plan(ctx, options, &old) {
            Plan::Nothing => return Ok((Deletion::Marked(old), warnings)),
            Plan::Remove(gone) => match commit::delete(ctx, &old, entry.revision).await {
                Ok(revision) => {
                    let mut gone = *gone;
                    gone.set_resource_version(&revision.unwrap_or(entry.revision).to_string());
                    ctx.core.after_delete(ctx.resource, &gone);
                    return Ok((Deletion::Gone(gone), warnings));
                }
                Err(refused) => entry = changed(ctx, refused, &old)?,
            },
            Plan::Mark(marked) => {
                let part = kinds::Part::Other("deletion");
                let admitted =
                    admit::admit(ctx, Operation::Delete, *marked, Some(old.clone()), |_| {}).await?;
                let valid = validate::validate(ctx.resource, admitted, part)?;
                let allowed = admit::allow(ctx, Operation::Delete, valid, &mut warnings).await?;
                match commit::put(ctx, allowed, Expect::Revision(entry.revision)).await {
                    Ok(committed) => return Ok((Deletion::Marked(committed.object), warnings)),
                    Err(refused) => entry = changed(ctx, refused, &old)?,
                }
            }
        }
    }
    Err(ApiError::modified(&ctx.resource.group, &ctx.resource.plural, entry.name()))
}

fn changed(ctx: &WriteContext<'_>, refused: Refused, old: &Object) -> Result<Arc<Entry>> {
    match refused {
        Refused::Failed(error) => Err(error),
        Refused::Changed(Some(now)) => Ok(now),
        Refused::Changed(None) => {
            Err(ApiError::not_found(&ctx.resource.group, &ctx.resource.plural, old.name()))
        }
    }
}

/// Upstream names the kind here, not the resource.
fn preconditions(ctx: &WriteContext<'_>, options: &DeleteOptions, old: &Object) -> Result<()> {
    let resource = ctx.resource;
    let conflict = |why: String| {
        Err(ApiError::conflict(super::validate::group_of_errors(resource), &resource.kind, old.name(), &why))
    };
    if let Some(uid) = options.uid.as_ref().filter(|uid| *uid != old.uid()) {
        return conflict(format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            old.uid()
        ));
    }
    if let Some(version) = options.resource_version.as_ref().filter(|v| *v != old.resource_version()) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            old.resource_version()
        ));
    }
    Ok(())
}

enum Plan {
    /// With the last that is told of it.
    Remove(Box<Object>),
    Mark(Box<Object>),
    Nothing,
}

fn plan(ctx: &WriteContext<'_>, options: &DeleteOptions, old: &Object) -> Plan {
    let mut new = old.clone();
    set_finalizers(ctx, options, &mut new);
    let grace = grace_period(ctx, options, old);
    let now = super::prepare::whole_seconds(ctx.core.clock.now());
    let held = !new.finalizers().is_empty()
        || (ctx.resource.plural == "namespaces"
            && ctx.resource.group.is_empty()
            && new.list_at(&["spec", "finalizers"]).is_some_and(|list| !list.is_empty()));
    if grace == 0 && !held && !is_graceful(ctx) {
        return Plan::Remove(Box::new(old.clone()));
    }
    match old.deletion_timestamp() {
        None => {
            let deadline = now + Duration::from_secs(grace.unsigned_abs());
            new.set_deletion(Some(deadline), Some(grace));
            new.set_generation(old.generation() + i64::from(old.generation() > 0));
        }
        Some(deadline) => {
            // A second deletion may only shorten the first one's grace.
            let had = old.int_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default();
            if grace < had {
                let earlier = Duration::from_secs((had - grace).unsigned_abs());
                new.set_deletion(Some(deadline - earlier), Some(grace));
            }
        }
    }
    if grace == 0 && !held {
        return Plan::Remove(Box::new(new));
    }
    if ctx.resource.plural == "namespaces" && ctx.resource.group.is_empty() {
        if let Some(status) = new.struct_mut("status") {
            status.set("phase", "Terminating");
        }
    }
    if new == *old { Plan::Nothing } else { Plan::Mark(Box::new(new)) }
}

/// Whether objects of the resource are given time to end.
fn is_graceful(ctx: &WriteContext<'_>) -> bool {
    ctx.resource.plural == "pods" && ctx.resource.group.is_empty()
}

/// Seconds that the object's processes get: of pods as they or the client say, of everything else none.
fn grace_period(ctx: &WriteContext<'_>, options: &DeleteOptions, old: &Object) -> i64 {
    if !is_graceful(ctx) {
        return 0;
    }
    let phase = old.str_at(&["status", "phase"]).unwrap_or_default();
    let unscheduled = old.str_at(&["spec", "nodeName"]).unwrap_or_default().is_empty();
    if unscheduled || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    let own = old.int_at(&["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
    // A negative period means one second, as upstream has it.
    match options.grace_period_seconds.unwrap_or(own) {
        negative if negative < 0 => 1,
        grace => grace,
    }
}

fn set_finalizers(ctx: &WriteContext<'_>, options: &DeleteOptions, object: &mut Object) {
    let default = match (ctx.resource.group.as_str(), ctx.resource.plural.as_str()) {
        ("batch", "jobs") | ("", "replicationcontrollers") => Propagation::Orphan,
        _ => Propagation::Background,
    };
    let has = |object: &Object, name: &str| object.finalizers().contains(&name);
    let policy = match options.propagation {
        Some(policy) => policy,
        // What was asked for before stays, unless this request says otherwise.
        None if has(object, "orphan") => Propagation::Orphan,
        None if has(object, "foregroundDeletion") => Propagation::Foreground,
        None => default,
    };
    let mut finalizers: Vec<String> = object
        .finalizers()
        .iter()
        .filter(|&&name| name != "orphan" && name != "foregroundDeletion")
        .map(|&name| name.to_owned())
        .collect();
    match policy {
        Propagation::Orphan => finalizers.push("orphan".to_owned()),
        Propagation::Foreground => finalizers.push("foregroundDeletion".to_owned()),
        Propagation::Background => {}
    }
    let list = finalizers.into_iter().map(Value::Str).collect::<Vec<_>>();
    if list.is_empty() {
        object.metadata_mut().remove("finalizers");
    } else {
        object.metadata_mut().set("finalizers", Value::List(list));
    }
}
