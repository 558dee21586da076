//! TaintNodesByCondition and NodeRestriction.

use schema::{Map, Object, Value};

use super::{Attempt, node_pods, pod_certificates};
use crate::status::{ApiError, Result};
use crate::write::admit::Operation;

/// What marks a pod that shows a static one.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A new node takes no pods before it is known to be ready.
pub fn taint_new(attempt: &Attempt<'_>, object: &mut Object) {
    if !attempt.is_core("nodes") || attempt.operation != Operation::Create {
        return;
    }
    let Some(spec) = object.struct_mut("spec") else { return };
    let Some(item) = spec.item_type("taints") else { return };
    let Some(taints) = spec.list_mut("taints") else { return };
    let there = taints.iter().filter_map(Value::as_struct).any(|taint| {
        taint.str_at(&["key"]) == Some(NOT_READY) && taint.str_at(&["effect"]) == Some("NoSchedule")
    });
    if !there {
        let mut taint = Object::new(item);
        taint.set("key", NOT_READY);
        taint.set("effect", "NoSchedule");
        taints.push(Value::Struct(taint));
    }
}

/// The node that a kubelet speaks for, if the user is one.
fn node_of<'u>(attempt: &'u Attempt<'_>) -> Option<&'u str> {
    let user = attempt.authorized.user();
    let name = user.name.strip_prefix("system:node:")?;
    user.groups.iter().any(|group| group == "system:nodes").then_some(name)
}

/// A kubelet writes its own node, the status of its own pods, mirror pods and its own leases, and nothing else.
///
/// # Errors
/// 403.
pub fn restriction(attempt: &Attempt<'_>, object: Option<&Object>) -> Result<()> {
    let Some(node) = node_of(attempt) else { return Ok(()) };
    let resource = attempt.resource;
    let name = attempt.authorized.info().name.clone();
    let refuse = |why: String| Err(ApiError::forbidden(&resource.group, &resource.plural, &name, &why));
    match (resource.group.as_str(), resource.plural.as_str()) {
        ("", "nodes") => {
            let target = object.map_or(name.as_str(), Object::name);
            if target != node {
                return refuse(format!("node {node:?} is not allowed to modify node {target:?}"));
            }
            match (attempt.operation, object, attempt.old) {
                (Operation::Create, Some(new), _) => {
                    let labels = restricted_labels(&Map::new(), new);
                    if labels.is_empty() {
                        return Ok(());
                    }
                    refuse(format!("node {node:?} is not allowed to set the following labels: {labels}"))
                }
                (Operation::Update(_), Some(new), Some(old)) => {
                    if new.at(&["spec", "taints"]) != old.at(&["spec", "taints"]) {
                        return refuse(format!("node {node:?} is not allowed to modify taints"));
                    }
                    if new.owner_references() != old.owner_references() {
                        return refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
                    }
                    let labels = restricted_labels(old.labels().unwrap_or(&Map::new()), new);
                    if labels.is_empty() {
                        return Ok(());
                    }
                    refuse(format!("is not allowed to modify labels: {labels}"))
                }
                (Operation::Delete, ..) => {
                    refuse(format!("node {node:?} is not allowed to delete its own node"))
                }
                _ => Ok(()),
            }
        }
        ("", "pods") => node_pods::restrict(attempt, node, object),
        ("certificates.k8s.io", "podcertificaterequests") => {
            pod_certificates::restrict(attempt, node, object)
        }
        ("coordination.k8s.io", "leases") => {
            let namespace = attempt.namespace();
            if namespace != "kube-node-lease" {
                return refuse(format!(
                    "can only access leases in the \"kube-node-lease\" system namespace, not in {namespace:?}"
                ));
            }
            let target = object.map_or(name.as_str(), Object::name);
            if target == node {
                Ok(())
            } else {
                refuse("can only access node lease with the same name as the requesting node".to_owned())
            }
        }
        _ => Ok(()),
    }
}

/// Labels below `kubernetes.io` and `k8s.io` that a kubelet may set on its node.
fn kubelet_may_set(label: &str) -> bool {
    const EXACT: [&str; 11] = [
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
    ];
    let namespace = label.split_once('/').map_or("", |(namespace, _)| namespace);
    let within = |domain: &str| namespace == domain || namespace.ends_with(&format!(".{domain}"));
    if !within("kubernetes.io") && !within("k8s.io") {
        return true;
    }
    EXACT.contains(&label) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

/// The changed labels that are not the kubelet's to change.
fn restricted_labels(old: &Map, new: &Object) -> String {
    let empty = Map::new();
    let new = new.labels().unwrap_or(&empty);
    let mut changed: Vec<&str> = new
        .strings()
        .filter(|(key, value)| old.get_str(key) != Some(value))
        .map(|(key, _)| key)
        .chain(old.keys().filter(|key| !new.contains_key(key)))
        .filter(|key| !kubelet_may_set(key))
        .collect();
    changed.sort_unstable();
    changed.join(", ")
}

#[cfg(test)]
mod tests {
    use super::kubelet_may_set;

    #[test]
    fn labels_of_a_kubelet() {
        for label in ["kubernetes.io/hostname", "node.kubernetes.io/x", "example.com/role", "team"] {
            assert!(kubelet_may_set(label), "{label}");
        }
        for label in ["node-role.kubernetes.io/control-plane", "node-restriction.kubernetes.io/a", "k8s.io/x"]
        {
            assert!(!kubelet_may_set(label), "{label}");
        }
    }
}
