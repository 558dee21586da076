//! What is known of one image.

use serde::{Deserialize, Serialize};

use crate::images::Name;

/// An image that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration.
    pub id: String,
    /// Names with tags.
    pub tags: Vec<String>,
    /// Names with manifest digests.
    pub digests: Vec<String>,
    /// Bytes of its unpacked layers.
    pub size: u64,
    /// Chain ids of its layers, the lowest first.
    pub chain: Vec<String>,
    /// `user[:group]` of its configuration.
    pub user: String,
}

impl Image {
    /// What to call it for somebody who asked for `name`: that, completed, if it is so called, else its first name with
    /// a tag. `None` where it has neither.
    pub fn called(&self, name: &str) -> Option<String> {
        let asked = Name::parse(name).ok().map(|name| name.to_string());
        let is_its_own = |name: &String| self.tags.contains(name) || self.digests.contains(name);
        asked.filter(is_its_own).or_else(|| self.tags.first().cloned())
    }

    /// Its name by digest, in the repository of `name` if it came from there; its id where it has no such name.
    pub fn digest(&self, name: &str) -> &str {
        let repository = Name::parse(name).map(|name| format!("{}@", name.repository())).ok();
        let here = |digest: &&String| repository.as_ref().is_some_and(|at| digest.starts_with(at.as_str()));
        self.digests.iter().find(here).or(self.digests.first()).unwrap_or(&self.id)
    }
}
