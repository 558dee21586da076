//! What a pod as a whole has, as its status says (KEP-5419).

use k8s_openapi::api::core::v1::{Pod, PodStatus, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as QuantityText;
use schema::quantity::{Format, Quantity};

use crate::pods::resources::{self, MIN_MILLIS, MIN_SHARES};
use crate::pods::spec::PodExt;

/// What the pod is to have until it runs, and then what its cgroup has. While that is `changing` it stays as it was.
pub fn resources(pod: &Pod, before: Option<&PodStatus>, changing: bool) -> ResourceRequirements {
    let mut of_pod = pod.spec().and_then(|spec| spec.resources.clone()).unwrap_or_default();
    if pod.phase() != "Running" {
        of_pod.requests = Some(resources::pod_requests(pod)).filter(|requests| !requests.is_empty());
        of_pod.limits = Some(resources::summed_limits(pod)).filter(|limits| !limits.is_empty());
        return of_pod;
    }
    if let Some(known) = before.filter(|_| changing).and_then(|status| status.resources.clone()) {
        return known;
    }
    let group = resources::pod_limits(pod);
    let millis = |millis| QuantityText(Quantity::from_milli(millis, Format::DecimalSi).to_string());
    let has = |amounts: &Option<resources::Amounts>, least: i64| {
        resources::milli(amounts.as_ref(), "cpu").is_some_and(|given| given > least)
    };
    let asked = group.cpu_shares.map(resources::millis_of_shares);
    let asks = has(&of_pod.requests, MIN_SHARES);
    if let Some(asked) = asked.filter(|asked| *asked > MIN_SHARES || asks) {
        of_pod.requests.get_or_insert_default().insert("cpu".to_owned(), millis(asked));
    }
    if !of_pod.requests.as_ref().is_some_and(|requests| requests.contains_key("memory"))
        && let Some(memory) = resources::pod_requests(pod).remove("memory")
    {
        of_pod.requests.get_or_insert_default().insert("memory".to_owned(), memory);
    }
    let allowed = group.cpu_quota.filter(|quota| *quota > 0).map(resources::millis_of_quota);
    let is_limited = has(&of_pod.limits, MIN_MILLIS);
    if let Some(allowed) = allowed.filter(|allowed| *allowed > MIN_MILLIS || is_limited) {
        of_pod.limits.get_or_insert_default().insert("cpu".to_owned(), millis(allowed));
    }
    if let Some(memory) = group.memory.filter(|memory| *memory > 0) {
        let memory = QuantityText(Quantity::from_int(memory, Format::BinarySi).to_string());
        of_pod.limits.get_or_insert_default().insert("memory".to_owned(), memory);
    }
    of_pod
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(phase: &str, of_pod: Value, container: Value) -> Value {
        let pod = json!({"metadata": {}, "status": {"phase": phase},
            "spec": {"resources": of_pod, "containers": [{"name": "c", "resources": container}]}});
        serde_json::to_value(resources(&serde_json::from_value(pod).unwrap(), None, false)).unwrap()
    }

    #[test]
    fn pods_tell_what_they_have_together() {
        let small = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}});
        let sums = json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}});
        for phase in ["Pending", "Running"] {
            assert_eq!(told(phase, json!(null), small.clone()), sums, "{phase}");
            assert_eq!(told(phase, json!(null), json!({})), json!({}), "{phase}");
        }
        let whole = json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1500m", "memory": "1Gi"}});
        let expected =
            json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "1500m", "memory": "1Gi"}});
        assert_eq!(told("Running", whole, small), expected);
    }

    #[test]
    fn what_changes_is_told_when_it_has() {
        let pod = json!({"metadata": {}, "status": {"phase": "Running"},
            "spec": {"resources": {"limits": {"cpu": "2"}}, "containers": [{"name": "c"}]}});
        let before: PodStatus =
            serde_json::from_value(json!({"resources": {"limits": {"cpu": "1"}}})).unwrap();
        let told = resources(&serde_json::from_value(pod).unwrap(), Some(&before), true);
        assert_eq!(Some(told), before.resources);
    }
}
