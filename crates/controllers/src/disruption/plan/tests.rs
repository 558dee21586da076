//! Tests of what a budget allows.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
    let all =
        json!({"metadata": {"name": "b", "namespace": "n", "generation": 3}, "spec": spec, "status": status});
    serde_json::from_value(all).unwrap()
}

fn pod(name: &str, ready: bool, going: bool) -> Arc<PodView> {
    let ready = if ready { "True" } else { "False" };
    let going = going.then(|| at(1).to_string());
    let pod = json!({"metadata": {"name": name, "labels": {"app": "a"}, "deletionTimestamp": going},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    Arc::new(serde_json::from_value(pod).unwrap())
}

#[test]
fn what_must_be_well_follows_from_what_is_wanted() {
    for (spec, expected, needs, desired_is) in [
        (json!({"minAvailable": 2}), 5, false, Ok(2)),
        (json!({"minAvailable": "50%"}), 5, true, Ok(3)),
        (json!({"maxUnavailable": 1}), 5, true, Ok(4)),
        (json!({"maxUnavailable": "30%"}), 5, true, Ok(3)),
        (json!({"maxUnavailable": 7}), 5, true, Ok(0)),
        (json!({"maxUnavailable": "x"}), 5, true, Err(ShareError::NoPercentage)),
        (json!({}), 5, false, Ok(0)),
    ] {
        let budget = budget(spec.clone(), json!({}));
        let of = budget.spec.as_ref().unwrap();
        assert_eq!((needs_scale(of), desired(of, expected)), (needs, desired_is), "{spec}");
    }
}

#[test]
fn evicted_pods_count_as_going_until_they_had_their_time() {
    let told = json!({"disruptedPods": {"early": at(0), "late": at(100), "goes": at(100), "gone": at(100)},
        "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    let budget = budget(json!({}), told);
    let pods = [
        pod("early", true, false),
        pod("late", true, false),
        pod("goes", true, true),
        pod("other", true, false),
    ];
    let found = disrupted(&budget, &pods, at(130));
    assert_eq!(found.pods.keys().collect::<Vec<_>>(), ["late"]);
    assert_eq!(
        (found.recheck, found.stayed.as_slice()),
        (Some(Duration::from_secs(90)), &["early".to_owned()][..])
    );
    assert_eq!(healthy(&pods, &found), 2, "the one that stayed and the one that nobody evicted");
    assert_eq!(healthy(&[pod("x", false, false)], &Disrupted::default()), 0);
}

#[test]
fn status_is_written_only_when_it_changes() {
    let empty = budget(json!({}), json!(null));
    let new = status(&empty, (3, 2, 3), BTreeMap::new(), at(5)).unwrap();
    assert_eq!((new.disruptions_allowed, new.observed_generation), (Some(1), Some(3)));
    let told = PodDisruptionBudget { status: Some(new), ..empty };
    assert_eq!(status(&told, (3, 2, 3), BTreeMap::new(), at(9)), None);
    let more = status(&told, (4, 2, 4), BTreeMap::new(), at(9)).unwrap();
    let condition = &more.conditions.as_ref().unwrap()[0];
    assert_eq!((condition.reason.as_str(), condition.last_transition_time.0), ("SufficientPods", at(5)));
    let none = status(&told, (2, 2, 3), BTreeMap::new(), at(9)).unwrap();
    let condition = &none.conditions.as_ref().unwrap()[0];
    assert_eq!(none.disruptions_allowed, Some(0));
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str(), condition.last_transition_time.0),
        ("False", "InsufficientPods", at(9))
    );
    let nobody = status(&told, (3, 2, 0), BTreeMap::new(), at(9)).unwrap();
    assert_eq!(nobody.disruptions_allowed, Some(0), "nobody wants pods");
}

#[test]
fn a_budget_that_cannot_be_reckoned_allows_nothing() {
    let told = json!({"currentHealthy": 3, "desiredHealthy": 1, "disruptionsAllowed": 2, "expectedPods": 3,
        "observedGeneration": 2});
    let status = failed(&budget(json!({}), told), "found no controllers for pod \"p\"", at(1));
    let condition = &status.conditions.as_ref().unwrap()[0];
    assert_eq!((status.disruptions_allowed, status.current_healthy), (Some(0), Some(3)));
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str(), condition.message.as_str()),
        ("False", "SyncFailed", "found no controllers for pod \"p\"")
    );
    assert_eq!(condition.observed_generation, Some(2));
}

#[test]
fn a_pod_is_said_to_be_going_for_a_while_only() {
    let going = |status: &str, reason: &str, phase: &str| -> PodView {
        let condition = json!({"type": "DisruptionTarget", "status": status, "reason": reason, "lastTransitionTime": at(10)});
        serde_json::from_value(json!({"status": {"phase": phase, "conditions": [condition]}})).unwrap()
    };
    let by_api = "EvictionByEvictionAPI";
    let left = stale_in(&going("True", by_api, "Running"), at(70));
    assert_eq!(left, Some(Duration::from_secs(60)));
    assert_eq!(stale_in(&going("True", by_api, "Running"), at(131)), Some(Duration::ZERO));
    assert!(!goes(&going("True", "TerminationByKubelet", "Running")));
    assert!(!goes(&going("False", by_api, "Running")));
    assert!(!goes(&going("True", by_api, "Failed")));
}

#[test]
fn selectors_are_told_in_upstreams_words() {
    let selector = json!({"matchLabels": {"a": "b", "c": "d"},
        "matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]});
    let selector: LabelSelector = serde_json::from_value(selector).unwrap();
    let expected = "(selector: &LabelSelector{MatchLabels:map[string]string{a: b,c: d,},MatchExpressions:\
                    []LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},})";
    let told = unmanaged(Some(&selector));
    assert!(told.contains(expected), "{told}");
}
