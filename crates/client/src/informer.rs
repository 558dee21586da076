//! List, then watch, and keep what there is: one for each kind and process, shared by all who need it.

mod resource;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, TaskGroup};
use bytes::BytesMut;
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use parking_lot::RwLock;
use schema::{DecodeError, StructRef};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::wire;

pub use resource::Resource;
use resource::encode;

/// What happened to the copy of an object. Keys are `NAMESPACE/NAME`, or `NAME` for what lives in no namespace.
pub enum Change<'c, T> {
    /// It is new or different.
    Set {
        /// The key.
        key: &'c str,
        /// The copy before.
        old: Option<&'c Arc<T>>,
        /// The copy now.
        new: &'c Arc<T>,
    },
    /// It is gone.
    Removed {
        /// The key.
        key: &'c str,
        /// The last copy.
        old: &'c Arc<T>,
    },
}

impl<T> Change<'_, T> {
    /// The key of the object.
    pub fn key(&self) -> &str {
        match self {
            Self::Set { key, .. } | Self::Removed { key, .. } => key,
        }
    }
}

type Handler<T> = Box<dyn Fn(&Change<'_, T>) + Send + Sync>;

/// An informer that does not run yet: handlers are added before it starts, so that none misses anything.
pub struct Informer<T> {
    client: kube::Client,
    resource: Resource,
    handlers: Vec<Handler<T>>,
    reflector: Reflector<T>,
    synced: watch::Sender<bool>,
}

/// The copies that an informer keeps, without their managed fields. They may lag behind the API server, and are never
/// ahead of it.
pub struct Reflector<T> {
    items: Arc<RwLock<BTreeMap<String, Arc<T>>>>,
    synced: watch::Receiver<bool>,
}

impl<T> Clone for Reflector<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), synced: self.synced.clone() }
    }
}

impl<T> Reflector<T> {
    /// Returns once the first list is in. False when the informer ended before.
    pub async fn synced(&self) -> bool {
        self.synced.clone().wait_for(|&synced| synced).await.is_ok()
    }

    /// Whether the first list is in.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// The copy under a key.
    pub fn get(&self, key: &str) -> Option<Arc<T>> {
        self.items.read().get(key).cloned()
    }

    /// All copies with their keys.
    pub fn list(&self) -> Vec<(String, Arc<T>)> {
        self.items.read().iter().map(|(key, item)| (key.clone(), item.clone())).collect()
    }

    /// The copies of a namespace.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let first = format!("{namespace}/");
        let items = self.items.read();
        let from = (Bound::Included(first.as_str()), Bound::Unbounded);
        items
            .range::<str, _>(from)
            .take_while(|(key, _)| key.starts_with(&first))
            .map(|(_, item)| item.clone())
            .collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.items.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[derive(Deserialize, Default)]
struct Identity {
    #[serde(default)]
    metadata: IdentityMeta,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct IdentityMeta {
    name: String,
    namespace: String,
    resource_version: String,
}

impl IdentityMeta {
    fn key(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Client(#[from] kube::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("what came cannot be read: {0}")]
    Decode(#[from] DecodeError),
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, DecodeError),
    #[error("HTTP {0}: {1}")]
    Refused(u16, String),
    #[error("the resource version is too old")]
    Expired,
    #[error("the catalogue has no {0}")]
    NoKind(String),
}

fn read<T: DeserializeOwned>(ty: &StructRef, key: &str, raw: &[u8]) -> Result<Arc<T>, Broken> {
    let read = schema::serde::from_protobuf_lean(ty, raw);
    read.map(Arc::new).map_err(|error| Broken::Unreadable(key.to_owned(), error))
}

impl<T: DeserializeOwned + Send + Sync + 'static> Informer<T> {
    /// An informer of `resource`, whose objects are kept as `T`.
    pub fn new(client: kube::Client, resource: Resource) -> Self {
        let (sender, receiver) = watch::channel(false);
        let reflector = Reflector { items: Arc::default(), synced: receiver };
        Self { client, resource, handlers: Vec::new(), reflector, synced: sender }
    }

    /// Calls `handler` with every change, the first list included, in order. It must not block.
    pub fn on_change(&mut self, handler: impl Fn(&Change<'_, T>) + Send + Sync + 'static) {
        self.handlers.push(Box::new(handler));
    }

    /// The copies, before they are filled.
    pub fn reflector(&self) -> Reflector<T> {
        self.reflector.clone()
    }

    /// Begins to list and watch.
    pub fn start(self, tasks: &TaskGroup) -> Reflector<T> {
        let reflector = self.reflector.clone();
        tasks.spawn(self.run());
        reflector
    }

    async fn run(self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let (group, version) = match self.resource.metadata_only {
            true => ("meta.k8s.io", "v1"),
            false => (&*self.resource.group, &*self.resource.version),
        };
        let Some(kind) = schema::builtin().kind(group, version, &self.resource.kind) else {
            let error = Broken::NoKind(self.resource.kind.to_string());
            tracing::error!(%error, "an informer cannot run");
            return;
        };
        let mut from = None;
        loop {
            let ended = self.round(&kind.ty, &mut from, &mut backoff).await;
            match ended {
                Ok(true) => continue,
                // The next may end as soon as this one did.
                Ok(false) => {}
                Err(Broken::Expired) => from = None,
                // That the server is away its client tells, once for all informers.
                Err(Broken::Client(error)) if !matches!(error, kube::Error::Api(_)) => {
                    tracing::debug!(resource = %self.resource.plural, %error, "list and watch broke; trying again");
                }
                Err(error) => {
                    // The next event would be the same one: by a new list, what cannot be read may be gone.
                    if matches!(error, Broken::Decode(_) | Broken::Unreadable(..)) {
                        from = None;
                    }
                    tracing::warn!(resource = %self.resource.plural, %error, "list and watch broke; trying again");
                }
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }

    /// Lists if there is no version to go on from, then watches until the server ends it: whether it said anything.
    async fn round(
        &self,
        ty: &StructRef,
        version: &mut Option<String>,
        backoff: &mut Backoff,
    ) -> Result<bool, Broken> {
        let from = match version.clone() {
            Some(version) => version,
            None => {
                let listed = self.list(ty).await?;
                *version = Some(listed.clone());
                self.synced.send_replace(true);
                listed
            }
        };
        let mut told = false;
        let ended = self.watch(ty, from, version, &mut told).await;
        // Who lets us in and says nothing, or lets nobody in, is not asked again at once.
        if told {
            backoff.reset();
        }
        ended.map(|()| told)
    }

    async fn send(&self, uri: &str, list: bool) -> Result<http::Response<Body>, Broken> {
        let accept = match (self.resource.metadata_only, list) {
            (false, _) => "application/vnd.kubernetes.protobuf",
            (true, false) => {
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
            }
            (true, true) => {
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
            }
        };
        let request =
            Request::get(uri).header("accept", accept).header("user-agent", "knarr").body(Body::empty())?;
        let response = self.client.send(request).await?;
        let code = response.status().as_u16();
        if code == 200 {
            return Ok(response);
        }
        let body = response.into_body().collect().await?.to_bytes();
        if code == 410 {
            return Err(Broken::Expired);
        }
        Err(Broken::Refused(code, wire::said(&body)))
    }

    async fn list(&self, ty: &StructRef) -> Result<String, Broken> {
        let mut fresh = BTreeMap::new();
        let mut token = String::new();
        let version = loop {
            let uri = format!(
                "{}?limit=5000&continue={}{}",
                self.resource.path(),
                encode(&token),
                self.resource.query()
            );
            let body = self.send(&uri, true).await?.into_body().collect().await?.to_bytes();
            let (meta, items) = wire::list(wire::bare(&body)?)?;
            for item in items {
                let identity: Identity = schema::serde::from_protobuf(ty, item)?;
                let key = identity.metadata.key();
                let item = read::<T>(ty, &key, item)?;
                fresh.insert(key, item);
            }
            if meta.continue_token.is_empty() {
                break meta.resource_version;
            }
            token = meta.continue_token;
        };
        self.replace(fresh);
        Ok(version)
    }

    /// Puts a new list in the place of the old copies, and tells what that changes.
    fn replace(&self, fresh: BTreeMap<String, Arc<T>>) {
        let old = std::mem::replace(&mut *self.reflector.items.write(), fresh.clone());
        for (key, new) in &fresh {
            self.tell(&Change::Set { key, old: old.get(key), new });
        }
        for (key, old) in old.iter().filter(|(key, _)| !fresh.contains_key(*key)) {
            self.tell(&Change::Removed { key, old });
        }
    }

    fn tell(&self, change: &Change<'_, T>) {
        for handler in &self.handlers {
            handler(change);
        }
    }

    async fn watch(
        &self,
        ty: &StructRef,
        from: String,
        version: &mut Option<String>,
        told: &mut bool,
    ) -> Result<(), Broken> {
        let uri = format!(
            "{}?watch=true&allowWatchBookmarks=true&resourceVersion={from}{}",
            self.resource.path(),
            self.resource.query()
        );
        let mut body = self.send(&uri, false).await?.into_body();
        let mut buffer = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            buffer.extend_from_slice(&data);
            while let Some(frame) = wire::split(&mut buffer) {
                self.event(ty, &frame, version)?;
                *told = true;
            }
        }
        Ok(())
    }

    fn event(&self, ty: &StructRef, frame: &[u8], version: &mut Option<String>) -> Result<(), Broken> {
        let event = wire::frame(frame)?;
        if event.kind == "ERROR" {
            // Whatever it is, a new list is right afterwards.
            return Err(Broken::Expired);
        }
        let raw = wire::bare(event.object)?;
        let identity: Identity = schema::serde::from_protobuf(ty, raw)?;
        let key = identity.metadata.key();
        match event.kind {
            "ADDED" | "MODIFIED" => {
                let new = read::<T>(ty, &key, raw)?;
                let old = self.reflector.items.write().insert(key.clone(), new.clone());
                self.tell(&Change::Set { key: &key, old: old.as_ref(), new: &new });
            }
            "DELETED" => {
                let old = self.reflector.items.write().remove(&key);
                if let Some(old) = old {
                    self.tell(&Change::Removed { key: &key, old: &old });
                }
            }
            _ => {}
        }
        *version = Some(identity.metadata.resource_version);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
