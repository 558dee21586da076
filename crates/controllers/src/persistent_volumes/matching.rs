//! Which volume a claim gets (`component-helpers/storage/volume`); the scheduler asks the same of its own copies, for one
//! node.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::{DEFAULT_CLASS, selector};
use schema::quantity::Quantity;

/// A claim's annotation: it and its volume know of each other.
pub(super) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// An annotation of both: the controller, or the scheduler, chose the other.
pub(super) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// A claim's annotation: the node where its volume is to be made.
pub(super) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// An older way to name a class.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether a class is for claims that name none.
pub(super) fn is_default(class: &ObjectMeta) -> bool {
    DEFAULT_CLASS.iter().any(|name| annotation(class, name) == Some("true"))
}

/// What a claim asks to be of; empty: of no class.
pub(super) fn class_of_claim(claim: &PersistentVolumeClaim) -> &str {
    let named = || claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&claim.metadata, CLASS).or_else(named).unwrap_or_default()
}

/// Whether a claim says anything of its class.
pub(super) fn names_class(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, CLASS).is_some()
        || claim.spec.as_ref().is_some_and(|spec| spec.storage_class_name.is_some())
}

/// The class of a volume; empty: none.
pub(super) fn class_of_volume(volume: &PersistentVolume) -> &str {
    let named = || volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    annotation(&volume.metadata, CLASS).or_else(named).unwrap_or_default()
}

/// Whom a volume belongs to, or is reserved for.
pub(super) fn claim_ref(volume: &PersistentVolume) -> Option<&ObjectReference> {
    volume.spec.as_ref()?.claim_ref.as_ref()
}

/// Whether a volume is bound to just this claim, or reserved for it.
pub(super) fn is_bound_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let Some(bound) = claim_ref(volume) else { return false };
    let meta = &claim.metadata;
    let uid = bound.uid.as_deref().unwrap_or_default();
    bound.name == meta.name
        && bound.namespace == meta.namespace
        && (uid.is_empty() || Some(uid) == meta.uid.as_deref())
}

/// Whether one is a block device and the other a file system.
pub(super) fn modes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let mode = |mode: Option<&String>| mode.map_or("Filesystem", String::as_str).to_owned();
    let asked = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref());
    mode(asked) != mode(volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()))
}

/// How much room a claim asks for, or a volume has.
fn storage(amounts: Option<&BTreeMap<String, Text>>) -> Quantity {
    let amount = amounts.and_then(|all| all.get("storage"));
    amount.and_then(|text| text.0.parse().ok()).unwrap_or_default()
}

/// How much room a claim asks for.
pub(super) fn requested(spec: Option<&PersistentVolumeClaimSpec>) -> Quantity {
    storage(spec.and_then(|spec| spec.resources.as_ref()).and_then(|asked| asked.requests.as_ref()))
}

/// How much room a volume has.
pub(super) fn capacity(spec: Option<&PersistentVolumeSpec>) -> Quantity {
    storage(spec.and_then(|spec| spec.capacity.as_ref()))
}

/// Whether a volume may be used in every way that a claim asks for.
pub(super) fn has_access_modes(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let modes = |modes: Option<&Vec<String>>| modes.cloned().unwrap_or_default();
    let has = modes(volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()));
    modes(claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()))
        .iter()
        .all(|mode| has.contains(mode))
}

fn attributes_class(name: Option<&String>) -> &str {
    name.map_or("", String::as_str)
}

fn attributes_differ(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let asked = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref());
    let has = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_ref());
    attributes_class(asked) != attributes_class(has)
}

/// Why a volume that a claim names cannot be the claim's, in upstream's words.
pub(super) fn unfit(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<String> {
    if volume.metadata.deletion_timestamp.is_some() {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        return Some(format!("the volume is marked for deletion {name:?}"));
    }
    let why = if capacity(volume.spec.as_ref()).value() < requested(claim.spec.as_ref()).value() {
        "requested PV is too small"
    } else if class_of_volume(volume) != class_of_claim(claim) {
        "storageClassName does not match"
    } else if attributes_differ(claim, volume) {
        "volumeAttributesClassName does not match"
    } else if modes_differ(claim, volume) {
        "incompatible volumeMode"
    } else if !has_access_modes(claim, volume) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.to_owned())
}

/// The volume for a claim: one that is bound to it or reserved for it, or else, unless only these count, the smallest of
/// those with the fewest ways to use them that are free, large enough, and as the claim asks.
pub(super) fn find<'v>(
    claim: &PersistentVolumeClaim,
    volumes: impl IntoIterator<Item = &'v Arc<PersistentVolume>>,
    only_reserved: bool,
) -> Option<&'v Arc<PersistentVolume>> {
    let asked = requested(claim.spec.as_ref());
    let wanted = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let mut best: Option<(&Arc<PersistentVolume>, (usize, Quantity))> = None;
    for volume in volumes {
        let is_ours = is_bound_to(volume, claim);
        let size = capacity(volume.spec.as_ref());
        if (claim_ref(volume).is_some() && !is_ours)
            || size < asked
            || modes_differ(claim, volume)
            || attributes_differ(claim, volume)
            || volume.metadata.deletion_timestamp.is_some()
        {
            continue;
        }
        if is_ours {
            return Some(volume);
        }
        let labels = || volume.metadata.labels.clone().unwrap_or_default();
        let is_available =
            volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
        if only_reserved
            || !is_available
            || wanted.is_some_and(|wanted| !selector::matches(Some(wanted), &labels()))
            || class_of_volume(volume) != class_of_claim(claim)
            || !has_access_modes(claim, volume)
        {
            continue;
        }
        let ways = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_ref()).map_or(0, Vec::len);
        let rank = (ways, size);
        if best.as_ref().is_none_or(|(_, least)| rank < *least) {
            best = Some((volume, rank));
        }
    }
    best.map(|(volume, _)| volume)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn volume(name: &str, size: &str, modes: &[&str], more: Value) -> Arc<PersistentVolume> {
        let mut volume = json!({
            "metadata": {"name": name, "labels": {"name": name}},
            "spec": {"capacity": {"storage": size}, "accessModes": modes},
            "status": {"phase": "Available"},
        });
        let fields = more.as_object().into_iter().flatten();
        fields.for_each(|(path, value)| volume["spec"][path] = value.clone());
        Arc::new(serde_json::from_value(volume).unwrap())
    }

    fn claim(more: Value) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let fields = more.as_object().into_iter().flatten();
        fields.for_each(|(path, value)| claim["spec"][path] = value.clone());
        serde_json::from_value(claim).unwrap()
    }

    fn found(
        claim: &PersistentVolumeClaim,
        volumes: &[Arc<PersistentVolume>],
        only_reserved: bool,
    ) -> String {
        let found = find(claim, volumes, only_reserved);
        found.and_then(|volume| volume.metadata.name.clone()).unwrap_or_default()
    }

    #[test]
    fn the_smallest_with_the_fewest_modes_is_taken() {
        let once: &[&str] = &["ReadWriteOnce"];
        let volumes = [
            volume("many-modes", "1Gi", &["ReadWriteOnce", "ReadOnlyMany"], json!({})),
            volume("large", "5Gi", once, json!({})),
            volume("enough", "2000Mi", once, json!({})),
            volume("small", "1Mi", once, json!({})),
            volume("block", "1Gi", once, json!({"volumeMode": "Block"})),
            volume("classy", "1Gi", once, json!({"storageClassName": "fast"})),
            volume("read", "1Gi", &["ReadOnlyMany"], json!({})),
        ];
        assert_eq!(found(&claim(json!({})), &volumes, false), "enough");
        assert_eq!(found(&claim(json!({})), &volumes, true), "");
        for (more, name) in [
            (json!({"volumeMode": "Block"}), "block"),
            (json!({"storageClassName": "fast"}), "classy"),
            (json!({"storageClassName": "slow"}), ""),
            (json!({"accessModes": ["ReadOnlyMany"]}), "read"),
            (json!({"accessModes": ["ReadWriteMany"]}), ""),
            (json!({"selector": {"matchLabels": {"name": "large"}}}), "large"),
            (json!({"volumeAttributesClassName": "gold"}), ""),
        ] {
            assert_eq!(found(&claim(more.clone()), &volumes, false), name, "{more}");
        }
    }

    #[test]
    fn a_volume_that_is_reserved_is_nobody_elses() {
        let once: &[&str] = &["ReadWriteOnce"];
        let reserved =
            |name: &str, uid: &str| json!({"claimRef": {"namespace": "n", "name": name, "uid": uid}});
        let ours = volume("ours", "9Gi", once, reserved("c", ""));
        let theirs = volume("theirs", "1Gi", once, reserved("d", ""));
        let old = volume("old", "1Gi", once, reserved("c", "before"));
        let volumes = [theirs, old, volume("free", "1Gi", once, json!({})), ours];
        for only_reserved in [false, true] {
            assert_eq!(found(&claim(json!({})), &volumes, only_reserved), "ours");
        }
    }

    #[test]
    fn what_is_unfit_is_told_in_upstreams_words() {
        let small = volume("small", "1Mi", &["ReadWriteOnce"], json!({}));
        assert_eq!(unfit(&claim(json!({})), &small).as_deref(), Some("requested PV is too small"));
        let fit = volume("fit", "1Gi", &["ReadWriteOnce"], json!({}));
        assert_eq!(unfit(&claim(json!({})), &fit), None);
        let other = claim(json!({"accessModes": ["ReadWriteMany"]}));
        assert_eq!(unfit(&other, &fit).as_deref(), Some("incompatible accessMode"));
    }
}
