//! The few fields of volumes, their claims and their classes that scheduling looks at.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{TopologySelectorTerm, VolumeNodeAffinity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::{Deserialize, Deserializer};

use super::{Meta, PodView, Resources};

/// Where classes stood before they had a field.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// A volume of a pod that a claim stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodVolume {
    /// Its name.
    pub name: String,
    /// The claim; `None` if the pod has one made of its own.
    pub claim: Option<String>,
}

/// A pod's volumes: those for which claims stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodVolumes {
    claimed: Vec<PodVolume>,
    /// Images that are volumes.
    pub images: Vec<String>,
}

impl std::ops::Deref for PodVolumes {
    type Target = [PodVolume];

    fn deref(&self) -> &[PodVolume] {
        &self.claimed
    }
}

impl<'de> Deserialize<'de> for PodVolumes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Any {
            name: String,
            persistent_volume_claim: Option<Named>,
            ephemeral: Option<Present>,
            image: Option<Image>,
        }
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Named {
            claim_name: String,
        }
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Present {}
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Image {
            reference: String,
        }
        let all: Vec<Any> = Deserialize::deserialize(deserializer)?;
        let mut volumes = Self::default();
        for Any { name, persistent_volume_claim, ephemeral, image } in all {
            let claim = persistent_volume_claim.map(|named| named.claim_name);
            if claim.is_some() || ephemeral.is_some() {
                volumes.claimed.push(PodVolume { name, claim });
            }
            volumes.images.extend(image.map(|image| image.reference));
        }
        Ok(volumes)
    }
}

impl PodView {
    /// The name of the claim of a volume, and whether it is the pod's own (`ephemeral.VolumeClaimName`).
    pub fn claim_of(&self, volume: &PodVolume) -> (String, bool) {
        match &volume.claim {
            Some(named) => (named.clone(), false),
            None => (format!("{}-{}", self.metadata.name, volume.name), true),
        }
    }

    /// The claims of its volumes: `NAMESPACE/NAME`.
    pub fn volume_claims(&self) -> impl Iterator<Item = String> {
        let of = |volume| format!("{}/{}", self.metadata.namespace, self.claim_of(volume).0);
        self.spec.volumes.iter().map(of)
    }
}

/// Metadata of volumes and claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeMeta {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The UID.
    pub uid: String,
    /// The version.
    pub resource_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Set while it is being deleted.
    pub deletion_timestamp: Option<String>,
    /// Whose it is.
    pub owner_references: Vec<Owner>,
}

/// Whose something is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// The owner's UID.
    pub uid: String,
    /// Whether the owner looks after it.
    pub controller: Option<bool>,
}

impl VolumeMeta {
    /// `NAMESPACE/NAME`, or `NAME`.
    pub fn key(&self) -> String {
        match self.namespace.is_empty() {
            true => self.name.clone(),
            false => format!("{}/{}", self.namespace, self.name),
        }
    }

    /// The version as a number.
    pub fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }
}

/// A volume (`PersistentVolume`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct VolumeView {
    /// Metadata.
    pub metadata: VolumeMeta,
    /// What it is.
    pub spec: VolumeSpec,
    /// Where it is in its life.
    pub status: Phase,
}

/// What a volume is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSpec {
    /// How large it is, under `storage`.
    pub capacity: BTreeMap<String, String>,
    /// How it may be used.
    pub access_modes: Vec<String>,
    /// Whose it is or is to be.
    pub claim_ref: Option<ClaimRef>,
    /// Its class.
    pub storage_class_name: String,
    /// `Filesystem` or `Block`; `None` for the former.
    pub volume_mode: Option<String>,
    /// Where it can be used; `None` for everywhere.
    pub node_affinity: Option<VolumeNodeAffinity>,
    /// The class of its attributes.
    pub volume_attributes_class_name: Option<String>,
    /// Where it is, if a driver has it.
    pub csi: Option<CsiSource>,
}

/// Where a volume of a driver is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsiSource {
    /// The driver.
    pub driver: String,
    /// What the driver calls it.
    pub volume_handle: String,
}

/// Which claim has a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClaimRef {
    /// The claim's namespace.
    pub namespace: String,
    /// The claim's name.
    pub name: String,
    /// The claim's UID; empty when whoever wrote it did not know it.
    pub uid: String,
}

/// Where a volume or a claim is in its life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Phase {
    /// `Pending`, `Available`, `Bound`, `Released`, `Lost` or `Failed`.
    pub phase: String,
}

/// A claim (`PersistentVolumeClaim`).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimView {
    /// Metadata.
    pub metadata: VolumeMeta,
    /// What it asks for.
    pub spec: ClaimSpec,
    /// Where it is in its life.
    pub status: Phase,
}

/// What a claim asks for.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSpec {
    /// How the volume is to be used.
    pub access_modes: Vec<String>,
    /// By the labels of volumes.
    pub selector: Option<LabelSelector>,
    /// How much, under `storage`.
    pub resources: Resources,
    /// The volume that it has or wants.
    pub volume_name: String,
    /// The class.
    pub storage_class_name: Option<String>,
    /// `Filesystem` or `Block`; `None` for the former.
    pub volume_mode: Option<String>,
    /// The class of attributes.
    pub volume_attributes_class_name: Option<String>,
}

/// A class of volumes (`StorageClass`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassView {
    /// Metadata.
    pub metadata: Meta,
    /// Who makes volumes.
    pub provisioner: String,
    /// `Immediate` or `WaitForFirstConsumer`.
    pub volume_binding_mode: Option<String>,
    /// Where volumes can be made; empty for everywhere.
    pub allowed_topologies: Vec<TopologySelectorTerm>,
}

/// How much there is left of a class for some nodes (`CSIStorageCapacity`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CapacityView {
    /// For which nodes; `None` for none.
    pub node_topology: Option<LabelSelector>,
    /// Of which class.
    pub storage_class_name: String,
    /// So much.
    pub capacity: Option<String>,
    /// The largest volume that can be made.
    pub maximum_volume_size: Option<String>,
}

/// A driver of volumes (`CSIDriver`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DriverView {
    /// What it can do.
    pub spec: DriverSpec,
}

/// What a driver of volumes can do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DriverSpec {
    /// Whether it tells how much there is left.
    pub storage_capacity: Option<bool>,
}

/// What drivers a node has (`CSINode`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CsiNodeView {
    /// The node's drivers.
    pub spec: CsiNodeSpec,
}

/// The drivers of a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CsiNodeSpec {
    /// Each with what it can do.
    pub drivers: Vec<NodeDriver>,
}

/// A driver on a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct NodeDriver {
    /// The driver's name.
    pub name: String,
    /// How many volumes it can have there.
    pub allocatable: Option<Allocatable>,
}

/// How many volumes a driver can have on a node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Allocatable {
    /// `None` for any number.
    pub count: Option<i32>,
}

impl CsiNodeView {
    /// How many volumes of a driver there can be, if that is limited.
    pub fn most(&self, driver: &str) -> Option<i32> {
        self.spec.drivers.iter().find(|known| known.name == driver)?.allocatable.as_ref()?.count
    }

    /// Whether there can be more of some driver than before.
    pub fn has_more(&self, old: &Self) -> bool {
        let most = |of: &Self, driver: &str| of.most(driver).unwrap_or_default();
        self.spec.drivers.iter().any(|driver| most(self, &driver.name) > most(old, &driver.name))
    }
}

/// A volume that is attached to a node, or about to be (`VolumeAttachment`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AttachmentView {
    /// What is attached where.
    pub spec: AttachmentSpec,
}

/// What is attached where.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentSpec {
    /// The driver.
    pub attacher: String,
    /// The node.
    pub node_name: String,
    /// The volume.
    pub source: AttachmentSource,
}

/// Which volume is attached.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentSource {
    /// Its name, if it is not a pod's alone.
    pub persistent_volume_name: Option<String>,
}

fn class<'m>(meta: &'m VolumeMeta, field: &'m str) -> &'m str {
    meta.annotations.get(CLASS).map_or(field, String::as_str)
}

impl VolumeView {
    /// Its class; empty for none.
    pub fn class(&self) -> &str {
        class(&self.metadata, &self.spec.storage_class_name)
    }
}

impl ClaimView {
    /// The class that it asks for; empty for none.
    pub fn class(&self) -> &str {
        class(&self.metadata, self.spec.storage_class_name.as_deref().unwrap_or_default())
    }
}

impl CapacityView {
    /// The largest volume that can be made, as far as that is told.
    pub fn limit(&self) -> Option<&str> {
        self.maximum_volume_size.as_deref().or(self.capacity.as_deref())
    }
}
