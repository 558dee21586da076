//! Between the bytes of the store and the entries of the watch cache.
//!
//! Values are written as upstream writes them: protobuf in its envelope, or JSON; encrypted where the resource says
//! so. In the cache an object has no envelope and carries its resource version.

use std::sync::Arc;

use bytes::Bytes;
use schema::Object;
use schema::protobuf;
use schema::types::StructRef;

use crate::cache::{Entry, Extract};
use crate::registry::{Storage, StoredAs};

/// Encrypts and decrypts values; `key` is the store's key, which is authenticated with the value.
pub trait Transformer: Send + Sync {
    /// What is written.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the key material.
    fn seal(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, String>;

    /// What was written.
    ///
    /// # Errors
    /// A sentence that says why the value cannot be read.
    fn open(&self, key: &str, stored: &[u8]) -> Result<Vec<u8>, String>;
}

/// Writes and reads the objects of one stored resource.
pub struct Codec {
    /// How and where it is stored.
    pub storage: Storage,
    /// The kind, for the envelope.
    pub kind: String,
    /// Whether its keys have a namespace.
    pub namespaced: bool,
    /// The selectable fields beside name and namespace.
    pub selectable: &'static [(&'static str, fn(&Object) -> String)],
    /// Says of an object that was read what is not stored of its kind.
    pub completes: fn(&mut Object),
    /// The cluster's prefix, with its trailing slash.
    pub cluster_prefix: String,
    /// Encrypts, where `storage.encrypted`.
    pub transformer: Arc<dyn Transformer>,
}

/// Bytes that are no object.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);

impl Codec {
    /// The object's key in the store.
    pub fn store_key(&self, namespace: &str, name: &str) -> String {
        let mut key = format!("{}{}/", self.cluster_prefix, self.storage.prefix);
        if self.namespaced {
            key.push_str(namespace);
            key.push('/');
        }
        key.push_str(name);
        key
    }

    /// The bytes to store of an object in the storage version: without resource version, as upstream does.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub fn to_stored(&self, key: &str, object: &Object) -> Result<Bytes, CodecError> {
        let plain = match self.storage.stored_as {
            StoredAs::Protobuf => {
                protobuf::wrap(&self.storage.api_version, &self.kind, &protobuf::encode(object))
            }
            StoredAs::Json => schema::json::encode(object),
        };
        if !self.storage.encrypted {
            return Ok(plain.into());
        }
        self.transformer.seal(key, &plain).map(Bytes::from).map_err(CodecError)
    }

    /// The object of a cache entry, in the storage version.
    ///
    /// # Errors
    /// When the bytes are not of the type.
    pub fn object(&self, entry: &Entry) -> Result<Object, CodecError> {
        let mut object = decode(&self.storage, &self.storage.ty, &self.kind, &entry.bytes)?;
        (self.completes)(&mut object);
        Ok(object)
    }

    /// The entry of a value that was just read from the store, outside the cache.
    ///
    /// # Errors
    /// When the bytes are not of the type.
    pub fn entry_of(&self, namespace: &str, name: &str, kv: &store::KeyValue) -> Result<Entry, CodecError> {
        let key = if self.namespaced { format!("{namespace}/{name}") } else { name.to_owned() };
        self.read(&self.storage.prefix, &key, kv.mod_revision, &kv.value)
    }

    fn read(&self, prefix: &str, key: &str, revision: u64, stored: &[u8]) -> Result<Entry, CodecError> {
        let opened;
        let mut stored = stored;
        if self.storage.encrypted {
            let store_key = format!("{}{prefix}/{key}", self.cluster_prefix);
            opened = self.transformer.open(&store_key, stored).map_err(CodecError)?;
            stored = &opened;
        }
        let mut object = if stored.starts_with(&protobuf::MAGIC) {
            let (_, raw) = unwrapped(stored)?;
            protobuf::decode(&self.storage.ty, raw).map_err(|error| CodecError(error.to_string()))?
        } else {
            schema::json::decode(&self.storage.ty, stored)
                .map_err(|error| CodecError(error.to_string()))?
                .object
        };
        object.set_resource_version(&revision.to_string());
        Ok(self.entry(key, revision, &object))
    }

    /// The cache entry of an object in the storage version that carries its resource version.
    pub fn entry(&self, key: &str, revision: u64, object: &Object) -> Entry {
        let bytes = match self.storage.stored_as {
            StoredAs::Protobuf => protobuf::encode(object),
            StoredAs::Json => schema::json::encode(object),
        };
        let labels = object.labels().map(|labels| {
            labels
                .strings()
                .map(|(key, value)| (key.into(), value.into()))
                .collect::<Box<[(Box<str>, Box<str>)]>>()
        });
        let fields = self.selectable.iter().map(|(_, read)| read(object).into_boxed_str()).collect();
        Entry { key: key.into(), revision, bytes: bytes.into(), labels: labels.unwrap_or_default(), fields }
    }
}

impl Extract for Codec {
    fn entry(
        &self,
        prefix: &str,
        key: &str,
        revision: u64,
        stored: &[u8],
    ) -> Result<Entry, crate::cache::Unreadable> {
        self.read(prefix, key, revision, stored).map_err(|error| crate::cache::Unreadable {
            prefix: prefix.to_owned(),
            key: key.to_owned(),
            revision,
            why: error.0,
        })
    }

    fn at_revision(&self, entry: &Entry, revision: u64) -> Entry {
        let version = revision.to_string();
        let bytes = match self.storage.stored_as {
            StoredAs::Protobuf => protobuf::splice_resource_version(&entry.bytes, &version).into(),
            StoredAs::Json => match schema::json::decode(&self.storage.ty, &entry.bytes) {
                Ok(mut decoded) => {
                    decoded.object.set_resource_version(&version);
                    schema::json::encode(&decoded.object).into()
                }
                // The bytes were encoded by this cache; what cannot be decoded again keeps its old version.
                Err(_) => entry.bytes.clone(),
            },
        };
        Entry {
            key: entry.key.clone(),
            revision,
            bytes,
            labels: entry.labels.clone(),
            fields: entry.fields.clone(),
        }
    }
}

/// Opens upstream's envelope: what it says, and the bare message in it.
///
/// # Errors
/// When the bytes are no envelope.
pub fn unwrapped(bytes: &[u8]) -> Result<(protobuf::Unknown, &[u8]), CodecError> {
    let unknown = protobuf::unwrap(bytes).map_err(|error| CodecError(error.to_string()))?;
    let raw = bytes.get(unknown.raw.clone()).unwrap_or_default();
    Ok((unknown, raw))
}

/// [`unwrapped`] of a client's body.
///
/// # Errors
/// What Go says of what is none.
pub fn opened(body: &[u8]) -> Result<(protobuf::Unknown, &[u8]), String> {
    if body == protobuf::MAGIC {
        return Err("empty body".to_owned());
    }
    let unknown = protobuf::unwrap(body)
        .map_err(|error| go_words(&error).replace("illegal tag", "Unknown: illegal tag 0 (wire type 0)"))?;
    let raw = body.get(unknown.raw.clone()).unwrap_or_default();
    Ok((unknown, raw))
}

/// What Go says of a broken message, which does not say where.
pub fn go_words(error: &schema::DecodeError) -> String {
    match error {
        schema::DecodeError::Protobuf { message, .. } if message.starts_with("unexpected EOF") => {
            "unexpected EOF".to_owned()
        }
        schema::DecodeError::Protobuf { message, .. } if message.starts_with("provided data") => {
            message.clone()
        }
        schema::DecodeError::Protobuf { message, .. } => format!("proto: {message}"),
        other => other.to_string(),
    }
}

/// Decodes cache bytes as `ty` and names what it is.
fn decode(storage: &Storage, ty: &StructRef, kind: &str, bytes: &[u8]) -> Result<Object, CodecError> {
    let mut object = match storage.stored_as {
        StoredAs::Protobuf => protobuf::decode(ty, bytes).map_err(|error| CodecError(error.to_string()))?,
        StoredAs::Json => {
            schema::json::decode(ty, bytes).map_err(|error| CodecError(error.to_string()))?.object
        }
    };
    object.set("apiVersion", storage.api_version.as_str());
    object.set("kind", kind);
    Ok(object)
}
