//! How many volumes of a driver a node takes (upstream's `NodeVolumeLimits`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Storage;
use crate::snapshot::NodeInfo;
use crate::view::ClaimView;

/// A volume by its driver and what that calls it.
type Id = (String, String);

/// What a pod's volumes are counted against.
pub(super) struct Limits<'s> {
    storage: &'s dyn Storage,
    /// The pod's volumes that drivers have.
    wanted: BTreeSet<Id>,
}

/// The volume that a claim stands for, if a driver has it or will have it.
fn id(claim: &ClaimView, storage: &dyn Storage) -> Option<Id> {
    let name = &claim.spec.volume_name;
    let known = (!name.is_empty()).then(|| storage.volume(name)).flatten();
    let (driver, handle) = match known {
        Some(volume) => {
            volume.spec.csi.as_ref().map(|csi| (csi.driver.clone(), csi.volume_handle.clone()))?
        }
        // Whoever makes it will have it; it has no name yet.
        None => {
            (storage.class(claim.class())?.provisioner.clone(), format!("claim {}", claim.metadata.key()))
        }
    };
    (!driver.is_empty() && !handle.is_empty()).then_some((driver, handle))
}

impl<'s> Limits<'s> {
    /// `None` if no driver has volumes of the pod.
    pub fn new(claims: &[Arc<ClaimView>], storage: &'s dyn Storage) -> Option<Self> {
        let wanted: BTreeSet<Id> = claims.iter().filter_map(|claim| id(claim, storage)).collect();
        (!wanted.is_empty()).then_some(Self { storage, wanted })
    }

    /// Whether a node would have too many.
    pub fn are_exceeded(&self, name: &str, node: &NodeInfo) -> bool {
        let Some(limited) = self.storage.csi_node(name) else { return false };
        if !self.wanted.iter().any(|(driver, _)| limited.most(driver).is_some()) {
            return false;
        }
        let keys = node.pods.values().flat_map(|pod| pod.volume_claims());
        let of_pods = keys.filter_map(|key| id(&*self.storage.claim(&key)?, self.storage));
        let mut there: BTreeSet<Id> = of_pods.collect();
        let is_new = |id: &&Id| !there.contains(*id);
        let mut counts: BTreeMap<&str, i32> = BTreeMap::new();
        for (driver, _) in self.wanted.iter().filter(is_new) {
            *counts.entry(driver).or_default() += 1;
        }
        // As upstream has it, what is attached while no pod here uses it counts twice for who wants it.
        there.extend(self.storage.attached(name).iter().filter_map(|attachment| {
            let volume = self.storage.volume(attachment.spec.source.persistent_volume_name.as_deref()?)?;
            Some((attachment.spec.attacher.clone(), volume.spec.csi.as_ref()?.volume_handle.clone()))
        }));
        counts.iter().any(|(driver, new)| {
            let has = there.iter().filter(|(of, _)| of == driver).count();
            let has = i32::try_from(has).unwrap_or(i32::MAX);
            limited.most(driver).is_some_and(|most| has.saturating_add(*new) > most)
        })
    }
}

#[cfg(test)]
mod tests;
