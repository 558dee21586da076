//! The pods of this node: one worker for each, woken by the API, by the runtime and by its own jobs.
//!
//! A worker's loop: look at what the runtime has (`observed`), decide (`plan`, pure), tell (`status`, pure), start
//! what was decided as jobs (`jobs`), wait. Jobs run beside the worker, at most one of each kind, so that a pull or a
//! grace period holds up nothing else. The states of a pod:
//!
//! ```text
//! created ─► volumes, sandbox and images at once ─► init containers, one by one ─► containers ─┐
//!                                                      ▲  back-off  │                          │
//!                                                      └────────────┘◄────── exits, probes ────┤
//! deleted, too late, or all done ◄─────────────────────────────────────────────────────────────┘
//!    └─► containers killed ─► sidecars killed ─► sandbox stopped ─► last status written
//!          (only if deleted:) ─► sandbox removed ─► volumes and files removed ─► object deleted
//! ```
//!
//! Nothing of this is kept on disk: the runtime knows what runs, the API server what should.

pub mod admission;
mod allocate;
mod clock_set;
mod config;
mod dns;
pub mod env;
mod env_file;
mod fetched;
mod fields;
mod follow;
pub(crate) mod images;
mod jobs;
pub mod ledger;
pub mod means;
pub mod memory;
mod memory_qos;
mod noted;
pub mod observed;
mod orphans;
mod over;
pub mod plan;
pub mod pull_rate;
pub mod pull_records;
mod pulling;
pub mod reserve;
mod resize;
mod resizing;
mod resources;
pub mod spec;
mod start;
mod status;
mod stopping;
mod take;
#[cfg(test)]
mod tests;
pub mod userns;
mod worker;

pub use fields::Surroundings;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base::memory::{GiveBack, Pace};
use client::{Change, Informer, Resource};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::Shared;
use crate::counts::table;
use crate::statics;
pub use memory::Ending;
use memory::Memory;
use observed::Observed;
use spec::PodExt;

/// Its connections to the API server are kept for up to half a minute.
const PACE: Pace = Pace { least: 1, calm: 16, quiet: Duration::from_secs(40) };

/// A pod and its worker's memory.
pub struct Handle {
    pub uid: String,
    /// When it was seen first, by the monotonic clock.
    seen: Duration,
    pod: RwLock<Arc<Pod>>,
    /// It is gone from the API, or its manifest is.
    removed: AtomicBool,
    /// It comes from a manifest of the node.
    pub is_static: bool,
    /// The object that shows a static pod.
    mirror: RwLock<Option<Arc<Pod>>>,
    wake: Notify,
    /// It is to go: told besides, for whoever waits for nothing but that must take no wake from the worker.
    goes: Notify,
    /// The runtime may have something else to tell of it than when it was asked last.
    stale: AtomicBool,
    pub memory: Mutex<Memory>,
    pub observed: Mutex<Arc<Observed>>,
}

impl Handle {
    fn new(uid: &str, pod: Arc<Pod>, is_static: bool, seen: Duration) -> Self {
        Self {
            uid: uid.to_owned(),
            seen,
            is_static,
            mirror: RwLock::default(),
            pod: RwLock::new(pod),
            removed: AtomicBool::new(false),
            wake: Notify::new(),
            goes: Notify::new(),
            stale: AtomicBool::new(true),
            memory: Mutex::default(),
            observed: Mutex::default(),
        }
    }

    /// The pod has changed. Files may show its labels and annotations, and whoever changes a pod to have its files
    /// renewed does not want to wait for the next time that it would be done anyway.
    fn replace(&self, pod: &Arc<Pod>) {
        let old = std::mem::replace(&mut *self.pod.write(), pod.clone());
        let (old, new) = (&old.metadata, &pod.metadata);
        if old.labels != new.labels || old.annotations != new.annotations {
            if let Some(Some(again)) = &mut self.memory.lock().mounted {
                *again = Timestamp::MIN;
            }
        }
        if pod.is_deleting() {
            self.goes.notify_waiters();
        }
        self.wake();
    }

    /// The object that shows a static pod, as the API had it last.
    pub fn mirror(&self) -> Option<Arc<Pod>> {
        self.mirror.read().clone()
    }

    /// The pod as the API had it last.
    pub fn pod(&self) -> Arc<Pod> {
        self.pod.read().clone()
    }

    /// The pod with the status that is known here.
    pub fn known(&self) -> Pod {
        let mut pod = Pod::clone(&self.pod());
        if let Some(status) = self.memory.lock().status.clone() {
            pod.status = Some(status);
        }
        pod
    }

    /// The pod with the resources that the node has allocated to it, and without its status.
    pub fn allocated(&self) -> Pod {
        let pod = self.pod();
        let allocated = self.memory.lock().resize.allocated.clone();
        let pod = allocated.map_or_else(|| Pod::clone(&pod), |allocated| allocated.apply(&pod).into_owned());
        Pod { status: None, ..pod }
    }

    /// Whether the object is gone.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    /// Lets the worker look again.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Has the worker ask the runtime again.
    fn ask_again(&self) {
        self.stale.store(true, Ordering::Release);
        self.wake();
    }

    /// The object that shows it has changed. What stands in its status is all that is known of the past.
    fn show(&self, mirror: Option<Arc<Pod>>) {
        if let Some(status) = mirror.as_ref().and_then(|mirror| mirror.status.clone()) {
            let mut pod = Pod::clone(&self.pod());
            pod.status = Some(status);
            *self.pod.write() = Arc::new(pod);
        }
        *self.mirror.write() = mirror;
        self.wake();
    }

    /// Whether it has anything that could be given up.
    pub fn is_active(&self) -> bool {
        let pod = self.pod();
        let ending = self.memory.lock().ending.is_some();
        !self.is_removed() && !pod.is_terminal() && !pod.is_deleting() && !ending
    }

    /// Whether it is never given up: static, or critical for the system.
    pub fn is_critical(&self) -> bool {
        self.is_static || self.pod().is_critical()
    }

    /// Ends the pod as failed, for the node's own reasons. The first one counts.
    pub fn fail(&self, ending: Ending) {
        self.memory.lock().ending.get_or_insert(ending);
        self.goes.notify_waiters();
        self.wake();
    }

    /// Lets the worker look again, for the object is gone.
    pub fn remove(&self) {
        self.removed.store(true, Ordering::Release);
        self.goes.notify_waiters();
        self.wake();
    }

    /// Returns once the pod is to go: it is deleted, or the node gives it up. Beside a worker's own work: it leaves every
    /// wake to the worker's next wait.
    async fn leaving(&self) {
        loop {
            // Heard from here on, so that what comes between the look and the wait is not missed.
            let mut told = pin!(self.goes.notified());
            told.as_mut().enable();
            if self.is_removed() || self.pod().is_deleting() || self.memory.lock().ending.is_some() {
                return;
            }
            told.await;
        }
    }
}

/// All pods of this node; cloning it hands out the same ones.
#[derive(Clone)]
pub struct Pods {
    shared: Arc<Shared>,
    handles: Arc<Mutex<HashMap<String, Arc<Handle>>>>,
    /// Mirrors by namespace and name, and static pods that wait for the end of one of the same name.
    statics: Arc<Mutex<Statics>>,
    /// The pods that are being cleared away because nobody knows them.
    clearing: Arc<Mutex<HashSet<String>>>,
    /// The API has told which pods there are.
    complete: Arc<AtomicBool>,
    /// Static pods are known, those of a page, too: what nobody knows is nobody's.
    statics_known: watch::Sender<bool>,
    /// What was needed while they came and went is not needed afterwards.
    memory: GiveBack,
}

#[derive(Default)]
struct Statics {
    mirrors: HashMap<(String, String), Arc<Pod>>,
    waiting: HashMap<(String, String), Arc<Pod>>,
}

fn key(pod: &Pod) -> (String, String) {
    (pod.namespace().to_owned(), pod.name().to_owned())
}

impl Pods {
    /// None yet.
    pub fn new(shared: Arc<Shared>) -> Self {
        let memory = GiveBack::start(&shared.tasks, PACE);
        let (handles, statics, clearing, complete) = Default::default();
        let statics_known = shared.config.configuration.fields.static_pod_url.is_empty();
        let statics_known = watch::Sender::new(statics_known);
        Self { shared, handles, statics, clearing, complete, statics_known, memory }
    }

    /// The page with static pods was read.
    pub fn page_is_read(&self) {
        self.statics_known.send_replace(true);
    }

    fn knows_statics(&self) -> bool {
        *self.statics_known.borrow()
    }

    fn has_statics(&self) -> bool {
        let config = &self.shared.config;
        config.static_pod_dir.is_some() || !config.configuration.fields.static_pod_url.is_empty()
    }

    /// Begins to follow the API and the runtime.
    pub fn start(&self) {
        let resource = Resource::all("", "v1", "Pod", "pods")
            .with_fields(format!("spec.nodeName={}", self.shared.config.node_name));
        let mut informer: Informer<Pod> = Informer::new(self.shared.client.clone(), resource);
        let pods = self.clone();
        informer.on_change(move |change| pods.changed(change));
        let reflector = informer.start(&self.shared.tasks);
        let pods = self.clone();
        if let Some(path) = self.shared.config.static_pod_dir.clone() {
            let folder = statics::Folder::open(&self.shared, self, path);
            self.shared.tasks.spawn(statics::follow(self.shared.clone(), self.clone(), folder));
        }
        if !self.shared.config.configuration.fields.static_pod_url.is_empty() {
            self.shared.tasks.spawn(statics::page::follow(self.shared.clone(), self.clone()));
        }
        self.shared.tasks.spawn(async move { pods.follow_runtime(reflector).await });
    }

    /// Runs a static pod, once no other of its name is left.
    pub fn set_static(&self, pod: Arc<Pod>) {
        let taken =
            self.handles.lock().values().any(|handle| handle.is_static && key(&handle.pod()) == key(&pod));
        if taken {
            self.statics.lock().waiting.insert(key(&pod), pod);
            return;
        }
        let mirror = self.statics.lock().mirrors.get(&key(&pod)).cloned();
        self.begin(&pod, true);
        if let Some(handle) = self.handles.lock().get(pod.uid()) {
            handle.show(mirror);
        }
    }

    /// The manifest of a static pod is gone.
    pub fn remove_static(&self, uid: &str) {
        self.statics.lock().waiting.retain(|_, pod| pod.uid() != uid);
        if let Some(handle) = self.handles.lock().get(uid) {
            handle.remove();
        }
    }

    fn mirror_changed(&self, mirror: &Arc<Pod>, removed: bool) {
        let key = key(mirror);
        let mirrors = &mut self.statics.lock().mirrors;
        match removed {
            true => mirrors.remove(&key),
            false => mirrors.insert(key.clone(), mirror.clone()),
        };
        let found = self.find(&key.0, &key.1).filter(|handle| handle.is_static);
        match found {
            Some(handle) => handle.show(Some(mirror.clone()).filter(|_| !removed)),
            // Its manifest went while no kubelet looked, or while it ended.
            None if !removed && self.has_statics() => self.retire(mirror.clone()),
            None => {}
        }
    }

    fn retire(&self, mirror: Arc<Pod>) {
        let pods = self.clone();
        self.shared.tasks.spawn(async move {
            // Manifests are read at once when a kubelet starts; this is not faster than that.
            tokio::time::sleep(Duration::from_secs(2)).await;
            // Its sender is the pods' own: it does not go before.
            let _ = pods.statics_known.subscribe().wait_for(|known| *known).await;
            if pods.find(mirror.namespace(), mirror.name()).is_none() {
                if let Err(error) = statics::retire(&pods.shared, &mirror).await {
                    tracing::warn!(pod = %mirror.described(), %error, "a mirror pod is not deleted");
                }
            }
        });
    }

    /// A static pod is over: its mirror goes, and whoever waits for its name begins.
    fn static_ended(&self, handle: &Handle) {
        let next = self.statics.lock().waiting.remove(&key(&handle.pod()));
        match (next, handle.mirror()) {
            (Some(next), _) => {
                if next.uid() == handle.uid {
                    self.shared.counts.count(&table::RESTARTED_PODS, &["true"]);
                }
                self.set_static(next);
            }
            (None, Some(mirror)) => self.retire(mirror),
            (None, None) => {}
        }
    }

    /// The handle of a pod by its namespace and name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Arc<Handle>> {
        let handles = self.handles.lock();
        let mut found = handles.values().filter(|handle| {
            let pod = handle.pod();
            pod.namespace() == namespace && pod.name() == name
        });
        // A successor of the same name may wait for its predecessor's end: the one that is still wanted is meant.
        let first = found.next().cloned();
        found.find(|handle| !handle.is_removed()).cloned().or(first)
    }

    /// Lets a pod's worker look again.
    pub fn wake(&self, uid: &str) {
        if let Some(handle) = self.get(uid) {
            handle.wake();
        }
    }

    /// The handle of a pod.
    pub fn get(&self, uid: &str) -> Option<Arc<Handle>> {
        self.handles.lock().get(uid).cloned()
    }

    /// Whether it is known which pods there are.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// All pods.
    pub fn list(&self) -> Vec<Arc<Handle>> {
        self.handles.lock().values().cloned().collect()
    }

    fn changed(&self, change: &Change<'_, Pod>) {
        self.memory.busy();
        match change {
            Change::Set { new, .. } if statics::is_mirror(new) => self.mirror_changed(new, false),
            Change::Removed { old, .. } if statics::is_mirror(old) => self.mirror_changed(old, true),
            Change::Set { old, new, .. } => {
                if let Some(old) = old.filter(|old| old.uid() != new.uid()) {
                    self.removed(old);
                }
                self.set(new);
            }
            Change::Removed { old, .. } => self.removed(old),
        }
    }

    fn removed(&self, pod: &Pod) {
        if let Some(handle) = self.handles.lock().get(pod.uid()) {
            handle.remove();
        }
    }

    fn set(&self, pod: &Arc<Pod>) {
        self.begin(pod, false);
    }

    fn begin(&self, pod: &Arc<Pod>, is_static: bool) {
        let mut handles = self.handles.lock();
        if let Some(handle) = handles.get(pod.uid()).cloned() {
            // Whoever has a lock of the pod's memory may wait for somebody who asks which pods there are.
            drop(handles);
            handle.replace(pod);
            return;
        }
        let seen = self.shared.config.clock.monotonic();
        let handle = Arc::new(Handle::new(pod.uid(), pod.clone(), is_static, seen));
        handles.insert(pod.uid().to_owned(), handle.clone());
        drop(handles);
        let (pods, shared) = (self.clone(), self.shared.clone());
        self.shared.tasks.spawn(async move {
            worker::run(pods.clone(), handle.clone()).await;
            pods.handles.lock().remove(&handle.uid);
            shared.watched.deleted(&handle.pod());
            shared.ledger.release(&handle.uid);
            shared.counts.forget(&handle.uid);
            shared.exclusive.release(&handle.uid);
            shared.claims.release(&handle.uid);
            if handle.is_static {
                pods.static_ended(&handle);
            }
            pods.retry_resizes();
        });
    }

    /// Lets go of containers and logs of all pods that are over, for the disk is short. Those pods.
    pub fn strip(&self) -> Vec<Arc<Handle>> {
        let over = |handle: &Arc<Handle>| {
            let mut memory = handle.memory.lock();
            let phase = memory.status.as_ref().and_then(|status| status.phase.as_deref());
            let over = matches!(phase, Some("Succeeded" | "Failed"));
            memory.strip |= over;
            over
        };
        let over: Vec<Arc<Handle>> = self.list().into_iter().filter(over).collect();
        over.iter().for_each(|handle| handle.wake());
        over
    }

    /// There is room again: whoever waits for it may have it now.
    fn retry_resizes(&self) {
        for handle in self.list() {
            let waits =
                handle.memory.lock().resize.pending.as_ref().is_some_and(|(why, _)| *why == "Deferred");
            if waits {
                handle.wake();
            }
        }
    }

    /// The runtime was gone and is back: nobody waits for having asked it in vain.
    fn retry_since(&self, lost: Timestamp) {
        // Calls may have broken off a moment before it was noticed.
        let since = lost.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(lost);
        for handle in self.list() {
            handle.memory.lock().retry_since(since);
            handle.wake();
        }
    }
}

pub use fields::FieldError;
pub use jobs::log_directory;
pub use noted::priority_bucket;
pub use resources::{
    Asked, cgroup_roots, class_groups, has_own_resources, is_fixed, page_size, pod_limits as limits,
    pod_requests as requests, qos,
};
pub use start::pod_ips as start_ips;

/// The cgroup of a pod.
pub fn cgroup(shared: &Shared, pod: &Pod) -> String {
    resources::cgroup_parent(&shared.config.cgroup_root, pod)
}

/// Where that is.
pub fn place(shared: &Shared, pod: &Pod) -> String {
    shared.cgroups.place(&cgroup(shared, pod)).into_owned()
}
