use std::sync::Arc;

use super::*;
use crate::plan::Wants;
use crate::view::PodView;

/// Nodes `a`, `b`, … of these statuses and specifications.
fn cluster(nodes: &[(serde_json::Value, serde_json::Value)]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for (name, (spec, status)) in ('a'..).zip(nodes) {
        let labels = serde_json::json!({"name": name, "disk": if name == 'a' { "ssd" } else { "hdd" }});
        let mut node = serde_json::json!({"metadata": {"name": name, "labels": labels},
            "spec": spec, "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}});
        for (key, value) in status.as_object().unwrap() {
            node["status"][key] = value.clone();
        }
        snapshot.set_node(Arc::new(serde_json::from_value(node).unwrap()));
    }
    snapshot
}

fn none() -> serde_json::Value {
    serde_json::json!({})
}

fn pod(uid: &str, spec: serde_json::Value) -> PodView {
    let meta = serde_json::json!({"name": uid, "namespace": "n", "uid": uid});
    serde_json::from_value(serde_json::json!({"metadata": meta, "spec": spec})).unwrap()
}

fn asks(cpu: &str, memory: &str) -> serde_json::Value {
    serde_json::json!({"containers": [{"image": "i", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}

/// What one rule says of each node, weighted.
fn said(snapshot: &Snapshot, pod: &PodView, rule: &str) -> Vec<i64> {
    let nodes: Vec<&NodeInfo> = snapshot.nodes().collect();
    let scores = Scores::of(&Candidate::new(pod, Wants::default(), snapshot), &nodes, snapshot);
    let of = |at: usize| {
        let shown = scores.shown(at);
        shown.into_iter().find(|(name, _)| *name == rule).map(|(_, score)| score).unwrap()
    };
    (0..nodes.len()).map(of).collect()
}

fn put(snapshot: &mut Snapshot, on: &str, mut pod: PodView) {
    pod.spec.node_name = on.to_owned();
    snapshot.set_pod(Arc::new(pod));
}

#[test]
fn where_more_is_left_is_better_and_who_asks_for_nothing_counts() {
    let mut snapshot = cluster(&[(none(), none()), (none(), none()), (none(), none())]);
    put(&mut snapshot, "a", pod("x", asks("1", "4Gi")));
    put(&mut snapshot, "b", pod("y", serde_json::json!({"containers": [{}]})));
    // a: (4000 - 1000 - 1000) / 4000 = 50 and (8 - 4 - 2) / 8 = 25; b: 72 and 72.
    assert_eq!(said(&snapshot, &pod("p", asks("1", "2Gi")), "NodeResourcesFit"), [37, 72, 75]);
}

#[test]
fn even_use_is_better() {
    let mut snapshot = cluster(&[(none(), none()), (none(), none())]);
    put(&mut snapshot, "a", pod("x", asks("0", "4Gi")));
    // Processor alone: on a it evens out what memory has begun, on b it makes it uneven.
    let rule = "NodeResourcesBalancedAllocation";
    assert_eq!(said(&snapshot, &pod("p", asks("2", "0")), rule), [87, 62]);
    assert_eq!(said(&snapshot, &pod("p", serde_json::json!({"containers": [{}]})), rule), [0, 0]);
}

#[test]
fn images_count_by_how_many_nodes_have_them() {
    let image = |name: &str, size: i64| serde_json::json!({"names": [name], "sizeBytes": size << 20});
    let first = serde_json::json!({"images": [image("x:latest", 500), image("y:1", 500)]});
    let second = serde_json::json!({"images": [image("y:1", 500)]});
    let snapshot = cluster(&[(none(), first), (none(), second)]);
    let of = |images: &[&str]| {
        let containers: Vec<_> = images.iter().map(|image| serde_json::json!({"image": image})).collect();
        said(&snapshot, &pod("p", serde_json::json!({"containers": containers})), "ImageLocality")
    };
    // (500 - 23) / (1000 - 23); half of it for what only one of two has.
    assert_eq!(of(&["y:1"]), [48, 48]);
    assert_eq!(of(&["x"]), [23, 0]);
    assert_eq!(of(&["x", "y:1"]), [36, 24]);
    assert_eq!(of(&["z"]), [0, 0]);
    let volumes =
        serde_json::json!([{"name": "v", "image": {"reference": "y:1"}}, {"name": "w", "emptyDir": {}}]);
    let mounted = pod("p", serde_json::json!({"containers": [{"image": "z"}], "volumes": volumes}));
    assert_eq!(said(&snapshot, &mounted, "ImageLocality"), [48, 48]);
}

#[test]
fn taints_and_terms_are_compared_with_the_most_of_all_nodes() {
    let taint = |key: &str| serde_json::json!({"key": key, "effect": "PreferNoSchedule"});
    let one = serde_json::json!({"taints": [taint("k")]});
    let two = serde_json::json!({"taints": [taint("k"), taint("l")]});
    let snapshot = cluster(&[(none(), none()), (one, none()), (two, none())]);
    let mut wants = asks("1", "1Gi");
    assert_eq!(said(&snapshot, &pod("p", wants.clone()), "TaintToleration"), [300, 150, 0]);
    wants["tolerations"] = serde_json::json!([{"key": "l", "operator": "Exists", "effect": "NoSchedule"}, {"key": "k", "operator": "Exists"}]);
    let prefers = |key: &str, value: &str, weight: i32| {
        serde_json::json!({"weight": weight, "preference": {"matchExpressions": [
            {"key": key, "operator": "In", "values": [value]}]}})
    };
    wants["affinity"] = serde_json::json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        prefers("disk", "ssd", 10), prefers("name", "b", 30), prefers("name", "x", 100)]}});
    let pod = pod("p", wants);
    assert_eq!(said(&snapshot, &pod, "TaintToleration"), [300, 300, 0]);
    assert_eq!(said(&snapshot, &pod, "NodeAffinity"), [66, 200, 0]);
}
