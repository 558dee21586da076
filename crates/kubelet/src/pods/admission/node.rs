//! Whether a node's object, as it is now, is one that the pod wants and bears: its labels and its `NoExecute` taints.

use k8s_openapi::api::core::v1::{Pod, Taint};
use kinds::matching::{selects, tolerates};

use super::fit::Failure;
use crate::node::view::NodeView;
use crate::pods::spec::PodExt;

const AFFINITY: Failure =
    Failure::Predicate { name: "NodeAffinity", why: "node(s) didn't match Pod's node affinity/selector" };

/// What keeps the pod from the node, in upstream's order: before it the resources that are missing are told, and
/// between affinity and taints the ports that are taken.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    pub selected: Vec<Failure>,
    pub tainted: Option<Failure>,
}

impl Verdict {
    /// Whether a fresher node may be another one: only labels are in the way.
    pub fn is_about_labels(&self) -> bool {
        self.selected == [AFFINITY] && self.tainted.is_none()
    }
}

/// Looks at a node for a pod. Static pods bear every taint.
pub fn judge(pod: &Pod, node: &NodeView, is_static: bool) -> Verdict {
    let mut selected = Vec::new();
    if !fits(pod, node) {
        selected.push(AFFINITY);
    }
    let name = pod.spec().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    if !name.is_empty() && name != node.metadata.name {
        selected.push(Failure::Predicate {
            name: "NodeName",
            why: "node(s) didn't match the requested node name",
        });
    }
    let tolerations = pod.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let unborne = |taint: &&Taint| {
        taint.effect == "NoExecute" && !tolerations.iter().any(|toleration| tolerates(toleration, taint))
    };
    let tainted = node.spec.taints.iter().find(unborne).filter(|_| !is_static).map(|_| Failure::Predicate {
        name: "TaintToleration",
        why: "node(s) had taints that the pod didn't tolerate",
    });
    Verdict { selected, tainted }
}

fn fits(pod: &Pod, node: &NodeView) -> bool {
    let Some(spec) = pod.spec() else { return true };
    let labels = &node.metadata.labels;
    if !spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value)) {
        return false;
    }
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    required.is_none_or(|required| {
        required.node_selector_terms.iter().any(|term| selects(term, &node.metadata.name, labels))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node() -> NodeView {
        serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": {"disk": "ssd", "cores": "8"}},
            "spec": {"taints": [{"key": "a", "value": "b", "effect": "NoExecute"},
                                {"key": "c", "effect": "NoSchedule"}]},
        }))
        .unwrap()
    }

    fn reasons(spec: serde_json::Value, is_static: bool) -> Vec<String> {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        let verdict = judge(&pod, &node(), is_static);
        verdict.selected.iter().chain(&verdict.tainted).map(|failure| failure.refusal().reason).collect()
    }

    fn tolerant(more: serde_json::Value) -> serde_json::Value {
        let mut spec = json!({"containers": [], "tolerations": [{"key": "a", "operator": "Exists"}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }

    #[test]
    fn labels_are_looked_at_again_on_the_node() {
        let required = |expression: serde_json::Value| {
            tolerant(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}}}))
        };
        for (spec, fits) in [
            (tolerant(json!({})), true),
            (tolerant(json!({"nodeSelector": {"disk": "ssd"}})), true),
            (tolerant(json!({"nodeSelector": {"disk": "hdd"}})), false),
            (required(json!({"key": "cores", "operator": "Gt", "values": ["4"]})), true),
            (required(json!({"key": "cores", "operator": "Lt", "values": ["4"]})), false),
            (required(json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]})), false),
            (required(json!({"key": "x", "operator": "DoesNotExist"})), true),
        ] {
            let wanted: &[&str] = if fits { &[] } else { &["NodeAffinity"] };
            assert_eq!(reasons(spec.clone(), false), wanted, "{spec}");
        }
        let by_name = |name: &str| {
            tolerant(json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [{"matchFields":
                    [{"key": "metadata.name", "operator": "In", "values": [name]}]}]}}}}))
        };
        assert_eq!(reasons(by_name("n"), false), [""; 0]);
        assert_eq!(reasons(by_name("m"), false), ["NodeAffinity"]);
        assert_eq!(reasons(tolerant(json!({"nodeName": "m"})), false), ["NodeName"]);
    }

    #[test]
    fn only_taints_that_drive_out_are_looked_at_and_static_pods_bear_them() {
        let none = json!({"containers": []});
        assert_eq!(reasons(none.clone(), false), ["TaintToleration"]);
        assert_eq!(reasons(none, true), [""; 0]);
        assert_eq!(reasons(tolerant(json!({})), false), [""; 0], "NoSchedule is the scheduler's");
    }
}
