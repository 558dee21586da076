//! One object.

use std::sync::Arc;

use crate::cache::Entry;
use crate::core::Core;
use crate::pipeline::authorize::Authorized;
use crate::registry::Resource;
use crate::status::{ApiError, Result};

/// The entry of the object that the request names, at least as new as the request asks for.
///
/// # Errors
/// 404; 504 for a version that does not come.
pub async fn entry(core: &Arc<Core>, authorized: &Authorized, resource: &Resource) -> Result<Arc<Entry>> {
    let info = authorized.info();
    fresh_enough(core, info.param("resourceVersion")).await?;
    let (_, cache) = core.codec(resource)?;
    let key =
        if resource.namespaced { format!("{}/{}", info.namespace, info.name) } else { info.name.clone() };
    cache.get(&key).ok_or_else(|| ApiError::not_found(&resource.group, &resource.plural, &info.name))
}

/// Waits until the cache is as new as a resource version asks for: none means the newest, `0` means anything.
///
/// # Errors
/// 500 for what is no version, 504 for one that does not come within three seconds.
pub async fn fresh_enough(core: &Arc<Core>, version: Option<&str>) -> Result<()> {
    match version {
        None | Some("") => core.consistent().await,
        Some("0") => Ok(()),
        Some(version) => wait_for(core, parse_version(version)?).await,
    }
}

/// A resource version as a number.
///
/// # Errors
/// 500, as upstream, which reads it only once it looks into its cache.
pub fn parse_version(version: &str) -> Result<u64> {
    version.parse().map_err(|_| ApiError::with_code(500, "", no_version(version)))
}

/// What is said of a text that is no resource version.
pub fn no_version(text: &str) -> String {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let why = if is_number { "value out of range" } else { "invalid syntax" };
    format!("resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}")
}

/// Waits until a version has come.
///
/// # Errors
/// 504 after three seconds, as upstream.
pub async fn wait_for(core: &Arc<Core>, version: u64) -> Result<()> {
    if core.progress().revision() >= version {
        return Ok(());
    }
    // The version may belong to a key of no cache of ours: ask the store how far it is.
    let confirmed = core.store.confirm().await?;
    let reached = core.progress().wait_for(version.min(confirmed.max(version)));
    let limit = std::time::Duration::from_secs(3);
    match tokio::time::timeout(limit, reached).await {
        Ok(()) => Ok(()),
        Err(_) => Err(ApiError::future_version(version, core.progress().revision())),
    }
}
