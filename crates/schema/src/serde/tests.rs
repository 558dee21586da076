use std::collections::BTreeMap;

use ::serde::Deserialize;

use super::*;
use crate::{builtin, json, protobuf};

const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","labels":{"x":"y"},
    "creationTimestamp":"2020-01-02T03:04:05Z"},"spec":{"nodeName":"n","containers":[
    {"name":"c","image":"i","resources":{"limits":{"cpu":"1000m"}},"ports":[{"containerPort":80}],
    "livenessProbe":{"httpGet":{"port":"web"}}}]},"status":{"phase":"Running"}}"#;

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    uid: Option<String>,
    labels: BTreeMap<String, String>,
    creation_timestamp: Option<String>,
}

#[derive(Deserialize, PartialEq, Debug)]
enum Phase {
    Pending,
    Running,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    containers: Vec<serde_json::Value>,
    service_account: Option<String>,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Status {
    phase: Phase,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Projection {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[test]
fn a_projection_reads_the_same_from_tree_and_bytes() {
    let ty = &builtin().kind("", "v1", "Pod").unwrap().ty;
    let object = json::decode(ty, POD.as_bytes()).unwrap().object;
    let from_tree: Projection = from_object(&object).unwrap();
    let from_bytes: Projection = from_protobuf(ty, &protobuf::encode(&object)).unwrap();
    let from_json: Projection = serde_json::from_slice(&json::encode(&object)).unwrap();
    assert_eq!(from_tree, from_json);
    assert_eq!(from_bytes, from_json);
    assert_eq!(from_tree.spec.containers[0]["resources"]["limits"]["cpu"], "1");
    let whole: serde_json::Value = from_object(&object).unwrap();
    assert_eq!(to_object(ty, &whole).unwrap(), object);
}

#[test]
fn managed_fields_can_be_left_out() {
    const MAP: &str = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","managedFields":[
        {"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1",
        "fieldsV1":{"f:data":{"f:x":{}}}}],"uid":"u"},"data":{"managedFields":"kept"}}"#;
    let ty = &builtin().kind("", "v1", "ConfigMap").unwrap().ty;
    let bytes = protobuf::encode(&json::decode(ty, MAP.as_bytes()).unwrap().object);
    let whole: serde_json::Value = from_protobuf(ty, &bytes).unwrap();
    let mut lean: serde_json::Value = from_protobuf_lean(ty, &bytes).unwrap();
    assert_eq!(whole["metadata"]["managedFields"][0]["fieldsV1"]["f:data"]["f:x"], serde_json::json!({}));
    assert_eq!(lean["metadata"].get("managedFields"), None);
    lean["metadata"]["managedFields"] = whole["metadata"]["managedFields"].clone();
    assert_eq!(lean, whole);
}

#[test]
fn a_time_that_nobody_set_is_the_zero_one_where_none_may_be_missing() {
    const SERVICE: &str = r#"{"kind":"Service","apiVersion":"v1","metadata":{"name":"a"},"status":{"conditions":[
        {"type":"Ready","status":"True","reason":"r","message":"m"}]}}"#;
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Condition {
        reason: String,
        last_transition_time: String,
    }
    #[derive(Deserialize)]
    struct Status {
        conditions: Vec<Condition>,
    }
    #[derive(Deserialize)]
    struct Service {
        status: Status,
    }
    let ty = &builtin().kind("", "v1", "Service").unwrap().ty;
    let object = json::decode(ty, SERVICE.as_bytes()).unwrap().object;
    let from_tree: Service = from_object(&object).unwrap();
    let from_bytes: Service = from_protobuf(ty, &protobuf::encode(&object)).unwrap();
    for read in [from_tree, from_bytes] {
        let condition = &read.status.conditions[0];
        assert_eq!((&*condition.reason, &*condition.last_transition_time), ("r", "0001-01-01T00:00:00Z"));
    }
    // Whoever knows of none reads none.
    let any: serde_json::Value = from_object(&object).unwrap();
    assert!(any["status"]["conditions"][0]["lastTransitionTime"].is_null());
}
