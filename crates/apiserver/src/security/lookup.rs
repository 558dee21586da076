use auth::authenticate::{Found, FoundSecret, Lookup};
use schema::{Object, Value};

use crate::core::Core;

/// Looks things up in the watch cache.
pub(super) struct CacheLookup<'a> {
    pub(super) core: &'a Core,
}

impl CacheLookup<'_> {
    fn read(&self, plural: &str, key: &str) -> Option<Object> {
        let registry = self.core.registry();
        let resource = registry.preferred("", plural)?;
        let (codec, cache) = self.core.codec(resource).ok()?;
        let entry = cache.get(key)?;
        match codec.object(&entry) {
            Ok(object) => Some(object),
            Err(error) => {
                tracing::error!(key = %entry.key, %error, "what a token depends on cannot be read");
                None
            }
        }
    }

    fn found(&self, plural: &str, key: &str) -> Option<Found> {
        self.read(plural, key).map(|object| identity(&object))
    }
}

fn identity(object: &Object) -> Found {
    Found { uid: object.uid().to_owned(), deleted: object.deletion_timestamp() }
}

impl Lookup for CacheLookup<'_> {
    fn service_account(&self, namespace: &str, name: &str) -> Option<Found> {
        self.found("serviceaccounts", &format!("{namespace}/{name}"))
    }

    fn pod(&self, namespace: &str, name: &str) -> Option<Found> {
        self.found("pods", &format!("{namespace}/{name}"))
    }

    fn node(&self, name: &str) -> Option<Found> {
        self.found("nodes", name)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<FoundSecret> {
        let secret = self.read("secrets", &format!("{namespace}/{name}"))?;
        let data = secret.map_at(&["data"]).into_iter().flat_map(schema::Map::iter);
        let data = data
            .filter_map(|(key, value)| Some((key.to_owned(), Value::as_bytes(value)?.to_vec())))
            .collect();
        Some(FoundSecret {
            found: identity(&secret),
            kind: secret.str_at(&["type"]).unwrap_or_default().to_owned(),
            data,
        })
    }
}
