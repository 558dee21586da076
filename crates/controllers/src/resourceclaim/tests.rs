use std::sync::Arc;

use k8s_openapi::api::resource::v1::{ResourceClaim as Claim, ResourceClaimTemplate as Template};
use serde_json::json;

use super::claim::{Keeps, Plan, User, plan, user};
use super::pod::{Lack, lacks, made, statuses, unreserved};
use super::*;

fn pod(status: serde_json::Value) -> PodView {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"resourceClaims": [
            {"name": "shared", "resourceClaimName": "s"},
            {"name": "own", "resourceClaimTemplateName": "t"},
        ]},
        "status": status,
    }))
    .unwrap()
}

fn claim(name: &str, owner: &str, status: serde_json::Value) -> Claim {
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner, "controller": true});
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "n", "ownerReferences": [owner], "annotations": {ANNOTATION: "own"},
            "finalizers": [FINALIZER]},
        "spec": {}, "status": status,
    }))
    .unwrap()
}

fn template() -> Template {
    serde_json::from_value(json!({"metadata": {"name": "t"}, "spec": {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"devices": {"requests": [{"name": "one", "exactly": {"deviceClassName": "c"}}]}}}}))
    .unwrap()
}

#[test]
fn a_claim_is_made_once_and_then_only_told_of() {
    let fresh = pod(json!({}));
    assert_eq!(lacks(&fresh, &[]), [Lack::Unmade { claim: "own", template: "t" }]);
    let there = Arc::new(claim("p-own-x", "u", json!({})));
    let untold = Lack::Untold { claim: "own", name: "p-own-x".to_owned() };
    assert_eq!(lacks(&fresh, std::slice::from_ref(&there)), [untold]);
    let told = pod(json!({"resourceClaimStatuses": [{"name": "own", "resourceClaimName": "p-own-x"}]}));
    assert_eq!(lacks(&told, &[there]), []);
    let foreign = Arc::new(claim("p-own-x", "other", json!({})));
    let unmade = [Lack::Unmade { claim: "own", template: "t" }];
    assert_eq!(lacks(&told, &[foreign]), unmade, "another pod's");
    assert_eq!(lacks(&told, &[]), unmade, "somebody deleted it");
    let unneeded = pod(json!({"resourceClaimStatuses": [{"name": "own"}]}));
    assert_eq!(lacks(&unneeded, &[]), []);
}

#[test]
fn it_is_as_the_template_says_and_the_pods_own() {
    let mut pod = pod(json!({}));
    let claim = made(&pod, "own", &template());
    let meta = claim.metadata;
    assert_eq!(meta.generate_name.as_deref(), Some("p-own-"));
    assert_eq!(meta.labels.unwrap()["a"], "b");
    assert_eq!(meta.annotations.unwrap()[ANNOTATION], "own");
    let owner = &meta.owner_references.unwrap()[0];
    assert_eq!((owner.uid.as_str(), owner.controller, owner.block_owner_deletion), ("u", Some(true), None));
    assert_eq!(claim.spec.unwrap().devices.unwrap().requests.unwrap()[0].name, "one");
    let new = [("own".to_owned(), "p-own-x".to_owned())].into();
    let told = json!([{"name": "own", "resourceClaimName": "p-own-x"}]);
    assert_eq!(statuses(&new), told);
    // Both names are cut by their part in the length: 60 · 57/82 and 20 · 57/82 characters.
    pod.metadata.name = "a".repeat(60);
    let long = made(&pod, &"b".repeat(20), &template()).metadata.generate_name.unwrap();
    assert_eq!(long, format!("{}-{}", "a".repeat(41), "b".repeat(13)));
}

#[test]
fn a_pod_that_came_past_the_scheduler_is_entered_into_what_it_uses() {
    let status = json!({"resourceClaimStatuses": [{"name": "own", "resourceClaimName": "p-own-x"}]});
    let mut placed = pod(status);
    let claims = [Arc::new(claim("p-own-x", "u", json!({"allocation": {}})))];
    assert_eq!(unreserved(&placed, &claims), [], "the scheduler will");
    placed.spec.node_name = "a".to_owned();
    let [(found, consumer)] = unreserved(&placed, &claims)[..].to_vec().try_into().unwrap();
    assert_eq!((found.metadata.name.as_deref(), consumer.uid.as_str()), (Some("p-own-x"), "u"));
    let reserved = json!({"allocation": {}, "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
    assert_eq!(unreserved(&placed, &[Arc::new(claim("p-own-x", "u", reserved))]), []);
}

#[test]
fn the_last_user_that_leaves_frees_the_devices() {
    let users =
        json!([{"resource": "pods", "name": "p", "uid": "u"}, {"resource": "pods", "name": "q", "uid": "v"}]);
    let used = claim("c", "u", json!({"allocation": {}, "reservedFor": users}));
    let both = used.status.clone().unwrap().reserved_for.unwrap();
    assert_eq!(plan(&used, both.clone(), None), Plan::default());
    let one = plan(&used, both[..1].to_vec(), None);
    assert_eq!(
        one,
        Plan { status: Some((both[..1].to_vec(), Keeps::Devices)), release: false, delete: false }
    );
    let none = plan(&used, Vec::new(), None);
    assert_eq!(none, Plan { status: Some((Vec::new(), Keeps::Nothing)), release: true, delete: false });
    let unused = claim("c", "u", json!({"allocation": {}}));
    assert_eq!(plan(&unused, Vec::new(), None), Plan::default(), "nobody used it yet");
    let mut going = unused;
    going.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
    let freed = Plan { status: Some((Vec::new(), Keeps::Nothing)), release: true, delete: false };
    assert_eq!(plan(&going, Vec::new(), None), freed);
}

#[test]
fn a_generated_claim_goes_when_its_pod_is_over() {
    let unused = claim("c", "u", json!({}));
    let deletes = |status| plan(&unused, Vec::new(), Some(&pod(status))).delete;
    assert!(deletes(json!({"phase": "Succeeded"})));
    assert!(!deletes(json!({"phase": "Running"})));
    assert!(
        plan(&claim("c", "old", json!({})), Vec::new(), Some(&pod(json!({})))).delete,
        "a new pod of its name"
    );
}

#[test]
fn users_are_known_by_their_uid() {
    let consumer = |kind: &str, uid: &str| {
        serde_json::from_value(json!({"resource": kind, "name": "p", "uid": uid})).unwrap()
    };
    let running = pod(json!({"phase": "Running"}));
    assert_eq!(user(&consumer("pods", "u"), Some(&running)), User::Stays);
    assert_eq!(user(&consumer("pods", "old"), Some(&running)), User::Gone);
    assert_eq!(user(&consumer("pods", "u"), Some(&pod(json!({"phase": "Failed"})))), User::Gone);
    assert_eq!(user(&consumer("pods", "u"), None), User::Unknown);
    assert_eq!(user(&consumer("things", "u"), None), User::Stays);
}

#[test]
fn a_pod_that_is_over_has_its_claims_looked_at() {
    let status = |phase: &str| {
        pod(json!({"phase": phase, "resourceClaimStatuses": [{"name": "own", "resourceClaimName": "x"}]}))
    };
    assert_eq!(keys(&status("Running"), false), [Key::Pod("n/p".to_owned())]);
    let all = ["n/s", "n/x"].map(|name| Key::Claim(name.to_owned()));
    let all: Vec<Key> = all.into_iter().chain([Key::Pod("n/p".to_owned())]).collect();
    assert_eq!(keys(&status("Succeeded"), false), all);
    assert_eq!(keys(&status("Running"), true), all);
}
