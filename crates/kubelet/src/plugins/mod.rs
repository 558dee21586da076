//! Plugins that make themselves known by a socket in `<root>/plugins_registry` (`pluginregistration/v1`): the kubelet
//! asks what each is, hands it to whoever knows its type, and tells it whether it was taken. A socket that goes takes
//! its plugin along; one that is another file than before is another plugin.
//!
//! `watch` finds sockets, `register` speaks with one. What plugins do is not known here.

mod register;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tonic::Status;

pub use watch::follow;

/// Whoever knows plugins of one type.
#[tonic::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Whether a plugin of this name that speaks these versions can be taken; why not.
    fn validate(&self, name: &str, versions: &[String]) -> Result<(), String>;

    /// Takes a plugin that serves at `endpoint`.
    async fn register(&self, name: &str, endpoint: &Path, versions: &[String]) -> Result<(), String>;

    /// The plugin is gone.
    fn deregister(&self, name: &str, endpoint: &Path);
}

/// Handlers by the type of plugins: `DevicePlugin`, `DRAPlugin`, …
pub type Handlers = BTreeMap<&'static str, Arc<dyn Handler>>;

/// An error of a call as Go writes it.
pub fn described(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}
