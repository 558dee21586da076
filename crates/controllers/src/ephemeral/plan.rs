//! What is to be done for a pod's ephemeral volumes. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim as Claim;
use kube::api::ObjectMeta;

use crate::view::{EphemeralView, PodView};

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the claim.
    Create(Box<Claim>),
    /// Tell that there is a claim of its name that is somebody else's.
    Foreign {
        /// The volume.
        volume: String,
        /// Why it is not used.
        message: String,
    },
}

/// What is to be done for a pod; `claim` finds one of its namespace. A pod that is being deleted needs none.
pub fn plan<F>(pod: &PodView, claim: F) -> Vec<Action>
where
    F: Fn(&str) -> Option<Arc<Claim>>,
{
    if pod.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let of = |volume: &EphemeralView| {
        let name = pod.claim_of(volume);
        match claim(&name) {
            Some(found) if is_of(&found, pod) => None,
            Some(_) => Some(Action::Foreign { volume: volume.name.clone(), message: foreign(pod, &name) }),
            None => Some(Action::Create(Box::new(made(pod, volume, name)))),
        }
    };
    pod.spec.volumes.made.iter().filter_map(of).collect()
}

/// Whether a claim was made for a pod.
pub fn is_of(claim: &Claim, pod: &PodView) -> bool {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().any(|owner| owner.controller == Some(true) && owner.uid == pod.metadata.uid)
}

/// In upstream's words.
pub fn foreign(pod: &PodView, claim: &str) -> String {
    let meta = &pod.metadata;
    format!(
        "PVC {}/{claim} was not created for pod {}/{} (pod is not owner)",
        meta.namespace, meta.namespace, meta.name
    )
}

fn made(pod: &PodView, volume: &EphemeralView, name: String) -> Claim {
    let template = volume.template.clone();
    let wanted = template.metadata.unwrap_or_default();
    let owner = pod.as_owner(Some(true));
    Claim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(pod.metadata.namespace.clone()),
            labels: wanted.labels,
            annotations: wanted.annotations,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        ..Claim::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(deleted: bool) -> PodView {
        let mut metadata = json!({"name": "p", "namespace": "n", "uid": "u"});
        if deleted {
            metadata["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        serde_json::from_value(json!({"metadata": metadata, "spec": {"volumes": [
            {"name": "plain", "emptyDir": {}},
            {"name": "v", "ephemeral": {"volumeClaimTemplate": {
                "metadata": {"labels": {"a": "b"}, "name": "ignored"},
                "spec": {"storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}}}},
        ]}}))
        .unwrap()
    }

    fn claim(owner: &str) -> Arc<Claim> {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true});
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": "p-v", "ownerReferences": [owner]}})).unwrap(),
        )
    }

    #[test]
    fn a_claim_is_made_as_the_template_says_and_owned_by_its_pod() {
        let actions = plan(&pod(false), |_| None);
        let [Action::Create(made)] = actions.as_slice() else { panic!("{actions:?}") };
        let meta = &made.metadata;
        assert_eq!((meta.name.as_deref(), meta.namespace.as_deref()), (Some("p-v"), Some("n")));
        assert_eq!(meta.labels.as_ref().unwrap()["a"], "b");
        let owner = &meta.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.uid.as_str(), owner.controller), ("u", Some(true)));
        assert_eq!(made.spec.as_ref().unwrap().storage_class_name.as_deref(), Some("fast"));
    }

    #[test]
    fn one_that_is_there_is_kept_and_somebody_elses_told_of() {
        assert_eq!(plan(&pod(false), |_| Some(claim("u"))), []);
        let actions = plan(&pod(false), |_| Some(claim("other")));
        let [Action::Foreign { volume, message }] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(volume, "v");
        assert_eq!(message, "PVC n/p-v was not created for pod n/p (pod is not owner)");
        assert_eq!(plan(&pod(true), |_| None), [], "a pod that goes");
    }
}
