use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn claim(conditions: Value) -> Claim {
    let result = json!({"request": "r", "driver": "d", "pool": "p", "device": "x",
        "bindingConditions": ["attached", "programmed"], "bindingFailureConditions": ["broken"]});
    let device = json!({"driver": "d", "pool": "p", "device": "x", "conditions": conditions});
    serde_json::from_value(json!({"metadata": {"name": "c"}, "status": {
        "allocation": {"allocationTimestamp": "2026-01-01T00:00:00Z", "devices": {"results": [result]}},
        "devices": [device]}}))
    .unwrap()
}

fn condition(name: &str, status: &str) -> Value {
    json!({"type": name, "status": status, "reason": "Why", "message": "so",
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

#[test]
fn a_device_is_ready_once_all_its_conditions_hold_and_none_of_failure() {
    assert_eq!(readiness(&claim(json!([]))), Readiness::Waiting);
    let half = json!([condition("attached", "True"), condition("programmed", "False")]);
    assert_eq!(readiness(&claim(half)), Readiness::Waiting);
    let both = json!([condition("attached", "True"), condition("programmed", "True")]);
    assert_eq!(readiness(&claim(both)), Readiness::Ready);
    let all = ["attached", "programmed", "broken"].map(|name| condition(name, "True"));
    let why = "device binding failed: claim=c, reason=Why, message=\"so\"".to_owned();
    assert_eq!(readiness(&claim(json!(all))), Readiness::Failed(why));
    let mut unknown = claim(json!([]));
    unknown.status.as_mut().unwrap().devices = None;
    assert_eq!(readiness(&unknown), Readiness::Waiting);
    assert_eq!(readiness(&Claim::default()), Readiness::Waiting, "it lost what it had");
}

#[test]
fn a_claim_whose_devices_do_not_get_ready_is_stuck() {
    let at = |text: &str| text.parse().unwrap();
    let waiting = [Arc::new(claim(json!([])))];
    let patience = Duration::from_secs(600);
    assert_eq!(stuck(&waiting, at("2026-01-01T00:10:00Z"), patience), [0; 0]);
    assert_eq!(stuck(&waiting, at("2026-01-01T00:10:01Z"), patience), [0]);
    let failed = [Arc::new(claim(json!([condition("broken", "True")])))];
    assert_eq!(stuck(&failed, at("2026-01-01T00:00:01Z"), patience), [0]);
    let ready = json!([condition("attached", "True"), condition("programmed", "True")]);
    assert_eq!(stuck(&[Arc::new(claim(ready))], at("2026-01-02T00:00:00Z"), patience), [0; 0]);
}
