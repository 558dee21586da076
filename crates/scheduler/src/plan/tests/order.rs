//! Which nodes are asked, and who is counted on them.

use super::*;
use crate::plan::preempt::{Preemption, search};

fn named(names: &[&str]) -> serde_json::Value {
    let terms: Vec<_> = names
        .iter()
        .map(|name| serde_json::json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}))
        .collect();
    let mut spec = asks("1");
    spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"] =
        terms.into();
    spec
}

fn said(snapshot: &Snapshot, pod: &PodView) -> String {
    match decide(snapshot, pod, 0) {
        Decision::Node(node) => node,
        Decision::Unschedulable(why, _) | Decision::Failed(why) => why,
    }
}

#[test]
fn a_pod_that_names_nodes_asks_no_others() {
    let snapshot = cluster(&[node("a", "4"), node("b", "500m"), node("c", "4")]);
    assert_eq!(said(&snapshot, &pod("p", named(&["c"]))), "c");
    let why =
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    assert_eq!(said(&snapshot, &pod("p", named(&["b"]))), why);
    let mut both = named(&["b"]);
    both["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        [0]["matchFields"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({"key": "metadata.name", "operator": "In", "values": ["a"]}));
    assert_eq!(said(&snapshot, &pod("p", both)), "0/3 nodes are available: pod affinity terms conflict.");
}

#[test]
fn those_that_make_way_make_way_for_neighbours_too() {
    let rule = |field: &str, more: serde_json::Value| {
        let mut spec = asks("100m");
        spec["priority"] = 9.into();
        spec[field] = more;
        spec
    };
    let selector = serde_json::json!({"matchLabels": {"app": "a"}});
    let apart = serde_json::json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}]}});
    let spread = serde_json::json!([{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector}]);
    for (field, more) in [("affinity", apart), ("topologySpreadConstraints", spread)] {
        let mut snapshot = cluster(&[node("a", "4"), node("b", "50m")]);
        let mut other = pod("other", asks("100m"));
        other.metadata.labels.clear();
        other.spec.node_name = "a".to_owned();
        snapshot.set_pod(Arc::new(other));
        place(&mut snapshot, "like", "a", asks("100m"));
        let important = pod("p", rule(field, more));
        let crowded = crate::plan::place(&snapshot, &important, Wants::default(), 0).crowded;
        assert_eq!(crowded, ["a"], "{field}");
        let found = search(&snapshot, &important, Wants::default(), (&crowded, &[]), 0);
        let Preemption::Victims { victims, .. } = found else { panic!("{field}: {found:?}") };
        let victims: Vec<&str> = victims.iter().map(|victim| victim.metadata.uid.as_str()).collect();
        assert_eq!(victims, ["like"], "{field}");
    }
}

#[test]
fn nothing_rests_on_a_pod_that_only_waits_for_a_node() {
    let mut snapshot = cluster(&[node("a", "4"), node("b", "4")]);
    let mut waiting = pod("waiting", asks("1"));
    waiting.status.nominated_node_name = "a".to_owned();
    waiting.metadata.labels = [("app".to_owned(), "b".to_owned())].into();
    snapshot.nominate(Arc::new(waiting));
    let near = |field: &str| {
        let mut spec = asks("1");
        spec["affinity"] = serde_json::json!({field: {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "b"}}}]}});
        pod("p", spec)
    };
    let why = "0/2 nodes are available: 2 node(s) didn't match pod affinity rules.";
    assert_eq!(said(&snapshot, &near("podAffinity")), why);
    for tie in 0..4 {
        assert_eq!(decide(&snapshot, &near("podAntiAffinity"), tie), Decision::Node("b".to_owned()));
    }
}
