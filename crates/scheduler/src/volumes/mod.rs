//! What the scheduler knows of volumes, their claims and their classes, and what it has promised and not yet written
//! down. [`bind`] writes and waits; [`assumed`] remembers.

mod assumed;
mod bind;

use std::sync::Arc;

use base::{SharedClock, TaskGroup};
use client::{Change, Index, Informer, Reflector, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

pub use bind::{BindError, Standing};

use crate::plan::volumes::{
    BOUND_BY_CONTROLLER, Binding, Found, Objects, SELECTED_NODE, Storage, is_bound_to,
};
use crate::view::{
    AttachmentView, CapacityView, ClaimRef, ClaimView, ClassView, CsiNodeView, DriverView, VolumeView,
};
use assumed::{Assumed, differs};

/// The cluster's volumes.
pub struct Volumes {
    client: kube::Client,
    clock: SharedClock,
    claims: Reflector<ClaimView>,
    volumes: Reflector<VolumeView>,
    classes: Reflector<ClassView>,
    drivers: Reflector<DriverView>,
    capacities: Reflector<CapacityView>,
    nodes: Reflector<CsiNodeView>,
    attachments: Reflector<AttachmentView>,
    /// Attachments by their node.
    by_node: Arc<Index>,
    /// Volumes by their class.
    by_class: Arc<Index>,
    /// Counts what waiting pods have to look at.
    changes: Arc<watch::Sender<u64>>,
    /// Volumes that are about to be a claim's.
    kept: Arc<Assumed<VolumeView>>,
    /// Claims for which a volume is about to be made somewhere.
    promised: Arc<Assumed<ClaimView>>,
}

/// Hears of claims by their key, and of anything else that may help.
pub type Tell = Arc<dyn Fn(Option<&str>) + Send + Sync>;

fn informer<T>(
    client: &kube::Client,
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Informer<T>
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    Informer::new(client.clone(), Resource::all(group, "v1", kind, plural))
}

/// Tells of what `helps` pods that wait; the object before is `None` for what is new.
fn tell_of<T>(
    informer: &mut Informer<T>,
    helps: impl Fn(&T, Option<&T>) -> bool + Send + Sync + 'static,
    tell: impl Fn(&str) + Send + Sync + 'static,
) where
    T: DeserializeOwned + Send + Sync + 'static,
{
    informer.on_change(move |change| {
        if let Change::Set { key, new, old } = change
            && helps(new, old.map(|old| &**old))
        {
            tell(key);
        }
    });
}

/// Counts changes.
fn count<T>(informer: &mut Informer<T>, changes: &Arc<watch::Sender<u64>>)
where
    T: DeserializeOwned + Send + Sync + 'static,
{
    let changes = changes.clone();
    informer.on_change(move |_| changes.send_modify(|count| *count += 1));
}

fn has_more(new: &CapacityView, old: Option<&CapacityView>) -> bool {
    let limit =
        |of: &CapacityView| of.limit().and_then(|limit| limit.parse::<schema::quantity::Quantity>().ok());
    old.is_none_or(|old| limit(new) > limit(old))
}

impl Volumes {
    /// Begins to follow them. `tell` hears of claims by their key, and of anything else that may help pods that volumes
    /// keep waiting.
    pub fn follow(client: &kube::Client, clock: SharedClock, tell: Tell, tasks: &TaskGroup) -> Self {
        let any = || {
            let tell = tell.clone();
            move |_: &str| tell(None)
        };
        let changes = Arc::new(watch::Sender::new(0));
        let mut claims = informer(client, "", "PersistentVolumeClaim", "persistentvolumeclaims");
        let (kept, promised): (Arc<Assumed<VolumeView>>, Arc<Assumed<ClaimView>>) = Default::default();
        let (of_claim, assumed) = (tell.clone(), promised.clone());
        claims.on_change(move |change| assumed.heard(change));
        tell_of(&mut claims, differs::<ClaimView>, move |key| of_claim(Some(key)));
        count(&mut claims, &changes);
        let mut volumes = informer(client, "", "PersistentVolume", "persistentvolumes");
        let by_class: Arc<Index> = Arc::default();
        let (index, assumed) = (by_class.clone(), kept.clone());
        // First: whoever is told finds it there.
        volumes.on_change(move |change: &Change<'_, VolumeView>| {
            assumed.heard(change);
            match change {
                Change::Set { key, new, .. } => index.set(key, [new.class().to_owned()]),
                Change::Removed { key, .. } => index.remove(key),
            }
        });
        tell_of(&mut volumes, differs::<VolumeView>, any());
        count(&mut volumes, &changes);
        let mut classes = informer(client, "storage.k8s.io", "StorageClass", "storageclasses");
        let allows = |new: &ClassView, old: Option<&ClassView>| {
            old.is_none_or(|old| old.allowed_topologies != new.allowed_topologies)
        };
        tell_of(&mut classes, allows, any());
        let mut drivers = informer(client, "storage.k8s.io", "CSIDriver", "csidrivers");
        let tells = |of: &DriverView| of.spec.storage_capacity == Some(true);
        tell_of(&mut drivers, move |new, old| old.is_some_and(tells) && !tells(new), any());
        let mut capacities = informer(client, "storage.k8s.io", "CSIStorageCapacity", "csistoragecapacities");
        tell_of(&mut capacities, has_more, any());
        let mut nodes = informer(client, "storage.k8s.io", "CSINode", "csinodes");
        let takes_more =
            |new: &CsiNodeView, old: Option<&CsiNodeView>| old.is_none_or(|old| new.has_more(old));
        tell_of(&mut nodes, takes_more, any());
        let mut attachments = informer(client, "storage.k8s.io", "VolumeAttachment", "volumeattachments");
        let by_node: Arc<Index> = Arc::default();
        let (index, detached) = (by_node.clone(), any());
        attachments.on_change(move |change: &Change<'_, AttachmentView>| match change {
            Change::Set { key, new, .. } => index.set(key, [new.spec.node_name.clone()]),
            Change::Removed { key, .. } => {
                index.remove(key);
                detached(key);
            }
        });
        Self {
            client: client.clone(),
            clock,
            claims: claims.start(tasks),
            volumes: volumes.start(tasks),
            classes: classes.start(tasks),
            drivers: drivers.start(tasks),
            capacities: capacities.start(tasks),
            nodes: nodes.start(tasks),
            attachments: attachments.start(tasks),
            by_node,
            by_class,
            changes,
            kept,
            promised,
        }
    }

    /// Until all is known.
    pub async fn synced(&self) {
        let _ = tokio::join!(
            self.claims.synced(),
            self.volumes.synced(),
            self.classes.synced(),
            self.drivers.synced(),
            self.capacities.synced(),
            self.nodes.synced(),
            self.attachments.synced()
        );
    }

    /// A pod that may wait for its volumes is gone.
    pub fn look_again(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// From now on what was found for a pod is nobody else's.
    pub fn assume(&self, found: &mut Found, node: &str) {
        for Binding { claim, volume } in &mut found.bindings {
            let meta = &claim.metadata;
            let mut taken = (**volume).clone();
            if !is_bound_to(volume, claim) {
                let annotations = &mut taken.metadata.annotations;
                annotations.entry(BOUND_BY_CONTROLLER.to_owned()).or_insert_with(|| "yes".to_owned());
            }
            taken.spec.claim_ref = Some(ClaimRef {
                namespace: meta.namespace.clone(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            });
            *volume = Arc::new(taken);
            self.kept.assume(volume.clone());
        }
        for claim in &mut found.provisions {
            let mut promised = (**claim).clone();
            promised.metadata.annotations.insert(SELECTED_NODE.to_owned(), node.to_owned());
            *claim = Arc::new(promised);
            self.promised.assume(claim.clone());
        }
    }

    /// What was found for a pod is anybody's, as far as it was not written down.
    pub fn release(&self, found: &Found) {
        found.bindings.iter().for_each(|binding| self.kept.restore(&*binding.volume));
        found.provisions.iter().for_each(|claim| self.promised.restore(&**claim));
    }
}

impl Objects for Volumes {
    fn claim(&self, key: &str) -> Option<Arc<ClaimView>> {
        self.claims.get(key).map(|known| self.promised.newest(known))
    }

    fn volume(&self, name: &str) -> Option<Arc<VolumeView>> {
        self.volumes.get(name).map(|known| self.kept.newest(known))
    }
}

impl Storage for Volumes {
    fn of_class(&self, class: &str) -> Vec<Arc<VolumeView>> {
        self.by_class.of(class).iter().filter_map(|name| self.volume(name)).collect()
    }

    fn class(&self, name: &str) -> Option<Arc<ClassView>> {
        self.classes.get(name)
    }

    fn driver(&self, name: &str) -> Option<Arc<DriverView>> {
        self.drivers.get(name)
    }

    fn capacities(&self, class: &str) -> Vec<Arc<CapacityView>> {
        let all = self.capacities.list().into_iter().map(|(_, capacity)| capacity);
        all.filter(|capacity| capacity.storage_class_name == class).collect()
    }

    fn csi_node(&self, name: &str) -> Option<Arc<CsiNodeView>> {
        self.nodes.get(name)
    }

    fn attached(&self, node: &str) -> Vec<Arc<AttachmentView>> {
        self.by_node.of(node).iter().filter_map(|key| self.attachments.get(key)).collect()
    }
}

/// What the API server says, without what is only assumed.
struct Told<'v>(&'v Volumes);

impl Objects for Told<'_> {
    fn claim(&self, key: &str) -> Option<Arc<ClaimView>> {
        self.0.claims.get(key)
    }

    fn volume(&self, name: &str) -> Option<Arc<VolumeView>> {
        self.0.volumes.get(name)
    }
}
