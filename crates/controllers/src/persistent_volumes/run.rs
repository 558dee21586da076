//! Does what the plans say for one claim or one volume.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
};
use kube::Api;
use kube::api::PostParams;

use super::claim::{self, Around};
use super::follow::claimant;
use super::matching::{self, BIND_COMPLETED, BOUND_BY_CONTROLLER, claim_ref};
use super::{Key, annotations, has, volume};
use crate::context::{Context, reference};
use crate::view::split;

/// Somebody else was faster, and the copies may not know of it yet.
const SHORTLY: Duration = Duration::from_millis(50);
/// Annotations that ask a program for a volume, the older one too.
const PROVISIONER: [&str; 2] =
    ["volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner"];

/// Looks at one claim or one volume.
///
/// # Errors
/// Those of the API; the key is then tried again.
pub async fn reconcile(context: &Arc<Context>, key: Key) -> Result<Option<Duration>, kube::Error> {
    let done = match &key {
        Key::Claim(key) => Binder { context }.claim(key).await,
        Key::Volume(name) => Binder { context }.volume(name).await,
    };
    match done {
        Ok(()) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Some(SHORTLY)),
        Err(error) => Err(error),
    }
}

struct Binder<'a> {
    context: &'a Arc<Context>,
}

fn about_claim(claim: &PersistentVolumeClaim) -> ObjectReference {
    reference("v1", "PersistentVolumeClaim", &claim.metadata)
}

fn about_volume(volume: &PersistentVolume) -> ObjectReference {
    reference("v1", "PersistentVolume", &volume.metadata)
}

impl Binder<'_> {
    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.context.clients.persistent_volumes.clone())
    }

    fn claims(&self, namespace: &str) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.clients.persistent_volumes.clone(), namespace)
    }

    fn tell(&self, about: ObjectReference, (is_warning, reason, message): claim::Told) {
        let recorder = self.context.recorder.named("persistentvolume-controller");
        match is_warning {
            true => recorder.warning(about, reason, message),
            false => recorder.normal(about, reason, message),
        }
    }

    async fn claim(&self, key: &str) -> Result<(), kube::Error> {
        let copies = &self.context.informers.storage;
        let Some(claim) = copies.claims.get(key) else { return Ok(()) };
        let volumes: Vec<_> = copies.volumes.list().into_iter().map(|(_, volume)| volume).collect();
        let classes: Vec<_> = copies.classes.list().into_iter().map(|(_, class)| class).collect();
        let pods = copies.users.of(key).into_iter().filter_map(|pod| self.context.informers.pods.get(&pod));
        let waiting = pods.filter(|pod| pod.spec.node_name.is_empty() && !pod.is_finished());
        let waiting: Vec<String> = waiting.map(|pod| pod.metadata.name.clone()).collect();
        let around = Around { volumes: &volumes, classes: &classes, waiting: &waiting };
        match claim::plan(&claim, &around) {
            claim::Action::Bind(name) => match copies.volumes.get(&name) {
                Some(volume) => self.bind(&volume, &claim).await,
                None => Ok(()),
            },
            claim::Action::Wait { tell } => {
                tell.into_iter().for_each(|told| self.tell(about_claim(&claim), told));
                self.phase_of_claim(&claim, "Pending", None).await.map(drop)
            }
            claim::Action::Lose(reason, message) => {
                let was = claim.status.as_ref().and_then(|status| status.phase.as_deref());
                if was != Some("Lost") {
                    self.phase_of_claim(&claim, "Lost", None).await?;
                    self.tell(about_claim(&claim), (true, reason, message.to_owned()));
                }
                Ok(())
            }
            claim::Action::Classify(class) => {
                let mut changed = (*claim).clone();
                changed.spec.get_or_insert_default().storage_class_name = Some(class);
                self.write_claim(&changed).await.map(drop)
            }
            claim::Action::Provision(provisioner) => self.provision(&claim, provisioner).await,
        }
    }

    async fn provision(&self, claim: &PersistentVolumeClaim, provisioner: String) -> Result<(), kube::Error> {
        let mut changed = claim.clone();
        for name in PROVISIONER {
            annotations(&mut changed.metadata).insert(name.to_owned(), provisioner.clone());
        }
        if changed.metadata.annotations != claim.metadata.annotations {
            self.write_claim(&changed).await?;
        }
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.tell(about_claim(claim), (false, "ExternalProvisioning", message));
        Ok(())
    }

    /// Writes down of both that they are each other's, the volume first; what is written already is left.
    async fn bind(
        &self,
        volume: &PersistentVolume,
        claim: &PersistentVolumeClaim,
    ) -> Result<(), kube::Error> {
        let mut bound = volume.clone();
        let chosen = !matching::is_bound_to(volume, claim);
        if chosen || claim_ref(volume).and_then(|owner| owner.uid.as_ref()) != claim.metadata.uid.as_ref() {
            bound.spec.get_or_insert_default().claim_ref = Some(about_claim(claim));
        }
        if chosen {
            annotations(&mut bound.metadata).insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        if bound != *volume {
            bound = self.write_volume(&bound).await?;
        }
        self.phase_of_volume(&bound, "Bound", None).await?;

        let name = volume.metadata.name.as_ref();
        let mut owner = claim.clone();
        if owner.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()) != name {
            owner.spec.get_or_insert_default().volume_name = name.cloned();
            annotations(&mut owner.metadata).insert(BOUND_BY_CONTROLLER.to_owned(), "yes".to_owned());
        }
        if !has(&owner.metadata, BIND_COMPLETED) {
            annotations(&mut owner.metadata).insert(BIND_COMPLETED.to_owned(), "yes".to_owned());
        }
        if owner != *claim {
            owner = self.write_claim(&owner).await?;
        }
        self.phase_of_claim(&owner, "Bound", Some(&bound)).await.map(drop)
    }

    async fn volume(&self, name: &str) -> Result<(), kube::Error> {
        let copies = &self.context.informers.storage;
        let Some(volume) = copies.volumes.get(name) else { return Ok(()) };
        let owner = claimant(&volume);
        let mut claim = owner.as_ref().and_then(|key| copies.claims.get(key));
        if volume::plan(&volume, claim.as_deref()) == volume::Action::Release
            && !is_given_up(&volume)
            && let Some((namespace, name)) = owner.as_deref().map(split)
        {
            // The copies may not know of the claim yet, and what is released does not come back.
            claim = self.claims(namespace).get_opt(name).await?.map(Arc::new);
        }
        match volume::plan(&volume, claim.as_deref()) {
            volume::Action::Phase(phase) => self.phase_of_volume(&volume, phase, None).await.map(drop),
            volume::Action::Release => self.release(&volume).await,
            volume::Action::Claim => {
                owner.into_iter().for_each(|key| self.context.queues.persistent_volumes.add(Key::Claim(key)));
                Ok(())
            }
            volume::Action::Mismatch => {
                let of_volume = |claim: &str| {
                    format!(
                        "Cannot bind PersistentVolume to requested PersistentVolumeClaim {claim:?} due to incompatible volumeMode."
                    )
                };
                let of_claim = |volume: &str| {
                    format!(
                        "Cannot bind PersistentVolume {volume:?} to requested PersistentVolumeClaim due to incompatible volumeMode."
                    )
                };
                if let Some(claim) = claim {
                    let claimant = claim.metadata.name.as_deref().unwrap_or_default();
                    self.tell(about_volume(&volume), (true, "VolumeMismatch", of_volume(claimant)));
                    self.tell(about_claim(&claim), (true, "VolumeMismatch", of_claim(name)));
                }
                Ok(())
            }
            volume::Action::Unbind { reserved } => self.unbind(&volume, reserved).await,
        }
    }

    async fn release(&self, volume: &PersistentVolume) -> Result<(), kube::Error> {
        let mut released = volume.clone();
        if !is_given_up(volume) {
            released = self.phase_of_volume(volume, "Released", None).await?;
        }
        let Some((reason, message)) = volume::failure(&released) else { return Ok(()) };
        if phase(&released) != "Failed" {
            self.phase_of_volume(&released, "Failed", Some(&message)).await?;
            self.tell(about_volume(volume), (true, reason, message));
        }
        Ok(())
    }

    async fn unbind(&self, volume: &PersistentVolume, reserved: bool) -> Result<(), kube::Error> {
        let mut freed = volume.clone();
        let spec = freed.spec.get_or_insert_default();
        if reserved {
            spec.claim_ref.iter_mut().for_each(|owner| owner.uid = None);
        } else {
            spec.claim_ref = None;
            annotations(&mut freed.metadata).remove(BOUND_BY_CONTROLLER);
        }
        let freed = self.write_volume(&freed).await?;
        self.phase_of_volume(&freed, "Available", None).await.map(drop)
    }

    async fn write_volume(&self, volume: &PersistentVolume) -> Result<PersistentVolume, kube::Error> {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        self.volumes().replace(name, &PostParams::default(), volume).await
    }

    async fn write_claim(&self, claim: &PersistentVolumeClaim) -> Result<PersistentVolumeClaim, kube::Error> {
        let meta = &claim.metadata;
        let api = self.claims(meta.namespace.as_deref().unwrap_or_default());
        api.replace(meta.name.as_deref().unwrap_or_default(), &PostParams::default(), claim).await
    }

    /// Writes a volume's phase, where it is another.
    async fn phase_of_volume(
        &self,
        volume: &PersistentVolume,
        wanted: &str,
        message: Option<&str>,
    ) -> Result<PersistentVolume, kube::Error> {
        let mut changed = volume.clone();
        if phase(volume) == wanted {
            return Ok(changed);
        }
        let status = changed.status.get_or_insert_default();
        status.phase = Some(wanted.to_owned());
        status.message = message.map(str::to_owned);
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        self.volumes().replace_status(name, &PostParams::default(), &changed).await
    }

    /// Writes a claim's phase, and what it has of its volume, where that is otherwise.
    async fn phase_of_claim(
        &self,
        claim: &PersistentVolumeClaim,
        wanted: &str,
        volume: Option<&PersistentVolume>,
    ) -> Result<PersistentVolumeClaim, kube::Error> {
        let mut changed = claim.clone();
        changed.status = Some(status(claim.status.clone().unwrap_or_default(), wanted, volume));
        if changed.status == claim.status {
            return Ok(changed);
        }
        let meta = &claim.metadata;
        let api = self.claims(meta.namespace.as_deref().unwrap_or_default());
        api.replace_status(meta.name.as_deref().unwrap_or_default(), &PostParams::default(), &changed).await
    }
}

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn is_given_up(volume: &PersistentVolume) -> bool {
    matches!(phase(volume), "Released" | "Failed")
}

/// A claim's status in a phase, with its volume.
pub(super) fn status(
    mut status: PersistentVolumeClaimStatus,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> PersistentVolumeClaimStatus {
    let was = status.phase.replace(phase.to_owned());
    let Some(spec) = volume.and_then(|volume| volume.spec.as_ref()) else {
        status.access_modes = None;
        status.capacity = None;
        status.current_volume_attributes_class_name = None;
        return status;
    };
    status.access_modes.clone_from(&spec.access_modes);
    // Afterwards the file system may be smaller than its device, and the class changes with the device.
    if was.as_deref() != Some(phase) {
        status.capacity.clone_from(&spec.capacity);
    }
    if was.as_deref() == Some("Pending") {
        status.current_volume_attributes_class_name.clone_from(&spec.volume_attributes_class_name);
    }
    status
}
