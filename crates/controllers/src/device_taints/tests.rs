use std::sync::Arc;

use k8s_openapi::api::resource::v1::{DeviceTaintRule as Rule, ResourceClaim as Claim, ResourceSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::plan::{Known, of_pod};
use super::rule::{Reach, condition};
use crate::view::PodView;

fn pod() -> PodView {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"nodeName": "a", "resourceClaims": [{"name": "x", "resourceClaimName": "c"}]},
    }))
    .unwrap()
}

fn claim(tolerations: Value, user: &str) -> Arc<Claim> {
    let given =
        json!({"request": "r", "driver": "d", "pool": "q", "device": "g", "tolerations": tolerations});
    let users = json!([{"resource": "pods", "name": "p", "uid": user}]);
    let status = json!({"allocation": {"devices": {"results": [given]}}, "reservedFor": users});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "c"}, "status": status})).unwrap())
}

fn slice(generation: i64, taints: Value) -> Arc<ResourceSlice> {
    let pool = json!({"name": "q", "generation": generation, "resourceSliceCount": 1});
    let spec = json!({"driver": "d", "pool": pool, "devices": [{"name": "g", "taints": taints}]});
    Arc::new(serde_json::from_value(json!({"spec": spec})).unwrap())
}

fn taint(effect: &str) -> Value {
    json!({"key": "k", "effect": effect, "timeAdded": "2026-01-01T00:00:00Z"})
}

fn rule(effect: &str, selector: Value) -> Arc<Rule> {
    let spec = json!({"deviceSelector": selector, "taint": taint(effect)});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"uid": "r", "generation": 2}, "spec": spec})).unwrap(),
    )
}

/// When the pod must go, and by how many rules.
fn ends(slices: &[Arc<ResourceSlice>], rules: &[Arc<Rule>], claim: &Arc<Claim>) -> Option<(String, usize)> {
    let known = Known { pool: &|_, _| slices.to_vec(), rules };
    let found = of_pod(&pod(), |_| Some(claim.clone()), &known)?;
    Some((found.when.to_string(), found.rules.len()))
}

#[test]
fn a_pod_goes_when_its_claim_does_not_bear_a_taint() {
    let (at, none) = (|when: &str, rules| Some((when.to_owned(), rules)), json!([]));
    let plain = claim(none.clone(), "u");
    let now = "2026-01-01T00:00:00Z";
    assert_eq!(ends(&[slice(1, json!([taint("NoExecute")]))], &[], &plain), at(now, 0));
    assert_eq!(ends(&[slice(1, json!([taint("NoSchedule")]))], &[], &plain), None);
    let newer = [slice(1, json!([taint("NoExecute")])), slice(2, json!([]))];
    assert_eq!(ends(&newer, &[], &plain), None, "what is out of date does not count");
    let clean = [slice(1, json!([]))];
    assert_eq!(ends(&clean, &[rule("NoExecute", json!({"driver": "d"}))], &plain), at(now, 1));
    assert_eq!(
        ends(&[], &[rule("NoExecute", json!({}))], &plain),
        at(now, 1),
        "nobody publishes it any more"
    );
    for (effect, selector) in
        [("None", json!({})), ("NoExecute", json!({"pool": "other"})), ("NoExecute", json!(null))]
    {
        assert_eq!(ends(&clean, &[rule(effect, selector.clone())], &plain), None, "{effect} {selector}");
    }
    assert_eq!(ends(&[slice(1, json!([taint("NoExecute")]))], &[], &claim(none, "other")), None);
}

#[test]
fn tolerations_delay_or_forgive() {
    let slices = [slice(1, json!([taint("NoExecute")]))];
    let bears = |more: Value| {
        let mut toleration = json!({"key": "k", "operator": "Exists", "effect": "NoExecute"});
        for (key, value) in more.as_object().unwrap() {
            toleration[key] = value.clone();
        }
        toleration
    };
    let end = |tolerations: Value| ends(&slices, &[], &claim(tolerations, "u")).map(|(when, _)| when);
    assert_eq!(end(json!([bears(json!({}))])), None);
    assert_eq!(end(json!([bears(json!({"effect": ""}))])), None);
    let later = |seconds: i64| bears(json!({"tolerationSeconds": seconds}));
    assert_eq!(end(json!([later(60)])).unwrap(), "2026-01-01T00:01:00Z");
    assert_eq!(end(json!([later(60), later(30)])).unwrap(), "2026-01-01T00:00:30Z");
    assert_eq!(
        end(json!([bears(json!({"operator": "Equal", "value": "v"}))])).unwrap(),
        "2026-01-01T00:00:00Z"
    );
    assert_eq!(end(json!([bears(json!({"effect": "NoSchedule"}))])).unwrap(), "2026-01-01T00:00:00Z");
}

#[test]
fn a_rule_is_told_how_far_it_is_in_upstreams_words() {
    let told = |effect: &str, reach: Reach| {
        let condition = condition(&rule(effect, json!({})), reach, Time(Default::default()));
        assert_eq!(
            (condition.type_.as_str(), condition.observed_generation),
            ("EvictionInProgress", Some(2))
        );
        format!("{} {}: {}", condition.status, condition.reason, condition.message)
    };
    let none = Reach::default();
    assert_eq!(told("NoExecute", none), "False NotStarted: ");
    let some = Reach { pods: 2, namespaces: 1, evicted: 1, ..none };
    assert_eq!(
        told("NoExecute", some),
        "True PodsPendingEviction: 2 pods need to be evicted in 1 namespace. 1 pod evicted since starting the controller."
    );
    let done = Reach { evicted: 3, ..none };
    assert_eq!(told("NoExecute", done), "False Completed: 3 pods evicted since starting the controller.");
    assert_eq!(
        told("NoSchedule", none),
        "False OtherEffect: Eviction only happens for the NoExecute effect."
    );
    let would = Reach { pods: 1, namespaces: 1, published: 4, allocated: 1, evicted: 0 };
    assert_eq!(
        told("None", would),
        "False NoEffect: 4 published devices selected. 1 allocated device selected. 1 pod would be evicted in 1 namespace \
         if the effect was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to \
         trigger an update."
    );
}
