//! Follows every kind and applies the verdicts.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use base::TaskGroup;
use client::{Change, Informer, Reflector, Resource, WorkQueue};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::discovery::Discovered;
use super::graph::{FOREGROUND, Graph, Item, Kind, ORPHAN};
use super::plan::{Owner, Question, Verdict, is_blocked, judge, question};
use crate::context::Context;
use crate::view::AnyView;

const ACCEPT_GROUPS: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
const ACCEPT_METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// How often discovery is asked again.
const REFRESH: Duration = Duration::from_secs(30);
/// How soon it is asked again after a change of the definitions, whose kinds are served a little later.
const REFRESH_SOON: Duration = Duration::from_secs(1);
/// How long after a change of the definitions it is asked first: they come in flocks.
const FLOCK: Duration = Duration::from_millis(100);
/// When an object is looked at again whose owner is there, but not in the graph.
const AGAIN: Duration = Duration::from_secs(5);
/// How long owners wait for the first list of a new kind, which might tell of dependents.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many absent owners are remembered.
const MAX_ABSENT: usize = 1000;

/// Why an object could not be dealt with.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The API refused.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// A request could not be made.
    #[error("{0}")]
    Request(#[from] http::Error),
    /// An answer could not be read.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

struct Followed {
    copies: Reflector<AnyView>,
    tasks: TaskGroup,
    since: Duration,
}

/// The garbage collector.
pub struct Collector {
    context: Arc<Context>,
    tasks: TaskGroup,
    queue: WorkQueue<String>,
    graph: Mutex<Graph>,
    kinds: Mutex<BTreeMap<(String, String), Arc<Kind>>>,
    followed: Mutex<BTreeMap<Arc<Kind>, Followed>>,
    /// Owners that the API server does not know, by their path and UID: a UID never comes back.
    absent: Mutex<HashSet<(String, String)>>,
    definitions_changed: Notify,
}

/// Collects garbage for as long as the future is polled.
pub async fn run(context: &Arc<Context>, tasks: &TaskGroup) {
    let collector = Arc::new(Collector {
        context: context.clone(),
        tasks: tasks.clone(),
        queue: WorkQueue::new(),
        graph: Mutex::default(),
        kinds: Mutex::default(),
        followed: Mutex::default(),
        absent: Mutex::default(),
        definitions_changed: Notify::new(),
    });
    let work = async {
        collector.all_synced().await;
        collector.queue.run(8, |uid| collector.reconcile(uid)).await;
    };
    tokio::join!(collector.follow_discovery(), work);
}

impl Collector {
    async fn follow_discovery(self: &Arc<Self>) {
        loop {
            let pause = match self.refresh().await {
                Ok(()) => REFRESH,
                Err(error) => {
                    tracing::warn!(%error, "the kinds of the cluster cannot be read; trying again");
                    REFRESH_SOON
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => continue,
                () = self.definitions_changed.notified() => {}
            }
            tokio::time::sleep(FLOCK).await;
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "the kinds of the cluster cannot be read; trying again");
            }
            tokio::time::sleep(REFRESH_SOON).await;
        }
    }

    async fn refresh(self: &Arc<Self>) -> Result<(), Failed> {
        let mut found = Discovered::default();
        for root in ["/api", "/apis"] {
            found.add(&self.get(root, ACCEPT_GROUPS).await?);
        }
        let ended: Vec<(Arc<Kind>, Followed)> = {
            let mut followed = self.followed.lock();
            let stays = |kind: &Arc<Kind>| found.followed.contains(kind) || found.stale.contains(&kind.group);
            let ended: Vec<Arc<Kind>> = followed.keys().filter(|kind| !stays(kind)).cloned().collect();
            ended.into_iter().filter_map(|kind| followed.remove_entry(&kind)).collect()
        };
        for (kind, informer) in ended {
            informer.tasks.stop().await;
            let wake = self.graph.lock().remove_kind(&kind);
            self.wake(wake);
        }
        let mut followed = self.followed.lock();
        for kind in &found.followed {
            if !followed.contains_key(kind) {
                followed.insert(kind.clone(), self.follow(kind));
            }
        }
        let mut kinds = self.kinds.lock();
        kinds.retain(|(group, _), _| found.stale.contains(group));
        kinds.extend(found.kinds);
        Ok(())
    }

    fn follow(self: &Arc<Self>, kind: &Arc<Kind>) -> Followed {
        let resource = Resource::metadata(&kind.group, &kind.version, &kind.plural);
        let mut informer: Informer<AnyView> = Informer::new(self.context.clients.garbage.clone(), resource);
        let (collector, of) = (self.clone(), kind.clone());
        informer.on_change(move |change| collector.changed(&of, change));
        let tasks = TaskGroup::new(self.tasks.shutdown());
        Followed { copies: informer.start(&tasks), tasks, since: self.context.clock.monotonic() }
    }

    fn changed(&self, kind: &Arc<Kind>, change: &Change<'_, AnyView>) {
        let wake = match change {
            Change::Set { old, new, .. } => {
                let mut graph = self.graph.lock();
                let replaced = old.filter(|old| old.metadata.uid != new.metadata.uid);
                let mut wake = replaced.map(|old| graph.remove(&old.metadata.uid)).unwrap_or_default();
                wake.extend(graph.set(Item { kind: kind.clone(), view: (*new).clone() }));
                wake
            }
            Change::Removed { old, .. } => self.graph.lock().remove(&old.metadata.uid),
        };
        self.wake(wake);
        if kind.plural == "customresourcedefinitions" && kind.group == "apiextensions.k8s.io" {
            self.definitions_changed.notify_one();
        }
    }

    fn wake(&self, uids: impl IntoIterator<Item = String>) {
        uids.into_iter().for_each(|uid| self.queue.add(uid));
    }

    /// Returns once every kind of the first discovery was listed, except those that are gone by then.
    async fn all_synced(&self) {
        loop {
            let waits = {
                let followed = self.followed.lock();
                followed.is_empty() || followed.values().any(|one| !one.copies.is_synced())
            };
            if !waits {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether a kind that is new was not listed yet.
    fn may_lack_dependents(&self) -> bool {
        let now = self.context.clock.monotonic();
        let new = |one: &Followed| !one.copies.is_synced() && now.saturating_sub(one.since) < PATIENCE;
        self.followed.lock().values().any(new)
    }

    async fn reconcile(&self, uid: String) -> Result<Option<Duration>, Failed> {
        let (item, dependents) = {
            let graph = self.graph.lock();
            let Some(item) = graph.get(&uid) else { return Ok(None) };
            (item, graph.dependents(&uid))
        };
        match question(&item) {
            Question::Nothing => Ok(None),
            Question::Owned => self.owned(&item, &dependents).await,
            Question::Orphan | Question::Foreground if self.may_lack_dependents() => Ok(Some(FLOCK)),
            Question::Orphan => {
                for dependent in &dependents {
                    let references = dependent.meta().owner_references.iter();
                    let left: Vec<_> = references.filter(|owner| owner.uid != uid).collect();
                    self.patch(dependent, json!({"ownerReferences": left})).await?;
                }
                self.finish(&item, ORPHAN).await
            }
            Question::Foreground => {
                let staying = dependents.iter().filter(|one| !one.is_deleting());
                self.wake(staying.map(|one| one.meta().uid.clone()));
                if is_blocked(&uid, &dependents) { Ok(None) } else { self.finish(&item, FOREGROUND).await }
            }
        }
    }

    async fn finish(&self, item: &Item, finalizer: &str) -> Result<Option<Duration>, Failed> {
        let left: Vec<&String> = item.meta().finalizers.iter().filter(|name| *name != finalizer).collect();
        self.patch(item, json!({"finalizers": left})).await?;
        Ok(None)
    }

    async fn owned(&self, item: &Item, dependents: &[Item]) -> Result<Option<Duration>, Failed> {
        let mut again = None;
        let mut owners = Vec::new();
        for reference in &item.meta().owner_references {
            let known = self.graph.lock().get(&reference.uid).filter(|owner| owner.is_meant(reference, item));
            owners.push(match known {
                Some(owner) if owner.awaits_dependents() => Owner::Waiting,
                Some(_) => Owner::Solid,
                None if self.is_absent(item, reference).await? => Owner::Dangling,
                None => {
                    again = Some(AGAIN);
                    Owner::Solid
                }
            });
        }
        match judge(item, &owners, dependents) {
            Verdict::Keep => {}
            Verdict::Release(left) => self.patch(item, json!({"ownerReferences": left})).await?,
            Verdict::Delete { unblock: true, .. } if item.meta().owner_references.iter().any(blocks) => {
                let mut owners = item.meta().owner_references.clone();
                owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
                // The copy that comes back with this change is judged anew.
                self.patch(item, json!({"ownerReferences": owners})).await?;
            }
            Verdict::Delete { policy, .. } => self.delete(item, policy).await?,
        }
        Ok(again)
    }

    /// Asks the API server whether an owner is gone. One whose kind is not served may come back with it.
    async fn is_absent(&self, item: &Item, reference: &OwnerReference) -> Result<bool, Failed> {
        let group = reference.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let kind = self.kinds.lock().get(&(group.to_owned(), reference.kind.clone())).cloned();
        let Some(kind) = kind else { return Ok(false) };
        let namespace = &item.meta().namespace;
        if kind.namespaced && namespace.is_empty() {
            return Ok(false);
        }
        let known = (kind.path(namespace, &reference.name), reference.uid.clone());
        if self.absent.lock().contains(&known) {
            return Ok(true);
        }
        match self.get(&known.0, ACCEPT_METADATA).await {
            Ok(live) if live.pointer("/metadata/uid").and_then(Value::as_str) == Some(&reference.uid) => {
                return Ok(false);
            }
            Ok(_) => {}
            Err(Failed::Api(kube::Error::Api(status))) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
        let mut absent = self.absent.lock();
        if absent.len() >= MAX_ABSENT {
            absent.clear();
        }
        absent.insert(known);
        Ok(true)
    }

    async fn get(&self, path: &str, accept: &str) -> Result<Value, Failed> {
        let request = Request::get(path).header("accept", accept).body(Vec::new())?;
        Ok(serde_json::from_str(&self.context.clients.garbage.request_text(request).await?)?)
    }

    async fn patch(&self, item: &Item, mut metadata: Value) -> Result<(), Failed> {
        let meta = item.meta();
        if let Some(fields) = metadata.as_object_mut() {
            fields.insert("uid".to_owned(), meta.uid.as_str().into());
            fields.insert("resourceVersion".to_owned(), meta.resource_version.as_str().into());
        }
        let request = Request::patch(item.kind.path(&meta.namespace, &meta.name))
            .header("content-type", "application/merge-patch+json")
            .header("accept", ACCEPT_METADATA);
        self.send(request.body(json!({"metadata": metadata}).to_string().into_bytes())?).await
    }

    async fn delete(&self, item: &Item, policy: &str) -> Result<(), Failed> {
        let meta = item.meta();
        tracing::debug!(kind = %item.kind.kind, key = %meta.key(), policy, "deleting what nobody owns");
        let body = json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy,
            "preconditions": {"uid": meta.uid, "resourceVersion": meta.resource_version},
        });
        let request = Request::delete(item.kind.path(&meta.namespace, &meta.name))
            .header("content-type", "application/json");
        self.send(request.body(body.to_string().into_bytes())?).await
    }

    /// Sends a write; what is gone needs none.
    async fn send(&self, request: Request<Vec<u8>>) -> Result<(), Failed> {
        match self.context.clients.garbage.request_text(request).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(|_| ()).map_err(Failed::from),
        }
    }
}

fn blocks(owner: &OwnerReference) -> bool {
    owner.block_owner_deletion == Some(true)
}
