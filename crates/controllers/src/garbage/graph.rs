//! Who owns whom, by UID, as far as the informers have told.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::view::{AnyView, Meta};

/// The finalizer of an owner whose dependents go first.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an owner whose dependents are to outlive it.
pub const ORPHAN: &str = "orphan";

/// A kind and where it is served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The group; empty for the core group.
    pub group: String,
    /// The version that is read.
    pub version: String,
    /// The kind.
    pub kind: String,
    /// The name in paths.
    pub plural: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

impl Kind {
    /// The path of an object.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let Self { group, version, plural, .. } = self;
        let root =
            if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match self.namespaced {
            true => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
            false => format!("{root}/{plural}/{name}"),
        }
    }
}

/// An object.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its kind.
    pub kind: Arc<Kind>,
    /// Its metadata.
    pub view: Arc<AnyView>,
}

impl Item {
    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        &self.view.metadata
    }

    /// Whether it is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }

    /// Whether it has a finalizer.
    pub fn has(&self, finalizer: &str) -> bool {
        self.meta().finalizers.iter().any(|name| name == finalizer)
    }

    /// Whether it waits for its dependents to go.
    pub fn awaits_dependents(&self) -> bool {
        self.is_deleting() && self.has(FOREGROUND)
    }

    /// Whether `reference`, found on `dependent`, speaks of this object.
    pub fn is_meant(&self, reference: &OwnerReference, dependent: &Item) -> bool {
        let group = reference.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let meta = self.meta();
        let reachable = !self.kind.namespaced || meta.namespace == dependent.meta().namespace;
        meta.uid == reference.uid
            && meta.name == reference.name
            && self.kind.kind == reference.kind
            && self.kind.group == group
            && reachable
    }
}

/// The graph. Its changes return the UIDs that are to be looked at because of them.
#[derive(Default)]
pub struct Graph {
    items: HashMap<String, Item>,
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Puts an object in its place.
    pub fn set(&mut self, item: Item) -> BTreeSet<String> {
        let uid = item.meta().uid.clone();
        let mut wake = self.unlink(&uid);
        if item.is_deleting() || !item.meta().owner_references.is_empty() {
            wake.insert(uid.clone());
        }
        for owner in &item.meta().owner_references {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
            if self.is_deleting(&owner.uid) {
                wake.insert(owner.uid.clone());
            }
        }
        self.items.insert(uid, item);
        wake
    }

    /// Takes an object out: its dependents may have nobody left, and its owners may have waited for it.
    pub fn remove(&mut self, uid: &str) -> BTreeSet<String> {
        let mut wake = self.unlink(uid);
        self.items.remove(uid);
        wake.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        wake
    }

    /// Takes all objects of a kind out.
    pub fn remove_kind(&mut self, kind: &Kind) -> BTreeSet<String> {
        let uids: Vec<String> =
            self.items.iter().filter(|(_, item)| *item.kind == *kind).map(|(uid, _)| uid.clone()).collect();
        uids.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    /// The object with a UID.
    pub fn get(&self, uid: &str) -> Option<Item> {
        self.items.get(uid).cloned()
    }

    /// The objects that name `uid` as an owner.
    pub fn dependents(&self, uid: &str) -> Vec<Item> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.get(uid)).collect()
    }

    fn is_deleting(&self, uid: &str) -> bool {
        self.items.get(uid).is_some_and(Item::is_deleting)
    }

    /// Forgets whose dependent it was; returns those of them that are being deleted.
    fn unlink(&mut self, uid: &str) -> BTreeSet<String> {
        let mut wake = BTreeSet::new();
        let Some(item) = self.items.get(uid) else { return wake };
        for owner in &item.view.metadata.owner_references {
            if let Some(known) = self.dependents.get_mut(&owner.uid) {
                known.remove(uid);
                if known.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
            if self.items.get(&owner.uid).is_some_and(Item::is_deleting) {
                wake.insert(owner.uid.clone());
            }
        }
        wake
    }
}
