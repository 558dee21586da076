//! Says how many pods of each PodDisruptionBudget may be disrupted now (KEP-85, `pkg/controller/disruption`), and takes
//! back the word that a pod is going when it does not go.

pub mod plan;
pub mod run;
pub mod scale;

use client::WorkQueue;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::view::{PodView, key};

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A budget: namespace and name.
    Budget(String),
    /// A pod that is said to be going: namespace and name.
    Going(String),
    /// A pod of more than one budget: namespace and name.
    Contested(String),
}

/// Notes what a changed pod means for the `budgets` of its namespace.
pub(crate) fn follow_pod(
    queue: &WorkQueue<Key>,
    budgets: &client::Reflector<PodDisruptionBudget>,
    pod: &PodView,
    old: Option<&PodView>,
    is_removed: bool,
) {
    if !is_removed && plan::goes(pod) && !old.is_some_and(plan::goes) {
        queue.add(Key::Going(pod.metadata.key()));
    }
    if !is_removed && old.is_some_and(|old| plan::counts_alike(pod, old)) {
        return;
    }
    let mut many = 0;
    for budget in budgets.in_namespace(&pod.metadata.namespace) {
        let selects = plan::selects(&budget, pod);
        many += usize::from(selects);
        if selects || old.is_some_and(|old| plan::selects(&budget, old)) {
            let name = budget.metadata.name.as_deref().unwrap_or_default();
            queue.add(Key::Budget(key(&pod.metadata.namespace, name)));
        }
    }
    if many > 1 && !is_removed {
        queue.add(Key::Contested(pod.metadata.key()));
    }
}
