//! The admission plugins that are on by default, in upstream's order.
//!
//! A plugin sees the object in the version of the request, and the rest of the cluster through the watch cache.

mod certificates;
mod claim_status;
mod declared_features;
mod device_admin;
mod escalation;
mod limit_ranger;
mod namespace;
mod node;
mod node_pods;
mod pod;
mod pod_certificates;
mod pod_security;
mod priority;
mod resize;
mod runtime_class;
mod storage;
pub mod topology;
pub mod webhook;

use std::sync::Arc;

use schema::Object;

use crate::cache::Entry;
use crate::core::Core;
use crate::pipeline::authorize::Authorized;
use crate::registry::Resource;
use crate::status::Result;
use crate::write::WriteContext;
use crate::write::admit::Operation;

/// What is about to happen.
pub struct Attempt<'a> {
    /// The server.
    pub core: &'a Arc<Core>,
    /// Who asked for what.
    pub authorized: &'a Authorized,
    /// What is written.
    pub resource: &'a Arc<Resource>,
    /// What is done.
    pub operation: Operation,
    /// What the object was before.
    pub old: Option<&'a Object>,
    /// Whether nothing will be committed.
    pub dry_run: bool,
}

impl<'a> Attempt<'a> {
    /// The attempt that a write makes.
    pub fn new(ctx: &WriteContext<'a>, operation: Operation, old: Option<&'a Object>) -> Self {
        Self {
            core: ctx.core,
            authorized: ctx.authorized,
            resource: ctx.resource,
            operation,
            old,
            dry_run: ctx.options.dry_run,
        }
    }

    /// The namespace of the object; of a Namespace its own name.
    pub fn namespace(&self) -> &str {
        &self.authorized.info().namespace
    }

    /// Whether this is about the main resource of this name in the core group.
    pub fn is_core(&self, plural: &str) -> bool {
        self.resource.group.is_empty() && self.resource.plural == plural
    }

    /// Whether a subresource is written.
    pub fn is_sub(&self) -> bool {
        !self.authorized.info().subresource.is_empty()
    }

    /// An object of the cluster, from the watch cache. Waits for nothing: plugins that must not miss what was just
    /// made ask [`Core::consistent`] first.
    pub fn find(&self, group: &str, plural: &str, key: &str) -> Option<Arc<Entry>> {
        self.core.cache(group, plural)?.get(key)
    }

    /// Reads an object of the cluster whole.
    ///
    /// # Errors
    /// 500 when what is stored cannot be read.
    pub fn read(&self, group: &str, plural: &str, key: &str) -> Result<Option<Object>> {
        let registry = self.core.registry();
        let Some(resource) = registry.preferred(group, plural) else { return Ok(None) };
        let (codec, cache) = self.core.codec(resource)?;
        cache
            .get(key)
            .map(|entry| codec.object(&entry).map_err(crate::status::ApiError::internal))
            .transpose()
    }
}

/// Waits for the watch cache where something that plugins look for is not in it: it may have been made a moment ago,
/// by this client or through another API server.
///
/// # Errors
/// When the store cannot confirm its revision.
pub async fn catch_up(attempt: &Attempt<'_>, object: &Object) -> Result<()> {
    let misses = attempt.operation == Operation::Create
        && (namespace::is_missing(attempt) || pod::misses_something(attempt, object));
    if misses || device_admin::asks(attempt, object) {
        attempt.core.consistent().await?;
    }
    Ok(())
}

/// Why no request can name an object so: upstream asks again where its cache has nothing, and tells what comes of it.
fn unaskable(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("resource name may not be empty".to_owned());
    }
    let why = kinds::meta::NameRule::PathSegment.check(name);
    (!why.is_empty()).then(|| format!("invalid resource name {name:?}: [{}]", why.join(" ")))
}

/// Everything that changes the object.
///
/// # Errors
/// What a plugin refuses with.
pub fn mutate(attempt: &Attempt<'_>, object: &mut Object) -> Result<()> {
    namespace::lifecycle(attempt)?;
    limit_ranger::mutate(attempt, object)?;
    pod::service_account(attempt, object)?;
    node::taint_new(attempt, object);
    priority::priority(attempt, object)?;
    priority::default_tolerations(attempt, object);
    storage::default_class(attempt, object)?;
    storage::protect(attempt, object);
    runtime_class::mutate(attempt, object)?;
    topology::mutate(attempt, object);
    Ok(())
}

/// Everything that only looks.
///
/// # Errors
/// What a plugin refuses with.
pub fn validate(attempt: &Attempt<'_>, object: &Object, warnings: &mut Vec<String>) -> Result<()> {
    node::restriction(attempt, Some(object))?;
    limit_ranger::validate(attempt, object)?;
    pod::validate(attempt, object)?;
    runtime_class::validate(attempt, object)?;
    pod_security::validate(attempt, object, warnings)?;
    escalation::validate(attempt, object)?;
    certificates::validate(attempt, object)?;
    pod_certificates::validate(attempt, object)?;
    declared_features::validate(attempt, object)?;
    device_admin::validate(attempt, object)?;
    claim_status::validate(attempt, object)?;
    resize::validate(attempt, object)
}

/// The whole chain for a deletion.
///
/// # Errors
/// What a plugin or a webhook refuses with.
pub async fn admit_deletion(attempt: &Attempt<'_>, warnings: &mut Vec<String>) -> Result<()> {
    namespace::lifecycle(attempt)?;
    node::restriction(attempt, None)?;
    webhook::validate(attempt, None, warnings).await
}
