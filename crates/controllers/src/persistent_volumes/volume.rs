//! What is to be done for a volume. Pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::has;
use super::matching::{self, BOUND_BY_CONTROLLER};

/// Who made a volume for a claim.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Whose a volume of an older kind is by now.
const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// It is in this phase.
    Phase(&'static str),
    /// Its claim is gone, or has another volume: what its policy says.
    Release,
    /// Its claim is looked at instead.
    Claim,
    /// It cannot be its claim's: both are told.
    Mismatch,
    /// It is free again, for its claim has another; `reserved`: but is still kept for that claim.
    Unbind {
        /// Its maker chose the claim.
        reserved: bool,
    },
}

/// What is to be done for a volume whose claim, by name, is this.
pub(super) fn plan(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Action {
    let Some(owner) = matching::claim_ref(volume) else { return Action::Phase("Available") };
    if owner.uid.as_deref().unwrap_or_default().is_empty() {
        return Action::Phase("Available");
    }
    let Some(claim) = claim.filter(|claim| claim.metadata.uid == owner.uid) else { return Action::Release };
    match claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default() {
        "" if matching::modes_differ(claim, volume) => Action::Mismatch,
        "" => Action::Claim,
        named if Some(named) == volume.metadata.name.as_deref() => Action::Phase("Bound"),
        _ if has(&volume.metadata, PROVISIONED_BY) && policy(volume) == "Delete" => Action::Release,
        _ => Action::Unbind { reserved: !has(&volume.metadata, BOUND_BY_CONTROLLER) },
    }
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

/// Why a released volume fails: reason and message. None where somebody else removes it, or it is kept.
pub(super) fn failure(volume: &PersistentVolume) -> Option<(&'static str, String)> {
    let annotation = |name| volume.metadata.annotations.as_ref().and_then(|all| all.get(name));
    if annotation(MIGRATED_TO).is_some_and(|driver| !driver.is_empty()) {
        return None;
    }
    match policy(volume) {
        "Retain" => None,
        "Recycle" => Some(("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned())),
        "Delete" => {
            let maker = annotation(PROVISIONED_BY).filter(|maker| !maker.is_empty());
            let why = match maker {
                Some(maker) if !maker.starts_with("kubernetes.io/") => return None,
                Some(maker) => format!("no volume plugin matched name: {maker}"),
                None if volume.spec.as_ref().is_some_and(|spec| spec.csi.is_some()) => return None,
                None => format!(
                    "error getting deleter volume plugin for volume {:?}: no deletable volume plugin matched",
                    volume.metadata.name.as_deref().unwrap_or_default()
                ),
            };
            Some(("VolumeFailedDelete", why))
        }
        _ => Some((
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy".to_owned(),
        )),
    }
}
