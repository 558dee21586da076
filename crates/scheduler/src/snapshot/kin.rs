//! Pods that rules about other pods cannot tell apart, and pods that have such rules.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use k8s_openapi::api::core::v1::{Affinity, PodAffinityTerm, WeightedPodAffinityTerm};

use crate::view::PodView;

/// All that selectors see of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kin {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Kin {
    /// A pod's.
    pub fn of(pod: &PodView) -> Self {
        Self { namespace: pod.metadata.namespace.clone(), labels: pod.metadata.labels.clone() }
    }
}

/// The rules that a pod has about others.
#[derive(Debug, Clone)]
pub struct Bond {
    /// Its namespace.
    pub namespace: String,
    /// The rules.
    pub affinity: Affinity,
    text: String,
}

impl PartialEq for Bond {
    fn eq(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.text == other.text
    }
}

impl Eq for Bond {}

impl Hash for Bond {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.namespace, &self.text).hash(state);
    }
}

impl Bond {
    /// A pod's, if it has any.
    pub fn of(pod: &PodView) -> Option<Self> {
        let affinity = pod.spec.affinity.as_ref()?;
        let has_any = !required_near(Some(affinity)).is_empty()
            || !required_apart(Some(affinity)).is_empty()
            || !preferred_near(Some(affinity)).is_empty()
            || !preferred_apart(Some(affinity)).is_empty();
        if !has_any {
            return None;
        }
        let affinity = Affinity { node_affinity: None, ..affinity.clone() };
        let text = serde_json::to_string(&affinity).unwrap_or_default();
        Some(Self { namespace: pod.metadata.namespace.clone(), affinity, text })
    }
}

/// Terms by which a pod must be near others.
pub fn required_near(affinity: Option<&Affinity>) -> &[PodAffinityTerm] {
    let rules = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let terms = rules.and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_deref());
    terms.unwrap_or_default()
}

/// Terms by which a pod keeps others away.
pub fn required_apart(affinity: Option<&Affinity>) -> &[PodAffinityTerm] {
    let rules = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = rules.and_then(|rules| rules.required_during_scheduling_ignored_during_execution.as_deref());
    terms.unwrap_or_default()
}

/// Terms by which a pod would like to be near others.
pub fn preferred_near(affinity: Option<&Affinity>) -> &[WeightedPodAffinityTerm] {
    let rules = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let terms = rules.and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution.as_deref());
    terms.unwrap_or_default()
}

/// Terms by which a pod would like to be away from others.
pub fn preferred_apart(affinity: Option<&Affinity>) -> &[WeightedPodAffinityTerm] {
    let rules = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let terms = rules.and_then(|rules| rules.preferred_during_scheduling_ignored_during_execution.as_deref());
    terms.unwrap_or_default()
}
