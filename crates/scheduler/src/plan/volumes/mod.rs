//! Which volumes a pod needs, and on which nodes it can have them (upstream's `VolumeRestrictions`, `VolumeBinding` and
//! `VolumeZone`, and `NodeVolumeLimits`). Pure.
//!
//! [`wanted`] looks once for each pod, `on_node` and `zones` for each node; `matching` finds volumes for claims that
//! wait for their first pod, `provision` says where new ones can be made, `limits` how many a node takes, [`progress`] whether claims have what they
//! were given.

mod limits;
mod matching;
pub mod progress;
mod provision;
mod zones;

use std::sync::Arc;

use super::devices::Site;
use crate::snapshot::NodeInfo;
use crate::view::{
    AttachmentView, CapacityView, ClaimView, ClassView, CsiNodeView, DriverView, PodView, VolumeView,
};
use limits::Limits;
pub use matching::is_bound_to;
use matching::{Choice, fits_node};
use provision::Source;
use zones::Zone;

/// The node for which a volume is to be made.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Nobody but controllers has chosen what a volume is bound to.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Somebody has looked at a claim's binding.
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";

const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const NOT_ENOUGH_SPACE: &str = "node(s) did not have enough free storage";
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
/// Another pod has a claim for itself.
pub(super) const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already \
                                 in-use by another pod";
/// It has as many volumes as it takes.
pub(super) const FULL: &str = "node(s) exceed max volume count";

/// Claims and volumes.
pub trait Objects {
    /// A claim by its key.
    fn claim(&self, key: &str) -> Option<Arc<ClaimView>>;
    /// A volume by its name.
    fn volume(&self, name: &str) -> Option<Arc<VolumeView>>;
}

/// All that is known of volumes.
pub trait Storage: Objects {
    /// All volumes of a class.
    fn of_class(&self, class: &str) -> Vec<Arc<VolumeView>>;
    /// A class by its name.
    fn class(&self, name: &str) -> Option<Arc<ClassView>>;
    /// A driver by its name.
    fn driver(&self, name: &str) -> Option<Arc<DriverView>>;
    /// How much there is left of a class.
    fn capacities(&self, class: &str) -> Vec<Arc<CapacityView>>;
    /// What drivers a node has.
    fn csi_node(&self, name: &str) -> Option<Arc<CsiNodeView>>;
    /// What is attached to a node.
    fn attached(&self, node: &str) -> Vec<Arc<AttachmentView>>;
}

/// Why no node does, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hindrance {
    /// The pod has to wait.
    Unschedulable(String),
    /// Something is wrong.
    Failed(String),
}

/// What a pod needs of volumes.
#[derive(Default)]
pub struct Wanted<'s> {
    /// Claims that no other pod may use, by key.
    pub exclusive: Vec<String>,
    /// Volumes of claims that are bound; `None` for one that is not there.
    bound: Vec<Option<Arc<VolumeView>>>,
    /// Claims that get something now: first those that are promised to a node, then the smallest.
    open: Vec<Open>,
    /// Where its volumes are.
    zones: Vec<Zone>,
    /// How many of its volumes nodes take.
    limits: Option<Limits<'s>>,
}

/// A claim that gets something now.
#[derive(Debug)]
struct Open {
    claim: Arc<ClaimView>,
    /// A volume is being made for this node.
    promised: Option<String>,
    choice: Choice,
    source: Source,
}

/// What a pod's claims get on a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Volumes that are there.
    pub bindings: Vec<Binding>,
    /// Claims for which volumes are made.
    pub provisions: Vec<Arc<ClaimView>>,
}

impl Found {
    /// Whether they have all that they need.
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

/// A claim and what it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The claim.
    pub claim: Arc<ClaimView>,
    /// The volume.
    pub volume: Arc<VolumeView>,
}

/// Whether a claim has its volume for good.
pub fn is_bound(claim: &ClaimView) -> bool {
    !claim.spec.volume_name.is_empty() && claim.metadata.annotations.contains_key(BIND_COMPLETED)
}

fn missing(name: &str) -> Hindrance {
    Hindrance::Unschedulable(format!("persistentvolumeclaim {name:?} not found"))
}

/// The claims of a pod's volumes, each once.
fn claims(pod: &PodView, storage: &impl Storage) -> Result<Vec<Arc<ClaimView>>, Hindrance> {
    let stop = |why: String| Err(Hindrance::Unschedulable(why));
    let mut claims: Vec<Arc<ClaimView>> = Vec::new();
    for volume in pod.spec.volumes.iter() {
        let (name, is_own) = pod.claim_of(volume);
        let Some(claim) = storage.claim(&format!("{}/{name}", pod.metadata.namespace)) else {
            return Err(match is_own {
                true => Hindrance::Unschedulable(format!(
                    "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
                )),
                false => missing(&name),
            });
        };
        if claim.status.phase == "Lost" {
            let volume = &claim.spec.volume_name;
            return stop(format!(
                "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
            ));
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return stop(format!("persistentvolumeclaim {name:?} is being deleted"));
        }
        let mut owners = claim.metadata.owner_references.iter();
        if is_own && !owners.any(|owner| owner.controller == Some(true) && owner.uid == pod.metadata.uid) {
            let (claim, pod) = (claim.metadata.key(), pod.metadata.key());
            return stop(format!("PVC {claim} was not created for pod {pod} (pod is not owner)"));
        }
        if !claims.iter().any(|known| known.metadata.name == name) {
            claims.push(claim);
        }
    }
    Ok(claims)
}

/// Whether a claim waits for its first pod.
fn is_delayed(claim: &ClaimView, storage: &impl Storage) -> Result<bool, Hindrance> {
    let Some(class) = Some(claim.class()).filter(|class| !class.is_empty()) else { return Ok(false) };
    let Some(found) = storage.class(class) else { return Ok(false) };
    let mode = found.volume_binding_mode.as_deref().ok_or_else(|| {
        let why = format!("VolumeBindingMode not set for StorageClass {class:?}");
        Hindrance::Failed(format!("running PreFilter plugin \"VolumeBinding\": {why}"))
    })?;
    Ok(mode == "WaitForFirstConsumer")
}

/// What a pod needs of volumes; `None` if no claims stand for any.
///
/// # Errors
/// Why no node does.
pub fn wanted<'s>(pod: &PodView, storage: &'s impl Storage) -> Result<Option<Wanted<'s>>, Hindrance> {
    if pod.spec.volumes.is_empty() {
        return Ok(None);
    }
    let mut wanted = Wanted::default();
    let named: Vec<&String> = pod.spec.volumes.iter().filter_map(|volume| volume.claim.as_ref()).collect();
    // Claims that are named come first: they have to be there before anything else is said.
    for name in &named {
        let key = format!("{}/{name}", pod.metadata.namespace);
        let claim = storage.claim(&key).ok_or_else(|| missing(name))?;
        if claim.spec.access_modes.iter().any(|mode| mode == "ReadWriteOncePod") {
            wanted.exclusive.push(key);
        }
    }
    let (mut bound, mut promised, mut open) = (Vec::new(), Vec::new(), Vec::new());
    let claims = claims(pod, storage)?;
    wanted.limits = Limits::new(&claims, storage);
    for claim in claims {
        let volume = &claim.spec.volume_name;
        if is_bound(&claim) {
            bound.push(claim);
            continue;
        }
        if !is_delayed(&claim, storage)? || !volume.is_empty() {
            let why = "pod has unbound immediate PersistentVolumeClaims";
            return Err(Hindrance::Unschedulable(why.to_owned()));
        }
        let (choice, source) = (Choice::new(&claim, storage), Source::new(&claim, storage));
        match claim.metadata.annotations.get(SELECTED_NODE).cloned() {
            Some(node) => promised.push(Open { claim, promised: Some(node), choice, source }),
            None => open.push(Open { claim, promised: None, choice, source }),
        }
    }
    for claim in bound {
        let volume = &claim.spec.volume_name;
        let found = storage.volume(volume);
        // Only for claims that are named, as upstream has it.
        if named.contains(&&claim.metadata.name) {
            let why = || Hindrance::Unschedulable(format!("persistentvolume {volume:?} not found"));
            wanted.zones.extend(zones::of(found.as_ref().ok_or_else(why)?));
        }
        wanted.bound.push(found);
    }
    open.sort_by_key(|open| matching::requested(&open.claim));
    promised.append(&mut open);
    wanted.open = promised;
    Ok(Some(wanted))
}

/// What a pod's claims get on a node.
///
/// # Errors
/// Why the node does not do.
pub fn on_node(wanted: &Wanted<'_>, node: Site<'_>) -> Result<Found, Vec<&'static str>> {
    let mut reasons = Vec::new();
    let bound = wanted.bound.iter().map(|volume| match volume {
        None => Some(NO_VOLUME),
        Some(volume) => (!fits_node(volume, node.labels)).then_some(NODE_CONFLICT),
    });
    let bad = bound.flatten().next();
    reasons.extend(bad.filter(|bad| *bad == NODE_CONFLICT));
    let found = match wanted.open.is_empty() {
        true => Ok(Found::default()),
        false => open_on_node(&wanted.open, node),
    };
    reasons.extend(found.as_ref().err());
    reasons.extend(bad.filter(|bad| *bad == NO_VOLUME));
    if reasons.is_empty() { found.map_err(|reason| vec![reason]) } else { Err(reasons) }
}

fn open_on_node(all: &[Open], node: Site<'_>) -> Result<Found, &'static str> {
    if all.iter().any(|open| open.promised.as_deref().is_some_and(|promised| promised != node.name)) {
        return Err(BIND_CONFLICT);
    }
    let mut found = Found::default();
    for Open { claim, promised, choice, source } in all {
        let taken = |volume: &VolumeView| {
            found.bindings.iter().any(|binding| binding.volume.metadata.name == volume.metadata.name)
        };
        let volume = if promised.is_none() { choice.on(node.labels, taken) } else { None };
        match volume {
            Some(volume) => found.bindings.push(Binding { claim: claim.clone(), volume }),
            None => {
                source.on(node.labels)?;
                found.provisions.push(claim.clone());
            }
        }
    }
    Ok(found)
}

/// Whether a node would have more volumes than it takes.
pub(super) fn is_too_much(wanted: &Wanted<'_>, name: &str, node: &NodeInfo) -> bool {
    wanted.limits.as_ref().is_some_and(|limits| limits.are_exceeded(name, node))
}

/// Whether a node is where the pod's volumes are.
///
/// # Errors
/// Why not.
pub(super) fn in_zones(wanted: &Wanted<'_>, node: Site<'_>) -> Result<(), &'static str> {
    zones::check(&wanted.zones, node.labels)
}

#[cfg(test)]
mod tests;
