//! Claims of persistent volumes and the volumes themselves: each is bound to the other, and a volume whose claim is gone
//! is released (`persistent-volume-binder`). [`protection`] holds both as long as they are used.
//!
//! Which volume a claim gets is `matching`'s to say. What makes volumes, and removes those that are released, is
//! somebody else's program (CSI); there is none here.

mod claim;
mod follow;
mod matching;
pub mod protection;
pub mod run;
#[cfg(test)]
mod tests;
mod volume;

use std::collections::BTreeMap;
use std::sync::Arc;

use client::Reflector;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ObjectMeta;

pub use follow::{follow_pod, start_informers};

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A claim, by namespace and name.
    Claim(String),
    /// A volume, by name.
    Volume(String),
}

/// The copies of objects that this is about.
#[derive(Clone)]
pub struct Copies {
    /// Claims.
    pub claims: Reflector<PersistentVolumeClaim>,
    /// Volumes.
    pub volumes: Reflector<PersistentVolume>,
    /// Classes.
    pub classes: Reflector<StorageClass>,
    /// Pods by the claims that they use.
    pub users: Arc<client::Index>,
}

impl Copies {
    /// Returns once every first list is in.
    pub async fn synced(&self) {
        let _ = tokio::join!(self.claims.synced(), self.volumes.synced(), self.classes.synced());
    }
}

/// Which class new claims get that name none (`storageclass.kubernetes.io/is-default-class`): the newest.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<&str> {
    let is_default = |class: &&Arc<StorageClass>| matching::is_default(&class.metadata);
    let newest = |class: &&Arc<StorageClass>| {
        let meta = &class.metadata;
        (std::cmp::Reverse(meta.creation_timestamp.clone()), meta.name.clone())
    };
    classes.iter().filter(is_default).min_by_key(newest).and_then(|class| class.metadata.name.as_deref())
}

fn has(metadata: &ObjectMeta, annotation: &str) -> bool {
    metadata.annotations.as_ref().is_some_and(|all| all.contains_key(annotation))
}

fn annotations(metadata: &mut ObjectMeta) -> &mut BTreeMap<String, String> {
    metadata.annotations.get_or_insert_default()
}
