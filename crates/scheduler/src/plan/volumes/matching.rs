//! Finds volumes for claims (upstream's `volume.FindMatchingVolume`).

use std::collections::BTreeMap;
use std::sync::Arc;

use kinds::matching::selects;
use kinds::selector;
use schema::quantity::Quantity;

use super::Storage;
use crate::view::{ClaimView, VolumeView};

type Labels = BTreeMap<String, String>;

/// Volumes among which a claim may choose.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The one that somebody has kept for it: no other will do.
    kept: Option<Arc<VolumeView>>,
    /// All others, the smallest first.
    others: Vec<Arc<VolumeView>>,
}

pub(super) fn storage(amounts: &BTreeMap<String, String>) -> Quantity {
    amounts.get("storage").and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// How much a claim asks for.
pub(super) fn requested(claim: &ClaimView) -> Quantity {
    storage(&claim.spec.resources.requests)
}

/// Whether a volume can be used on a node with such labels.
pub(super) fn fits_node(volume: &VolumeView, labels: &Labels) -> bool {
    let required = volume.spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| selects(term, "", labels)))
}

/// Whether a volume is a claim's, or kept for it.
pub fn is_bound_to(volume: &VolumeView, claim: &ClaimView) -> bool {
    let meta = &claim.metadata;
    volume.spec.claim_ref.as_ref().is_some_and(|claimed| {
        (&claimed.namespace, &claimed.name) == (&meta.namespace, &meta.name)
            && (claimed.uid.is_empty() || claimed.uid == meta.uid)
    })
}

/// Whether a volume is what a claim asks for, whoever has it.
fn suits(volume: &VolumeView, claim: &ClaimView) -> bool {
    let mode = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".to_owned());
    let (asked, has) = (&claim.spec, &volume.spec);
    storage(&has.capacity) >= requested(claim)
        && mode(&asked.volume_mode) == mode(&has.volume_mode)
        && asked.volume_attributes_class_name.as_deref().unwrap_or_default()
            == has.volume_attributes_class_name.as_deref().unwrap_or_default()
        && volume.metadata.deletion_timestamp.is_none()
}

/// Whether a volume that is nobody's may become a claim's.
fn is_free(volume: &VolumeView, claim: &ClaimView) -> bool {
    let selector = claim.spec.selector.as_ref();
    volume.spec.claim_ref.is_none()
        && volume.status.phase == "Available"
        && selector.is_none_or(|_| selector::matches(selector, &volume.metadata.labels))
        && claim.spec.access_modes.iter().all(|mode| volume.spec.access_modes.contains(mode))
}

impl Choice {
    pub fn new(claim: &ClaimView, all: &impl Storage) -> Self {
        let mut suitable = all.of_class(claim.class());
        suitable.retain(|volume| suits(volume, claim));
        let kept = suitable.iter().find(|volume| is_bound_to(volume, claim)).cloned();
        if kept.is_some() {
            return Self { kept, others: Vec::new() };
        }
        suitable.retain(|volume| is_free(volume, claim));
        suitable.sort_by_cached_key(|volume| storage(&volume.spec.capacity));
        Self { kept: None, others: suitable }
    }

    /// The best volume on a node with such labels that is not taken yet.
    pub fn on(&self, labels: &Labels, taken: impl Fn(&VolumeView) -> bool) -> Option<Arc<VolumeView>> {
        let all = self.kept.iter().chain(&self.others);
        all.filter(|volume| !taken(volume)).find(|volume| fits_node(volume, labels)).cloned()
    }
}
