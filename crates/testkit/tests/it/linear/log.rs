use std::collections::BTreeMap;

use futures::StreamExt;
use store::{KeyRange, Store, WatchItem};

/// What an object held, and since which revision.
pub type Objects = BTreeMap<String, (u64, u64)>;

/// One change as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub revision: u64,
    pub kind: &'static str,
    pub name: String,
    pub value: u64,
}

/// The store's own history of the objects.
pub struct Log(Vec<Told>);

impl Log {
    /// Everything after `base`, up to the object named `end`.
    pub async fn read(store: &dyn Store, base: u64) -> Self {
        let prefix = format!("/registry/configmaps/{}/", super::NAMESPACE);
        let mut watch = store.watch(&KeyRange::prefix(prefix.clone()), base + 1).await.unwrap();
        let mut log = Vec::new();
        while log.last().is_none_or(|told: &Told| told.name != "end") {
            let WatchItem::Events(events) = watch.next().await.unwrap().unwrap() else { continue };
            for event in events {
                let kind = match (&event.previous, &event.current) {
                    (None, _) => "ADDED",
                    (_, Some(_)) => "MODIFIED",
                    (_, None) => "DELETED",
                };
                let kv = event.current.as_ref().or(event.previous.as_ref()).unwrap();
                let name = std::str::from_utf8(&event.key[prefix.len()..]).unwrap().to_owned();
                log.push(Told { revision: event.revision, kind, name, value: value(&kv.value) });
            }
        }
        Self(log)
    }

    /// What happened after `from`, up to and with `to`.
    pub fn between(&self, from: u64, to: u64) -> Vec<Told> {
        self.0.iter().filter(|told| told.revision > from && told.revision <= to).cloned().collect()
    }

    /// The objects as of a revision.
    pub fn state_at(&self, revision: u64) -> Objects {
        let mut objects = Objects::new();
        for told in self.between(0, revision) {
            match told.kind {
                "DELETED" => drop(objects.remove(&told.name)),
                _ => drop(objects.insert(told.name, (told.value, told.revision))),
            }
        }
        objects
    }
}

/// The value of a stored config map, by a decoder that is not the server's.
fn value(stored: &[u8]) -> u64 {
    let kind = schema::catalogue::builtin().kind("", "v1", "ConfigMap").unwrap();
    let envelope = schema::protobuf::unwrap(stored).unwrap();
    let object: k8s_openapi::api::core::v1::ConfigMap =
        schema::serde::from_protobuf(&kind.ty, &stored[envelope.raw]).unwrap();
    object.data.unwrap()["v"].parse().unwrap()
}
