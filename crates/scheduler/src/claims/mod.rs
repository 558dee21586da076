//! What the scheduler knows of dynamic resources: claims, classes and devices, and what it has given and not yet
//! written down. [`bind`] writes, [`special`] makes claims for extended resources, [`ready`] waits for devices.

mod bind;
mod ready;
mod special;

use std::collections::HashMap;
use std::sync::Arc;

use base::{SharedClock, SharedRandom, TaskGroup};
use client::{Change, Informer, Reflector, Resource};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceClass, DeviceTaintRule, ResourceClaim as Claim, ResourceSlice,
};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use bind::BindError;
pub use ready::PATIENCE;
pub use special::Extra;

use crate::plan::claims::{allocation, key, of_pod, uid, users};
use crate::plan::devices::Allocated;
use crate::plan::extended::{Backed, backed, is_special_of};
use crate::view::PodView;

/// The cluster's dynamic resources.
pub struct Claims {
    client: kube::Client,
    clock: SharedClock,
    claims: Reflector<Claim>,
    classes: Reflector<DeviceClass>,
    slices: Reflector<ResourceSlice>,
    rules: Reflector<DeviceTaintRule>,
    /// Whether all is known that there is.
    synced: watch::Sender<bool>,
    /// Counts changes of claims.
    changes: Arc<watch::Sender<u64>>,
    /// What claims are about to get, by their UID.
    pending: Mutex<HashMap<String, AllocationResult>>,
    /// Claims as they were written, until the informer tells of them; by UID.
    written: Arc<Mutex<HashMap<String, Arc<Claim>>>>,
    /// Expressions, compiled once.
    pub expressions: cel::Cache,
}

/// What one decision looks at.
pub struct Seen {
    /// All devices.
    pub slices: Vec<Arc<ResourceSlice>>,
    /// Classes by name.
    pub classes: HashMap<String, Arc<DeviceClass>>,
    /// What taints devices beside what their drivers say.
    pub rules: Vec<Arc<DeviceTaintRule>>,
    /// What claims have.
    pub allocated: Allocated,
}

fn version(claim: &Claim) -> u64 {
    claim.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// What a change of a claim means for pods that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It is new, or told to be another: those whose claim it is may go on.
    Own,
    /// Devices are free, or another may use it.
    Free,
}

fn news(new: &Claim, old: Option<&Claim>) -> Option<News> {
    let Some(old) = old else { return Some(News::Own) };
    let was_freed = allocation(old).is_some() && allocation(new).is_none();
    if was_freed || users(new).count() < users(old).count() {
        return Some(News::Free);
    }
    (new.status != old.status || new.metadata.owner_references != old.metadata.owner_references)
        .then_some(News::Own)
}

impl Claims {
    /// Begins to follow them. `news` hears of claims, by key, and of anything else that may help.
    pub fn follow(
        client: &kube::Client,
        clock: SharedClock,
        tell: impl Fn(Option<&str>, News) + Send + Sync + Clone + 'static,
        tasks: &TaskGroup,
    ) -> Self {
        let resource = |kind, plural| Resource::all("resource.k8s.io", "v1", kind, plural);
        let mut claims: Informer<Claim> =
            Informer::new(client.clone(), resource("ResourceClaim", "resourceclaims"));
        let written: Arc<Mutex<HashMap<String, Arc<Claim>>>> = Arc::default();
        let (heard, ours) = (tell.clone(), written.clone());
        let changes = Arc::new(watch::Sender::new(0));
        let count = changes.clone();
        claims.on_change(move |_| count.send_modify(|count| *count += 1));
        claims.on_change(move |change| match change {
            Change::Set { key, new, old } => {
                if let Some(news) = news(new, old.map(|old| &**old)) {
                    heard(Some(key), news);
                }
            }
            Change::Removed { old, .. } => {
                ours.lock().remove(uid(old));
                if allocation(old).is_some() {
                    heard(None, News::Free);
                }
            }
        });
        let mut classes: Informer<DeviceClass> =
            Informer::new(client.clone(), resource("DeviceClass", "deviceclasses"));
        let heard = tell.clone();
        classes.on_change(move |change| {
            if let Change::Set { .. } = change {
                heard(None, News::Free);
            }
        });
        let mut slices: Informer<ResourceSlice> =
            Informer::new(client.clone(), resource("ResourceSlice", "resourceslices"));
        let heard = tell.clone();
        slices.on_change(move |change| {
            if let Change::Set { .. } = change {
                heard(None, News::Free);
            }
        });
        let mut rules: Informer<DeviceTaintRule> =
            Informer::new(client.clone(), resource("DeviceTaintRule", "devicetaintrules"));
        rules.on_change(move |_| tell(None, News::Free));
        Self {
            client: client.clone(),
            clock,
            claims: claims.start(tasks),
            classes: classes.start(tasks),
            slices: slices.start(tasks),
            rules: rules.start(tasks),
            synced: watch::Sender::new(false),
            changes,
            pending: Mutex::default(),
            written,
            expressions: cel::Cache::default(),
        }
    }

    /// Whether all is known. Older API servers have no such resources: then it never is.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Until all is known; rules only where there are any.
    pub async fn synced(&self) {
        let _ = tokio::join!(self.claims.synced(), self.classes.synced(), self.slices.synced());
        tokio::select! {
            _ = self.rules.synced() => {}
            () = client::served::without(&self.client, "resource.k8s.io/v1", "devicetaintrules") => {}
        }
        self.synced.send_replace(true);
    }

    /// A claim by its key, as it is or as this scheduler has just written it.
    pub fn get(&self, key: &str) -> Option<Arc<Claim>> {
        self.claims.get(key).map(|known| self.newest(known))
    }

    fn newest(&self, known: Arc<Claim>) -> Arc<Claim> {
        let mut written = self.written.lock();
        match written.get(uid(&known)) {
            Some(ours) if version(ours) > version(&known) => ours.clone(),
            Some(_) => {
                written.remove(uid(&known));
                known
            }
            None => known,
        }
    }

    /// The claims of a pod.
    ///
    /// # Errors
    /// Why it must wait for one, in upstream's words.
    pub fn of_pod(&self, pod: &PodView) -> Result<Vec<Arc<Claim>>, String> {
        of_pod(pod, |name| self.get(&format!("{}/{name}", pod.metadata.namespace)))
    }

    /// Whether a claim is about to get something.
    pub fn is_pending(&self, uid: &str) -> bool {
        self.pending.lock().contains_key(uid)
    }

    /// What a decision looks at.
    pub fn seen(&self) -> Seen {
        // First what is in the making: it can only move from there to the claims.
        let mut allocated = Allocated::default();
        self.pending.lock().values().for_each(|given| allocated.add(given));
        let mut count = |claim: &Claim| {
            if !self.is_pending(uid(claim)) {
                allocation(claim).into_iter().for_each(|given| allocated.add(given));
            }
        };
        for (_, claim) in self.claims.list() {
            count(&self.newest(claim));
        }
        // Claims of the scheduler's own making, of which the informer has not told yet.
        let unknown: Vec<_> = self.written.lock().values().cloned().collect();
        for claim in unknown.iter().filter(|claim| self.claims.get(&key(claim)).is_none()) {
            count(claim);
        }
        Seen {
            slices: self.slices.list().into_iter().map(|(_, slice)| slice).collect(),
            classes: self.classes.list().into_iter().collect(),
            rules: self.rules.list().into_iter().map(|(_, rule)| rule).collect(),
            allocated,
        }
    }

    /// Which classes stand for extended resources.
    pub fn backed(&self) -> Backed {
        backed(self.classes.list().iter().map(|(_, class)| class))
    }

    /// The claim that an earlier attempt has made for a pod's extended resources.
    pub fn special(&self, pod: &PodView) -> Option<Arc<Claim>> {
        let is_special = |claim: &Arc<Claim>| is_special_of(claim, &pod.metadata.uid);
        let known = self.claims.in_namespace(&pod.metadata.namespace).into_iter();
        let found = known.map(|claim| self.newest(claim)).find(is_special);
        found.or_else(|| self.written.lock().values().find(|claim| is_special(claim)).cloned())
    }

    /// A pod is gone, and what was made for it.
    pub fn forget(&self, pod: &PodView) {
        self.written.lock().retain(|_, claim| !is_special_of(claim, &pod.metadata.uid));
    }

    /// Notes what claims that have nothing are about to get, in their order; shares of devices get their IDs.
    pub fn reserve<'c>(
        &self,
        claims: impl Iterator<Item = &'c Claim>,
        given: Vec<AllocationResult>,
        random: &SharedRandom,
    ) {
        let open = claims.filter(|claim| allocation(claim).is_none());
        let mut pending = self.pending.lock();
        for (claim, mut given) in open.zip(given) {
            let results = given.devices.iter_mut().flat_map(|devices| devices.results.iter_mut().flatten());
            for share in results.filter_map(|result| result.share_id.as_mut()) {
                *share = uuid(random);
            }
            pending.insert(uid(claim).to_owned(), given);
        }
    }
}

/// A random UUID.
pub fn uuid(random: &SharedRandom) -> String {
    let (high, low) = (random.below(u64::MAX), random.below(u64::MAX));
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0x0fff,
        (low >> 48 & 0x3fff) | 0x8000,
        low & 0xffff_ffff_ffff
    )
}
