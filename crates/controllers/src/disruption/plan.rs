//! What a budget allows. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::share::{ShareError, share};
use crate::view::PodView;
use kinds::selector::matches;

/// So long after its eviction a pod counts as going although nothing shows it.
pub const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_secs(120);
/// So long a pod may be said to be going without being deleted.
pub const STALE: SignedDuration = SignedDuration::from_secs(120);
/// The condition of budgets.
const ALLOWED: &str = "DisruptionAllowed";

/// Whether a budget is about a pod. One without a selector is about none, an empty one about all.
pub fn selects(budget: &PodDisruptionBudget, pod: &PodView) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    matches(selector, &pod.metadata.labels)
}

/// Whether no budget can tell two states of a pod apart.
pub fn counts_alike(pod: &PodView, old: &PodView) -> bool {
    let (meta, before) = (&pod.metadata, &old.metadata);
    meta.uid == before.uid
        && meta.labels == before.labels
        && meta.owner_references == before.owner_references
        && meta.deletion_timestamp.is_some() == before.deletion_timestamp.is_some()
        && pod.ready().is_some() == old.ready().is_some()
}

/// Whether it has to be known how many pods the owners of a budget's pods want; else the pods are counted.
pub fn needs_scale(spec: &PodDisruptionBudgetSpec) -> bool {
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// How many pods must be well, of so many.
///
/// # Errors
/// A share that is none.
pub fn desired(spec: &PodDisruptionBudgetSpec, expected: i32) -> Result<i32, ShareError> {
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => Ok((expected - share(most, expected, true)?).max(0)),
        (None, Some(least)) => share(least, expected, true),
        (None, None) => Ok(0),
    }
}

/// The pods of a budget that were evicted and are not yet seen going.
#[derive(Debug, Default, PartialEq)]
pub struct Disrupted {
    /// When each was evicted, by its name.
    pub pods: BTreeMap<String, Time>,
    /// After so long the first of them counts as staying.
    pub recheck: Option<Duration>,
    /// Those that had the time to go and did not.
    pub stayed: Vec<String>,
}

/// Which evictions a budget still waits for.
pub fn disrupted<P: AsRef<PodView>>(budget: &PodDisruptionBudget, pods: &[P], now: Timestamp) -> Disrupted {
    let told = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let mut found = Disrupted::default();
    let Some(told) = told else { return found };
    for pod in pods.iter().map(AsRef::as_ref).filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let Some(since) = told.get(&pod.metadata.name) else { continue };
        let left = DELETION_TIMEOUT - now.duration_since(since.0);
        match Duration::try_from(left) {
            Ok(left) => {
                found.recheck = Some(found.recheck.map_or(left, |first| first.min(left)));
                found.pods.insert(pod.metadata.name.clone(), since.clone());
            }
            Err(_) => found.stayed.push(pod.metadata.name.clone()),
        }
    }
    found
}

/// How many pods are well and stay.
pub fn healthy<P: AsRef<PodView>>(pods: &[P], disrupted: &Disrupted) -> i32 {
    let is_well = |pod: &&PodView| {
        pod.metadata.deletion_timestamp.is_none()
            && !disrupted.pods.contains_key(&pod.metadata.name)
            && pod.ready().is_some()
    };
    count(pods.iter().map(AsRef::as_ref).filter(is_well).count())
}

/// A number of pods as the API has it.
pub fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

/// The status of a budget, or none if it has that already.
pub fn status(
    budget: &PodDisruptionBudget,
    (healthy, desired, expected): (i32, i32, i32),
    disrupted: BTreeMap<String, Time>,
    now: Timestamp,
) -> Option<PodDisruptionBudgetStatus> {
    let generation = budget.metadata.generation.unwrap_or_default();
    let allowed = if expected <= 0 { 0 } else { healthy.saturating_sub(desired).max(0) };
    let old = budget.status.clone().unwrap_or_default();
    let (state, reason) =
        if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let is_told = old
        .conditions
        .iter()
        .flatten()
        .any(|known| known.type_ == ALLOWED && known.status == state && known.reason == reason);
    let was_disrupted = old.disrupted_pods.clone().unwrap_or_default();
    let is_same = (old.current_healthy, old.desired_healthy, old.expected_pods, old.disruptions_allowed)
        == (Some(healthy), Some(desired), Some(expected), Some(allowed))
        && was_disrupted == disrupted
        && old.observed_generation == Some(generation);
    if is_same && is_told {
        return None;
    }
    let conditions = told(old.conditions.unwrap_or_default(), (state, reason, ""), generation, now);
    Some(PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        observed_generation: Some(generation),
        conditions: Some(conditions),
    })
}

/// The status of a budget that cannot be reckoned: it allows nothing.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let old = budget.status.clone().unwrap_or_default();
    let generation = old.observed_generation.unwrap_or_default();
    let conditions =
        told(old.conditions.clone().unwrap_or_default(), ("False", "SyncFailed", why), generation, now);
    PodDisruptionBudgetStatus { disruptions_allowed: Some(0), conditions: Some(conditions), ..old }
}

/// Conditions with the one of budgets (`meta.SetStatusCondition`).
fn told(
    mut conditions: Vec<Condition>,
    (status, reason, message): (&str, &str, &str),
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let new = Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(generation),
        last_transition_time: Time(now),
    };
    match conditions.iter_mut().find(|known| known.type_ == ALLOWED) {
        Some(known) if known.status == new.status => {
            *known = Condition { last_transition_time: known.last_transition_time.clone(), ..new };
        }
        Some(known) => *known = new,
        None => conditions.push(new),
    }
    conditions
}

/// Whether a pod is said to be going, by another than its kubelet, and nothing shows it.
pub fn goes(pod: &PodView) -> bool {
    going_since(pod).is_some()
}

/// How long a pod may still be said to be going; none if it is not.
pub fn stale_in(pod: &PodView, now: Timestamp) -> Option<Duration> {
    let left = STALE - now.duration_since(going_since(pod)?);
    Some(Duration::try_from(left).unwrap_or_default())
}

fn going_since(pod: &PodView) -> Option<Timestamp> {
    let told = pod.status.conditions.iter().find(|condition| condition.kind == "DisruptionTarget")?;
    let is_going =
        pod.is_active() && told.status == "True" && told.reason.as_deref() != Some("TerminationByKubelet");
    is_going.then(|| told.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// What is said of pods that nobody made.
pub fn unmanaged(selector: Option<&LabelSelector>) -> String {
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status \
         of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods \
         please set \".spec.minAvailable\" field of the PDB to an integer value.",
        selector.map_or_else(|| "nil".to_owned(), text)
    )
}

/// A selector in the words of upstream's messages.
fn text(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    let expressions = selector.match_expressions.iter().flatten().map(|one| {
        let values = one.values.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", one.key, one.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}

#[cfg(test)]
mod tests;
