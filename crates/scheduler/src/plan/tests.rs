use std::sync::Arc;

use super::*;

mod order;
mod speed;

fn cluster(nodes: &[serde_json::Value]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        snapshot.set_node(Arc::new(serde_json::from_value(node.clone()).unwrap()));
    }
    snapshot
}

fn node(name: &str, cpu: &str) -> serde_json::Value {
    serde_json::json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
    })
}

fn pod(uid: &str, spec: serde_json::Value) -> PodView {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": uid, "namespace": "n", "uid": uid, "labels": {"app": "a"}}, "spec": spec,
    }))
    .unwrap()
}

fn asks(cpu: &str) -> serde_json::Value {
    serde_json::json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]})
}

fn place(snapshot: &mut Snapshot, uid: &str, on: &str, mut spec: serde_json::Value) {
    spec["nodeName"] = on.into();
    snapshot.set_pod(Arc::new(pod(uid, spec)));
}

fn refused(why: &str) -> Decision {
    Decision::Unschedulable(why.to_owned(), Relief::Unknown)
}

#[test]
fn a_pod_goes_where_there_is_room() {
    let mut snapshot = cluster(&[node("full", "1"), node("free", "1")]);
    place(&mut snapshot, "x", "full", asks("900m"));
    assert_eq!(decide(&snapshot, &pod("p", asks("500m")), 0), Decision::Node("free".to_owned()));
}

#[test]
fn what_is_in_the_way_is_told_in_upstreams_words() {
    let mut tainted = node("b", "4");
    tainted["spec"] = serde_json::json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    let snapshot = cluster(&[node("a", "1"), tainted]);
    let why = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s).";
    assert_eq!(decide(&snapshot, &pod("p", asks("2")), 0), refused(why));
    let nowhere = "no nodes available to schedule pods";
    let refused = Decision::Unschedulable(nowhere.to_owned(), Relief::Unasked);
    assert_eq!(decide(&Snapshot::default(), &pod("p", asks("1")), 0), refused);
}

#[test]
fn equals_are_kept_apart() {
    let mut snapshot = cluster(&[node("a", "4"), node("b", "4")]);
    place(&mut snapshot, "x", "a", asks("100m"));
    for tie in 0..4 {
        assert_eq!(decide(&snapshot, &pod("p", asks("100m")), tie), Decision::Node("b".to_owned()));
    }
}

#[test]
fn anti_affinity_works_both_ways() {
    let mut repelling = asks("100m");
    repelling["affinity"] = serde_json::json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "a"}}}]}});
    let mut snapshot = cluster(&[node("a", "4")]);
    place(&mut snapshot, "x", "a", repelling.clone());
    let why = "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.";
    assert_eq!(decide(&snapshot, &pod("p", asks("100m")), 0), refused(why));
    let mut snapshot = cluster(&[node("a", "4")]);
    place(&mut snapshot, "x", "a", asks("100m"));
    let why = "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.";
    assert_eq!(decide(&snapshot, &pod("p", repelling), 0), refused(why));
}

#[test]
fn host_ports_clash() {
    let spec = serde_json::json!({"containers": [{"ports": [{"hostPort": 80, "protocol": "TCP"}]}]});
    let mut snapshot = cluster(&[node("a", "4"), node("b", "4")]);
    place(&mut snapshot, "x", "a", spec.clone());
    assert_eq!(decide(&snapshot, &pod("p", spec), 0), Decision::Node("b".to_owned()));
}

#[test]
fn a_hard_spread_is_kept() {
    let mut spec = asks("100m");
    spec["topologySpreadConstraints"] = serde_json::json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "a"}}}]);
    let mut snapshot = cluster(&[node("a", "4"), node("b", "4")]);
    place(&mut snapshot, "x", "a", asks("100m"));
    assert_eq!(decide(&snapshot, &pod("p", spec), 1), Decision::Node("b".to_owned()));
}
