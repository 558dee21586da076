//! What a persistent volume leads a node to.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolume, SecretReference};

use super::Key;

/// The claim that a volume is bound to, and the secrets that the node's part of its driver needs: not those of its
/// controller (`pvutil.VisitPVSecretNames`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeRefs {
    pub(super) claim: Option<Key>,
    pub(super) secrets: BTreeSet<Key>,
}

impl VolumeRefs {
    /// Those of a volume. One that is nobody's leads nowhere.
    pub fn of(volume: &PersistentVolume) -> Self {
        let Some(spec) = &volume.spec else { return Self::default() };
        let Some(owner) = &spec.claim_ref else { return Self::default() };
        let namespace = owner.namespace.clone().unwrap_or_default();
        // Where none is said, it is the claim's.
        let named = |secret: &SecretReference| {
            let own = secret.namespace.clone().filter(|own| !own.is_empty());
            (own.unwrap_or_else(|| namespace.clone()), secret.name.clone().unwrap_or_default())
        };
        let csi = spec.csi.as_ref();
        let drivers = [
            csi.and_then(|csi| csi.node_publish_secret_ref.as_ref()),
            csi.and_then(|csi| csi.node_stage_secret_ref.as_ref()),
            csi.and_then(|csi| csi.node_expand_secret_ref.as_ref()),
            spec.cephfs.as_ref().and_then(|ceph| ceph.secret_ref.as_ref()),
            spec.cinder.as_ref().and_then(|cinder| cinder.secret_ref.as_ref()),
            spec.flex_volume.as_ref().and_then(|flex| flex.secret_ref.as_ref()),
            spec.iscsi.as_ref().and_then(|iscsi| iscsi.secret_ref.as_ref()),
            spec.rbd.as_ref().and_then(|rbd| rbd.secret_ref.as_ref()),
            spec.scale_io.as_ref().map(|scale_io| &scale_io.secret_ref),
        ];
        let azure = spec.azure_file.as_ref().map(|azure| {
            let own = azure.secret_namespace.clone().filter(|own| !own.is_empty());
            (own.unwrap_or_else(|| namespace.clone()), azure.secret_name.clone())
        });
        let storageos = spec.storageos.as_ref().and_then(|storageos| storageos.secret_ref.as_ref());
        let storageos = storageos.map(|secret| {
            (secret.namespace.clone().unwrap_or_default(), secret.name.clone().unwrap_or_default())
        });
        let secrets = drivers.into_iter().flatten().map(named).chain(azure).chain(storageos);
        Self {
            claim: Some((namespace.clone(), owner.name.clone().unwrap_or_default())),
            secrets: secrets.filter(|(_, name)| !name.is_empty()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refs(spec: serde_json::Value) -> VolumeRefs {
        VolumeRefs::of(&serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).unwrap())
    }

    #[test]
    fn a_volume_leads_to_its_claim_and_the_nodes_secrets() {
        let key = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let bound = json!({"namespace": "a", "name": "data"});
        let secret = |name: &str| json!({"namespace": "driver", "name": name});
        let csi = json!({
            "driver": "d",
            "volumeHandle": "h",
            "nodePublishSecretRef": secret("publish"),
            "controllerPublishSecretRef": secret("attach"),
        });
        let found = refs(json!({"claimRef": bound, "csi": csi}));
        assert_eq!(found.claim, Some(key("a", "data")));
        assert_eq!(found.secrets, BTreeSet::from([key("driver", "publish")]));
        assert_eq!(refs(json!({"csi": csi})), VolumeRefs::default(), "nobody's");
        let azure = json!({"secretName": "share", "shareName": "s"});
        let found = refs(json!({"claimRef": bound, "azureFile": azure}));
        assert_eq!(found.secrets, BTreeSet::from([key("a", "share")]));
    }
}
