//! Rules about how pods that are alike spread over nodes (upstream's `PodTopologySpread`). `hard` rules out nodes,
//! `soft` compares those that are left.

mod alike;
mod hard;
mod soft;

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kinds::selector;

use super::filter;
use crate::snapshot::{Kin, NodeInfo, Snapshot};
use crate::view::{NodeView, PodView};
pub use alike::Alike;
pub(super) use hard::Hard;
pub(super) use soft::scores;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// Which pods a rule counts.
#[derive(Debug)]
enum Selection<'p> {
    /// By the rule's selector, and with the pod's own values of some labels.
    Own(Option<&'p LabelSelector>, Vec<(&'p str, &'p str)>),
    /// By services and owners.
    Alike(&'p Alike),
}

impl<'p> Selection<'p> {
    fn of(pod: &'p PodView, rule: &'p TopologySpreadConstraint) -> Self {
        let labels = &pod.metadata.labels;
        let keys = rule.match_label_keys.iter().flatten();
        let keys = keys.filter_map(|key| Some((key.as_str(), labels.get(key)?.as_str()))).collect();
        Self::Own(rule.label_selector.as_ref(), keys)
    }

    fn includes(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        match self {
            Self::Own(selected, keys) => {
                selector::matches(*selected, labels)
                    && keys.iter().all(|(key, value)| labels.get(*key).is_some_and(|label| label == value))
            }
            Self::Alike(alike) => alike.includes(labels),
        }
    }

    /// Whether it says nothing: then it counts none.
    fn is_empty(&self) -> bool {
        match self {
            Self::Own(selected, keys) => {
                keys.is_empty() && selected.is_some_and(|selected| *selected == LabelSelector::default())
            }
            Self::Alike(_) => false,
        }
    }
}

/// A rule.
#[derive(Debug)]
struct Rule<'p> {
    /// The number of its key; `None` if no node has it.
    key: Option<u32>,
    is_of_hosts: bool,
    max_skew: i64,
    least_domains: usize,
    selection: Selection<'p>,
    /// Whether it includes the pods of a kin.
    kin: Vec<bool>,
    /// Whether nodes count that the pod does not ask for.
    any_node: bool,
    /// Whether nodes count whose taints the pod does not bear.
    any_taint: bool,
}

impl<'p> Rule<'p> {
    fn new(pod: &'p PodView, rule: &'p TopologySpreadConstraint, snapshot: &Snapshot) -> Self {
        let selection = Selection::of(pod, rule);
        Self {
            least_domains: usize::try_from(rule.min_domains.unwrap_or(1)).unwrap_or_default(),
            any_node: rule.node_affinity_policy.as_deref() == Some("Ignore"),
            any_taint: rule.node_taints_policy.as_deref() != Some("Honor"),
            ..Self::about(pod, &rule.topology_key, rule.max_skew, selection, snapshot)
        }
    }

    fn about(pod: &PodView, key: &str, max_skew: i32, selection: Selection<'p>, snapshot: &Snapshot) -> Self {
        let mut kin = Vec::new();
        if !selection.is_empty() {
            let included =
                |kin: &Kin| kin.namespace == pod.metadata.namespace && selection.includes(&kin.labels);
            for (number, _) in snapshot.kin().iter().filter(|(_, kin)| included(kin)) {
                kin.resize((number as usize + 1).max(kin.len()), false);
                kin.get_mut(number as usize).into_iter().for_each(|included| *included = true);
            }
        }
        Self {
            key: snapshot.key(key),
            is_of_hosts: key == HOSTNAME,
            max_skew: i64::from(max_skew),
            least_domains: 1,
            selection,
            kin,
            any_node: false,
            any_taint: true,
        }
    }

    /// The number of a node's label that says in which domain it is.
    fn domain(&self, info: &NodeInfo) -> Option<u32> {
        info.pair(self.key?)
    }

    /// How many pods it counts on a node; those do not count that are being deleted.
    fn count(&self, info: &NodeInfo) -> i64 {
        if self.kin.is_empty() {
            return 0;
        }
        let counted = |kin: u32| self.kin.get(kin as usize).copied().unwrap_or_default();
        let crowds = info.crowds().iter().filter(|crowd| counted(crowd.kin));
        crowds.map(|crowd| crowd.all - crowd.ending).sum()
    }

    /// Whether a node's pods count.
    fn concerns(&self, pod: &PodView, node: &NodeView) -> bool {
        (self.any_node || filter::fits_affinity(pod, node))
            && (self.any_taint || filter::untolerated(pod, node).is_none())
    }
}

/// The pod's own rules of one kind.
fn own<'p>(pod: &'p PodView, unsatisfiable: &str, snapshot: &Snapshot) -> Vec<Rule<'p>> {
    let all = pod.spec.topology_spread_constraints.iter();
    let of_kind = all.filter(|rule| rule.when_unsatisfiable == unsatisfiable);
    of_kind.map(|rule| Rule::new(pod, rule, snapshot)).collect()
}

/// Whether a pod has a rule that counts another one and must be kept.
pub(super) fn concerns(pod: &PodView, other: &PodView) -> bool {
    let hard =
        pod.spec.topology_spread_constraints.iter().filter(|rule| rule.when_unsatisfiable == "DoNotSchedule");
    let mut selections = hard.map(|rule| Selection::of(pod, rule));
    pod.metadata.namespace == other.metadata.namespace
        && selections.any(|selection| selection.includes(&other.metadata.labels))
}

#[cfg(test)]
mod tests;
