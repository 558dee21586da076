use std::sync::Arc;

use super::super::{Decision, Relief, decide};
use super::*;
use crate::snapshot::Snapshot;

const ZONE: &str = "topology.kubernetes.io/zone";
const HOST: &str = "kubernetes.io/hostname";

/// Nodes `a1`, `a2` and `b1`, of which the first letter is the zone.
fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::default();
    for name in ["a1", "a2", "b1"] {
        let node = serde_json::json!({
            "metadata": {"name": name, "labels": {HOST: name, ZONE: name.get(..1).unwrap()}},
            "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"}},
        });
        snapshot.set_node(Arc::new(serde_json::from_value(node).unwrap()));
    }
    snapshot
}

fn pod(uid: &str, app: &str, affinity: serde_json::Value) -> PodView {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": uid, "namespace": "n", "uid": uid, "labels": {"app": app}},
        "spec": {"affinity": affinity, "containers": [{}]},
    }))
    .unwrap()
}

fn put(snapshot: &mut Snapshot, on: &str, mut pod: PodView) {
    pod.spec.node_name = on.to_owned();
    snapshot.set_pod(Arc::new(pod));
}

fn plain(uid: &str, app: &str) -> PodView {
    pod(uid, app, serde_json::Value::Null)
}

fn term(key: &str, app: &str) -> serde_json::Value {
    serde_json::json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}})
}

fn required(field: &str, terms: &[serde_json::Value]) -> serde_json::Value {
    serde_json::json!({field: {"requiredDuringSchedulingIgnoredDuringExecution": terms}})
}

fn preferred(field: &str, terms: &[(i32, serde_json::Value)]) -> serde_json::Value {
    let terms: Vec<_> = terms
        .iter()
        .map(|(weight, term)| serde_json::json!({"weight": weight, "podAffinityTerm": term}))
        .collect();
    serde_json::json!({field: {"preferredDuringSchedulingIgnoredDuringExecution": terms}})
}

fn said(snapshot: &Snapshot, pod: &PodView) -> String {
    match decide(snapshot, pod, 0) {
        Decision::Node(node) => node,
        Decision::Unschedulable(why, _) | Decision::Failed(why) => why,
    }
}

fn liked(snapshot: &Snapshot, pod: &PodView) -> Vec<i64> {
    scores(pod, &snapshot.nodes().collect::<Vec<_>>(), snapshot)
}

#[test]
fn all_terms_must_be_met_by_one_pod() {
    let mut snapshot = cluster();
    put(&mut snapshot, "a1", plain("x", "x"));
    let wants = |terms: &[serde_json::Value]| pod("p", "p", required("podAffinity", terms));
    let near = wants(&[term(ZONE, "x")]);
    assert!(said(&snapshot, &near).starts_with('a'));
    assert_eq!(said(&snapshot, &wants(&[term(HOST, "x")])), "a1");
    put(&mut snapshot, "a1", plain("y", "y"));
    let why = "0/3 nodes are available: 3 node(s) didn't match pod affinity rules.";
    assert_eq!(said(&snapshot, &wants(&[term(ZONE, "x"), term(ZONE, "y")])), why, "x and y are two pods");
    // The first of a group may go anywhere with such a label, unless others of it are there.
    let mut own = wants(&[term(ZONE, "p")]);
    assert!(!said(&snapshot, &own).starts_with('0'));
    own.metadata.uid = "q".to_owned();
    put(&mut snapshot, "b1", own.clone());
    assert_eq!(said(&snapshot, &own), "b1");
    let nowhere = wants(&[term("rack", "p")]);
    assert_eq!(said(&snapshot, &nowhere), why);
}

#[test]
fn namespaces_are_meant_by_name_or_by_labels() {
    let mut snapshot = cluster();
    put(&mut snapshot, "b1", plain("x", "x"));
    let meant = |namespace: &str, scope: serde_json::Value| {
        let mut term = term(ZONE, "x");
        for (key, value) in scope.as_object().unwrap() {
            term[key] = value.clone();
        }
        let mut pod = pod("p", "p", required("podAffinity", &[term]));
        pod.metadata.namespace = namespace.to_owned();
        pod
    };
    let team = serde_json::json!({"namespaceSelector": {"matchLabels": {"team": "t"}}});
    for (namespace, scope, is_met) in [
        ("n", serde_json::json!({}), true),
        ("m", serde_json::json!({}), false),
        ("m", serde_json::json!({"namespaces": ["n"]}), true),
        ("n", serde_json::json!({"namespaces": ["m"]}), false),
        ("m", serde_json::json!({"namespaceSelector": {}}), true),
        ("m", team.clone(), false),
    ] {
        assert_eq!(said(&snapshot, &meant(namespace, scope.clone())) == "b1", is_met, "{namespace} {scope}");
    }
    snapshot.set_namespace("n", [("team".to_owned(), "t".to_owned())].into());
    assert_eq!(said(&snapshot, &meant("m", team)), "b1");
}

#[test]
fn those_that_keep_away_are_told_apart() {
    let mut snapshot = cluster();
    put(&mut snapshot, "a1", pod("x", "x", required("podAntiAffinity", &[term(ZONE, "p")])));
    put(&mut snapshot, "b1", plain("y", "y"));
    let apart = pod("p", "p", required("podAntiAffinity", &[term(HOST, "y")]));
    let why = "0/3 nodes are available: 1 node(s) didn't match pod anti-affinity rules, 2 node(s) didn't satisfy \
               existing pods anti-affinity rules.";
    assert_eq!(decide(&snapshot, &apart, 0), Decision::Unschedulable(why.to_owned(), Relief::Unknown));
}

#[test]
fn liking_goes_both_ways() {
    let mut snapshot = cluster();
    put(&mut snapshot, "a1", plain("x", "x"));
    put(&mut snapshot, "b1", pod("y", "y", preferred("podAffinity", &[(50, term(ZONE, "p"))])));
    assert_eq!(liked(&snapshot, &plain("p", "p")), [0, 0, 100]);
    let near = preferred("podAffinity", &[(100, term(ZONE, "x"))]);
    assert_eq!(liked(&snapshot, &pod("p", "p", near)), [100, 100, 0]);
    let apart = preferred("podAntiAffinity", &[(10, term(HOST, "x"))]);
    assert_eq!(liked(&snapshot, &pod("p", "p", apart)), [0, 16, 100]);
    put(&mut snapshot, "a2", pod("z", "z", required("podAffinity", &[term(HOST, "p")])));
    put(&mut snapshot, "a2", pod("z", "z", required("podAffinity", &[term(HOST, "z")])));
    put(&mut snapshot, "a1", pod("w", "w", required("podAffinity", &[term(HOST, "p")])));
    assert_eq!(liked(&snapshot, &plain("p", "p")), [2, 0, 100], "who must be near counts 1");
}

#[test]
fn what_changes_is_counted_as_if_it_had_been_there() {
    let mut snapshot = cluster();
    put(&mut snapshot, "a1", plain("x", "x"));
    let mut terms = required("podAffinity", &[term(ZONE, "x")]);
    terms["podAntiAffinity"] = required("podAntiAffinity", &[term(HOST, "y")])["podAntiAffinity"].clone();
    let new = pod("p", "p", terms);
    let mut counted = Neighbours::new(&new, &snapshot);
    let others =
        [plain("x", "x"), plain("y", "y"), pod("z", "z", required("podAntiAffinity", &[term(ZONE, "p")]))];
    let verdicts = |counted: &Neighbours, snapshot: &Snapshot| -> Vec<_> {
        snapshot.nodes().map(|info| counted.against(info).map(|against| against.reasons)).collect()
    };
    let before = verdicts(&counted, &snapshot);
    for (on, other) in [("b1", 0), ("a2", 1), ("b1", 2)].map(|(on, at)| (on, others.get(at).unwrap())) {
        let mut full = cluster();
        put(&mut full, "a1", plain("x", "x"));
        let mut uid = other.clone();
        uid.metadata.uid = "other".to_owned();
        put(&mut full, on, uid);
        let node = snapshot.node(on).unwrap();
        counted.change(&new, other, node, 1, &snapshot);
        assert_eq!(verdicts(&counted, &snapshot), verdicts(&Neighbours::new(&new, &full), &full), "{on}");
        counted.change(&new, other, node, -1, &snapshot);
        assert_eq!(verdicts(&counted, &snapshot), before);
    }
}
