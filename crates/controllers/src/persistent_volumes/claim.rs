//! What is to be done for a claim. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::matching::{self, BIND_COMPLETED, SELECTED_NODE};
use super::{default_class, has};

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Bind it to this volume, and write down of both what is not yet.
    Bind(String),
    /// It waits; `tell` is why, for its user.
    Wait {
        /// A reason and its message.
        tell: Option<Told>,
    },
    /// Give it the class that is the default by now.
    Classify(String),
    /// Ask the provisioner of its class for a volume.
    Provision(String),
    /// Its volume is lost.
    Lose(&'static str, &'static str),
}

/// An event: whether it is a warning, its reason and its message.
pub(super) type Told = (bool, &'static str, String);

/// What there is beside the claim.
pub(super) struct Around<'a> {
    /// All volumes.
    pub volumes: &'a [Arc<PersistentVolume>],
    /// All classes.
    pub classes: &'a [Arc<StorageClass>],
    /// The names of pods that use the claim and are on no node.
    pub waiting: &'a [String],
}

impl Around<'_> {
    fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.iter().find(|volume| volume.metadata.name.as_deref() == Some(name))
    }

    fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.iter().find(|class| class.metadata.name.as_deref() == Some(name))
    }
}

/// What is to be done for a claim.
pub(super) fn plan(claim: &PersistentVolumeClaim, around: &Around<'_>) -> Action {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if has(&claim.metadata, BIND_COMPLETED) {
        return bound(claim, around, named);
    }
    if named.is_empty() { unbound(claim, around) } else { asked(claim, around, named) }
}

/// It was bound already.
fn bound(claim: &PersistentVolumeClaim, around: &Around<'_>, named: &str) -> Action {
    if named.is_empty() {
        let why = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return Action::Lose("ClaimLost", why);
    }
    let Some(volume) = around.volume(named) else {
        let why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return Action::Lose("ClaimLost", why);
    };
    match matching::claim_ref(volume) {
        Some(owner) if owner.uid != claim.metadata.uid => Action::Lose(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
        _ => Action::Bind(named.to_owned()),
    }
}

/// Its user asks for this volume.
fn asked(claim: &PersistentVolumeClaim, around: &Around<'_>, named: &str) -> Action {
    let Some(volume) = around.volume(named) else { return Action::Wait { tell: None } };
    if matching::claim_ref(volume).is_none() {
        return match matching::unfit(claim, volume) {
            None => Action::Bind(named.to_owned()),
            Some(why) => {
                let message = format!("Cannot bind to requested volume {named:?}: {why}");
                Action::Wait { tell: Some((true, "VolumeMismatch", message)) }
            }
        };
    }
    if matching::is_bound_to(volume, claim) {
        return Action::Bind(named.to_owned());
    }
    let message = format!("volume {named:?} already bound to a different claim.");
    Action::Wait { tell: Some((true, "FailedBinding", message)) }
}

/// Any volume will do that is as it asks.
fn unbound(claim: &PersistentVolumeClaim, around: &Around<'_>) -> Action {
    let class = matching::class_of_claim(claim);
    let found = around.class(class);
    let waits_for_pod =
        found.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if let Some(volume) = matching::find(claim, around.volumes, waits_for_pod) {
        return Action::Bind(volume.metadata.name.clone().unwrap_or_default());
    }
    if !matching::names_class(claim)
        && let Some(class) = default_class(around.classes)
    {
        return Action::Classify(class.to_owned());
    }
    if waits_for_pod && !has(&claim.metadata, SELECTED_NODE) {
        return Action::Wait { tell: Some(waiting(around.waiting)) };
    }
    if class.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return Action::Wait { tell: Some((false, "FailedBinding", message.to_owned())) };
    }
    let failed = |why: String| Action::Wait { tell: Some((true, "ProvisioningFailed", why)) };
    match found.map(|class| class.provisioner.as_str()) {
        None => failed(format!("storageclass.storage.k8s.io {class:?} not found")),
        Some(provisioner) if provisioner.starts_with("kubernetes.io/") => {
            failed(format!("no volume plugin matched name: {provisioner}"))
        }
        Some(provisioner) => Action::Provision(provisioner.to_owned()),
    }
}

fn waiting(pods: &[String]) -> Told {
    match pods {
        [] => {
            let message = "waiting for first consumer to be created before binding";
            (false, "WaitForFirstConsumer", message.to_owned())
        }
        [pod] => (false, "WaitForPodScheduled", format!("waiting for pod {pod} to be scheduled")),
        pods => {
            (false, "WaitForPodScheduled", format!("waiting for pods {} to be scheduled", pods.join(",")))
        }
    }
}

/// Whether anything new of a volume may help a claim: it is what the claim names, or as one asks that has none.
pub(super) fn helps(claim: &PersistentVolumeClaim, volume: &Arc<PersistentVolume>) -> bool {
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    match named {
        "" => is_pending(claim) && matching::find(claim, [volume], false).is_some(),
        named => volume.metadata.name.as_deref() == Some(named),
    }
}

/// Whether it is bound to nothing yet.
pub(super) fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    !has(&claim.metadata, BIND_COMPLETED)
}
