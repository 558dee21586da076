use std::sync::Arc;

use super::*;
use crate::plan::{Decision, Wants, decide, place};

const ZONE: &str = "topology.kubernetes.io/zone";

/// Nodes of which the first letter is the zone; one without a zone begins with a capital.
fn cluster(names: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for name in names {
        let mut labels = serde_json::json!({HOSTNAME: name});
        if name.starts_with(char::is_lowercase) {
            labels[ZONE] = name.get(..1).unwrap().into();
        }
        let node = serde_json::json!({
            "metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "110"}},
        });
        snapshot.set_node(Arc::new(serde_json::from_value(node).unwrap()));
    }
    snapshot
}

fn pod(uid: &str, rules: serde_json::Value) -> PodView {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": uid, "namespace": "n", "uid": uid, "labels": {"app": "x", "version": "1"}},
        "spec": {"topologySpreadConstraints": rules, "containers": [{}]},
    }))
    .unwrap()
}

fn rule(key: &str, skew: i32, when: &str, more: serde_json::Value) -> serde_json::Value {
    let mut rule = serde_json::json!({"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": when,
        "labelSelector": {"matchLabels": {"app": "x"}}});
    for (key, value) in more.as_object().unwrap() {
        rule[key] = value.clone();
    }
    serde_json::json!([rule])
}

fn hard(more: serde_json::Value) -> PodView {
    pod("p", rule(ZONE, 1, "DoNotSchedule", more))
}

fn put(snapshot: &mut Snapshot, on: &[&str]) {
    for name in on {
        let mut pod = pod(&format!("{name}-{}", snapshot.kin().users(0)), serde_json::json!([]));
        pod.spec.node_name = (*name).to_owned();
        snapshot.set_pod(Arc::new(pod));
    }
}

fn said(snapshot: &Snapshot, pod: &PodView) -> String {
    match decide(snapshot, pod, 0) {
        Decision::Node(node) => node,
        Decision::Unschedulable(why, _) | Decision::Failed(why) => why,
    }
}

fn scored(snapshot: &Snapshot, pod: &PodView, alike: Option<&Alike>) -> Option<Vec<i64>> {
    scores(pod, alike, &snapshot.nodes().collect::<Vec<_>>(), snapshot)
}

#[test]
fn the_fewest_are_counted_over_domains() {
    let mut snapshot = cluster(&["a1", "a2", "b1", "C1"]);
    put(&mut snapshot, &["a1", "a1", "b1"]);
    assert_eq!(said(&snapshot, &hard(serde_json::json!({}))), "b1");
    put(&mut snapshot, &["b1"]);
    assert!(!said(&snapshot, &hard(serde_json::json!({}))).starts_with('0'));
    let why = "0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required \
               label), 3 node(s) didn't match pod topology spread constraints.";
    assert_eq!(said(&snapshot, &hard(serde_json::json!({"minDomains": 3}))), why);
    let version = serde_json::json!({"matchLabelKeys": ["version"], "minDomains": 3});
    let mut newer = hard(version);
    newer.metadata.labels.insert("version".to_owned(), "2".to_owned());
    assert!(!said(&snapshot, &newer).starts_with('0'), "no pod of this version is there");
}

#[test]
fn nodes_count_or_not_by_policy() {
    let mut snapshot = cluster(&["a1", "b1"]);
    put(&mut snapshot, &["a1"]);
    let mut tainted = (**snapshot.node("b1").unwrap().node.as_ref().unwrap()).clone();
    tainted.spec.taints =
        serde_json::from_value(serde_json::json!([{"key": "k", "effect": "NoSchedule"}])).unwrap();
    snapshot.set_node(Arc::new(tainted));
    assert!(said(&snapshot, &hard(serde_json::json!({}))).starts_with('0'), "nobody is in b");
    assert_eq!(said(&snapshot, &hard(serde_json::json!({"nodeTaintsPolicy": "Honor"}))), "a1");
    let mut chosen = hard(serde_json::json!({}));
    chosen.spec.node_selector.insert(HOSTNAME.to_owned(), "a1".to_owned());
    assert_eq!(said(&snapshot, &chosen), "a1", "b is not asked for");
    let mut chosen = hard(serde_json::json!({"nodeAffinityPolicy": "Ignore"}));
    chosen.spec.node_selector.insert(HOSTNAME.to_owned(), "a1".to_owned());
    assert!(said(&snapshot, &chosen).starts_with('0'), "b counts all the same");
}

#[test]
fn those_that_end_do_not_count() {
    let mut snapshot = cluster(&["a1", "b1"]);
    let mut ending = pod("e", serde_json::json!([]));
    ending.spec.node_name = "a1".to_owned();
    ending.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".to_owned());
    snapshot.set_pod(Arc::new(ending));
    put(&mut snapshot, &["b1"]);
    assert_eq!(said(&snapshot, &hard(serde_json::json!({}))), "a1");
}

#[test]
fn soft_rules_weigh_domains() {
    let mut snapshot = cluster(&["a1", "a2", "b1", "C1"]);
    put(&mut snapshot, &["a1", "a2", "a2"]);
    let soft = pod("p", rule(ZONE, 1, "ScheduleAnyway", serde_json::json!({})));
    // 3 × ln 4 = 4.16 in zone a, nothing in b; a node without a zone is worth nothing.
    assert_eq!(scored(&snapshot, &soft, None), Some(vec![0, 0, 100, 0]));
    let soft = pod("p", rule(HOSTNAME, 1, "ScheduleAnyway", serde_json::json!({})));
    // 1 × ln 6 = 1.79 and 2 × ln 6 = 3.58.
    assert_eq!(scored(&snapshot, &soft, None), Some(vec![50, 0, 100, 100]));
    assert_eq!(scored(&snapshot, &hard(serde_json::json!({})), None), None);
}

#[test]
fn pods_of_a_service_spread_by_default() {
    let mut snapshot = cluster(&["a1", "b1", "C1"]);
    put(&mut snapshot, &["a1", "a1"]);
    let plain = pod("p", serde_json::json!([]));
    assert_eq!(scored(&snapshot, &plain, None), None);
    assert_eq!(scored(&snapshot, &plain, Some(&Alike::default())), None);
    let alike = Alike { labels: [("app".to_owned(), "x".to_owned())].into(), selector: None };
    // a1: 2 ln 5 + 2 + 2 ln 5 + 4 = 12.4; b1: 6; C1, which has no zone: 2.
    assert_eq!(scored(&snapshot, &plain, Some(&alike)), Some(vec![16, 66, 100]));
    let mut chosen = cluster(&["a1", "b1"]);
    put(&mut chosen, &["a1"]);
    let wants = Wants { alike: Some(&alike), ..Wants::default() };
    assert_eq!(place(&chosen, &plain, wants, 0).decision, Decision::Node("b1".to_owned()));
}

#[test]
fn what_changes_is_counted_as_if_it_had_been_there() {
    let mut snapshot = cluster(&["a1", "a2", "b1"]);
    put(&mut snapshot, &["a1", "b1"]);
    let new = hard(serde_json::json!({}));
    let mut counted = Hard::new(&new, &snapshot);
    let other = pod("other", serde_json::json!([]));
    let verdicts = |counted: &Hard<'_>, snapshot: &Snapshot| -> Vec<bool> {
        snapshot.nodes().map(|info| counted.against(info).is_none()).collect()
    };
    assert_eq!(verdicts(&counted, &snapshot), [true, true, true]);
    counted.change(&other, snapshot.node("a2").unwrap(), 1);
    assert_eq!(verdicts(&counted, &snapshot), [false, false, true]);
    counted.change(&other, snapshot.node("a2").unwrap(), -1);
    counted.change(&other, snapshot.node("b1").unwrap(), -1);
    assert_eq!(verdicts(&counted, &snapshot), [false, false, true]);
}
