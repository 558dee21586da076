//! Volumes that a claim stands for: of this node's own disks.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::Api;

use super::Cause;
use super::content::{Fetcher, failed};
use super::disk::{self, Disk};
use crate::pods::spec::PodExt;

/// The claim that a pod's volume names.
pub struct Claim {
    pub name: String,
    pub read_only: bool,
    /// It was made for this pod, and must not be another's.
    pub ephemeral: bool,
}

/// What a claim is bound to.
pub struct Claimed {
    /// A directory or a block device.
    pub path: PathBuf,
    /// A disk whose file system pods see, to be mounted for each.
    pub disk: Option<Disk>,
    /// Its files may be given to the pod's group.
    pub owned: bool,
}

/// The claim of a volume, if it is of that type.
pub fn of(pod: &Pod, volume: &Volume) -> Option<Claim> {
    if let Some(source) = &volume.persistent_volume_claim {
        let read_only = source.read_only.unwrap_or(false);
        return Some(Claim { name: source.claim_name.clone(), read_only, ephemeral: false });
    }
    volume.ephemeral.as_ref()?;
    Some(Claim { name: format!("{}-{}", pod.name(), volume.name), read_only: false, ephemeral: true })
}

impl Fetcher {
    /// What a claim is bound to.
    ///
    /// # Errors
    /// When it is not bound, not this pod's, or bound to what is not of this node.
    pub async fn claimed(&self, pod: &Pod, wanted: &Claim) -> Result<Claimed, Cause> {
        let (client, name) = (self.client(), &wanted.name);
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), pod.namespace());
        let missing = || Cause::Missing { kind: "persistentvolumeclaim", name: name.clone() };
        let claim = claims.get_opt(name).await.map_err(failed)?.ok_or_else(missing)?;
        if wanted.ephemeral {
            let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
            if !owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == pod.uid()) {
                let (namespace, pod) = (pod.namespace(), pod.name());
                return Err(Cause::Claim(format!(
                    "PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"
                )));
            }
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Err(Cause::Claim(format!("PVC is being deleted: {name}")));
        }
        let volume = claim.spec.and_then(|spec| spec.volume_name).filter(|name| !name.is_empty());
        let volume = volume.ok_or_else(|| Cause::Claim("PVC is not bound".to_owned()))?;
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        let spec = volumes.get(&volume).await.map_err(failed)?.spec.unwrap_or_default();
        if let Some(host) = &spec.host_path {
            super::source::check_host_path(host)?;
            return Ok(Claimed { path: host.path.clone().into(), disk: None, owned: false });
        }
        let local = spec.local.ok_or(Cause::Unsupported)?;
        if !std::path::Path::new(&local.path).exists() {
            return Err(Cause::Claim(format!("path {:?} does not exist", local.path)));
        }
        let path = PathBuf::from(local.path);
        let has_files = spec.volume_mode.as_deref() != Some("Block");
        let disk = (has_files && disk::is_disk(&path)).then(|| Disk {
            device: path.clone(),
            file_system: local.fs_type.unwrap_or_default(),
            options: spec.mount_options.unwrap_or_default(),
            read_only: wanted.read_only,
        });
        Ok(Claimed { path, disk, owned: has_files })
    }
}
