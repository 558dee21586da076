//! Whether claims have what they were given (upstream's `checkBindings`). Pure.

use std::sync::Arc;

use super::matching::fits_node;
use super::{Found, Objects, SELECTED_NODE, is_bound};
use crate::plan::devices::Site;
use crate::view::VolumeView;

/// Whether all claims have their volumes; `told` is what the API server says, without what is only assumed.
///
/// # Errors
/// Why they will not have them, in upstream's words.
pub fn are_bound(found: &Found, node: Site<'_>, told: &impl Objects) -> Result<bool, String> {
    let claim_of = |key: &str, doing: &str| {
        told.claim(key).ok_or_else(|| format!("failed to {doing}: persistentvolumeclaims {key:?} not found"))
    };
    for binding in &found.bindings {
        let name = &binding.volume.metadata.name;
        let volume = told.volume(name);
        let volume =
            volume.ok_or_else(|| format!("failed to check binding: persistentvolumes {name:?} not found"))?;
        let claim = claim_of(&binding.claim.metadata.key(), "check binding")?;
        if binding.volume.metadata.version() > volume.metadata.version() {
            return Ok(false);
        }
        on_site(&volume, node)?;
        if volume.spec.claim_ref.as_ref().is_none_or(|claimed| claimed.uid.is_empty()) {
            return Err(format!("ClaimRef got reset for pv {name:?}"));
        }
        if !is_bound(&claim) {
            return Ok(false);
        }
    }
    for asked in &found.provisions {
        let name = &asked.metadata.name;
        let claim = claim_of(&asked.metadata.key(), "check provisioning pvc")?;
        if asked.metadata.version() > claim.metadata.version() {
            return Ok(false);
        }
        if claim.metadata.annotations.is_empty() {
            return Err(format!("selectedNode annotation reset for PVC {name:?}"));
        }
        if claim.metadata.annotations.get(SELECTED_NODE).map(String::as_str) != Some(node.name) {
            return Err(format!("provisioning failed for PVC {name:?}"));
        }
        if !claim.spec.volume_name.is_empty() {
            // Its volume may not be known yet.
            let Some(volume) = told.volume(&claim.spec.volume_name) else { return Ok(false) };
            on_site(&volume, node)?;
        }
        if !is_bound(&claim) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn on_site(volume: &Arc<VolumeView>, node: Site<'_>) -> Result<(), String> {
    if fits_node(volume, node.labels) {
        return Ok(());
    }
    let (name, node) = (&volume.metadata.name, node.name);
    Err(format!("pv {name:?} node affinity doesn't match node {node:?}: no matching NodeSelectorTerms"))
}
