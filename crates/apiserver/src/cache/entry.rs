use std::sync::Arc;

use bytes::Bytes;

/// One object, as the cache holds it.
#[derive(Debug)]
pub struct Entry {
    /// `NAMESPACE/NAME` or `NAME`.
    pub key: Arc<str>,
    /// The revision of its last write, which is its resource version.
    pub revision: u64,
    /// The object in its storage encoding, without envelope and encryption, with its resource version in place.
    pub bytes: Bytes,
    /// Labels, sorted by key.
    pub labels: Box<[(Box<str>, Box<str>)]>,
    /// The values of the selectable fields of its kind, in the order of the kind's rules.
    pub fields: Box<[Box<str>]>,
}

impl Entry {
    /// Empty for what lives in no namespace.
    pub fn namespace(&self) -> &str {
        self.key.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The object's name.
    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&*self.key, |(_, name)| name)
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let index = self.labels.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.labels.get(index).map(|(_, value)| &**value)
    }
}

/// An object that the store holds and nobody can read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the stored object {prefix}/{key} (revision {revision}) cannot be read: {why}")]
pub struct Unreadable {
    /// The cache's prefix.
    pub prefix: String,
    /// The key below it.
    pub key: String,
    /// The revision of its last write.
    pub revision: u64,
    /// What the decoder said.
    pub why: String,
}

/// Makes entries of stored bytes.
pub trait Extract: Send + Sync {
    /// Reads what is stored under a key.
    ///
    /// # Errors
    /// [`Unreadable`], naming the key.
    fn entry(&self, prefix: &str, key: &str, revision: u64, stored: &[u8]) -> Result<Entry, Unreadable>;

    /// The same entry with another resource version.
    fn at_revision(&self, entry: &Entry, revision: u64) -> Entry;
}
