//! Objects as they are about to be (upstream's `passiveAssumeCache`): what is assumed of an object holds while it has the
//! version on which that was built, and no longer.

use std::collections::HashMap;
use std::sync::Arc;

use client::Change;
use parking_lot::Mutex;

use crate::view::{ClaimView, VolumeMeta, VolumeView};

/// An object that has a version.
pub(super) trait Versioned: Clone + PartialEq {
    fn meta(&self) -> &VolumeMeta;
    fn meta_mut(&mut self) -> &mut VolumeMeta;
}

impl Versioned for VolumeView {
    fn meta(&self) -> &VolumeMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut VolumeMeta {
        &mut self.metadata
    }
}

impl Versioned for ClaimView {
    fn meta(&self) -> &VolumeMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut VolumeMeta {
        &mut self.metadata
    }
}

/// Whether an object is new, or differs from the one before in more than its version.
pub(super) fn differs<T: Versioned>(new: &T, old: Option<&T>) -> bool {
    old.is_none_or(|old| {
        let mut same = old.clone();
        same.meta_mut().resource_version.clone_from(&new.meta().resource_version);
        same != *new
    })
}

/// Objects that are about to change, by key.
pub(super) struct Assumed<T>(Mutex<HashMap<String, Arc<T>>>);

impl<T> Default for Assumed<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Versioned> Assumed<T> {
    /// From now on `object` stands for what it was made from.
    pub fn assume(&self, object: Arc<T>) {
        self.0.lock().insert(object.meta().key(), object);
    }

    /// An object is told to have another version, or to be gone: what was assumed of it is not any more.
    pub fn heard(&self, change: &Change<'_, T>) {
        let (key, version) = match change {
            Change::Set { key, new, .. } => (key, new.meta().resource_version.as_str()),
            Change::Removed { key, .. } => (key, ""),
        };
        let mut all = self.0.lock();
        if all.get(*key).is_some_and(|assumed| assumed.meta().resource_version != version) {
            all.remove(*key);
        }
    }

    /// What `known` is about to be.
    pub fn newest(&self, known: Arc<T>) -> Arc<T> {
        let all = self.0.lock();
        if all.is_empty() {
            return known;
        }
        let assumed = all.get(&known.meta().key());
        let same = |assumed: &&Arc<T>| assumed.meta().resource_version == known.meta().resource_version;
        assumed.filter(same).cloned().unwrap_or(known)
    }

    /// `object` is not to be after all.
    pub fn restore(&self, object: &T) {
        let mut all = self.0.lock();
        let key = object.meta().key();
        if all
            .get(&key)
            .is_some_and(|assumed| assumed.meta().resource_version == object.meta().resource_version)
        {
            all.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(version: &str, class: &str) -> Arc<VolumeView> {
        let mut volume = VolumeView::default();
        volume.metadata.name = "v".to_owned();
        volume.metadata.resource_version = version.to_owned();
        volume.spec.storage_class_name = class.to_owned();
        Arc::new(volume)
    }

    #[test]
    fn what_is_assumed_holds_until_the_object_changes_or_it_is_taken_back() {
        let assumed = Assumed::default();
        assumed.assume(volume("1", "assumed"));
        assert_eq!(assumed.newest(volume("1", "told")).class(), "assumed");
        // Whoever takes back another version takes back nothing.
        assumed.restore(&*volume("0", ""));
        assert_eq!(assumed.newest(volume("1", "told")).class(), "assumed");
        assert_eq!(assumed.newest(volume("2", "told")).class(), "told");
        assumed.heard(&Change::Set { key: "v", old: None, new: &volume("1", "told") });
        assert_eq!(assumed.newest(volume("1", "told")).class(), "assumed");
        assumed.heard(&Change::Set { key: "v", old: None, new: &volume("2", "told") });
        assert_eq!(assumed.newest(volume("1", "told")).class(), "told");
        assumed.assume(volume("2", "assumed"));
        assumed.restore(&*volume("2", ""));
        assert_eq!(assumed.newest(volume("2", "told")).class(), "told");
        assumed.assume(volume("3", "assumed"));
        assumed.heard(&Change::Removed { key: "v", old: &volume("3", "told") });
        assert!(assumed.0.lock().is_empty());
    }

    #[test]
    fn a_version_alone_is_no_difference() {
        assert!(differs(&*volume("1", "a"), None));
        assert!(differs(&*volume("2", "b"), Some(&*volume("1", "a"))));
        assert!(!differs(&*volume("2", "a"), Some(&*volume("1", "a"))));
    }
}
