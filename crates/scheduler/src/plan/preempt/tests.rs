use super::*;
use crate::plan::place;
use crate::snapshot::NodeInfo;

fn node(name: &str, cpu: &str) -> serde_json::Value {
    serde_json::json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
    })
}

fn cluster(nodes: &[serde_json::Value]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for node in nodes {
        snapshot.set_node(Arc::new(serde_json::from_value(node.clone()).unwrap()));
    }
    snapshot
}

/// A pod named by its UID, of a priority, that asks for processors; `more` is merged into its specification.
fn pod(uid: &str, priority: i64, cpu: &str, more: serde_json::Value) -> PodView {
    let mut spec = serde_json::json!({
        "priority": priority, "containers": [{"resources": {"requests": {"cpu": cpu}}}],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let meta = serde_json::json!({"name": uid, "namespace": "n", "uid": uid, "labels": {"app": uid}});
    serde_json::from_value(serde_json::json!({"metadata": meta, "spec": spec})).unwrap()
}

fn none() -> serde_json::Value {
    serde_json::json!({})
}

fn put(snapshot: &mut Snapshot, on: &str, (uid, priority, cpu): (&str, i64, &str)) {
    let mut pod = pod(uid, priority, cpu, serde_json::json!({"nodeName": on}));
    // The greater its number, the younger it is.
    let minute: u32 = uid.trim_start_matches(char::is_alphabetic).parse().unwrap_or_default();
    pod.status.start_time = Some(format!("2026-01-01T00:{minute:02}:00Z"));
    snapshot.set_pod(Arc::new(pod));
}

fn asked(snapshot: &Snapshot, pod: &PodView, budgets: &[Arc<BudgetView>]) -> Preemption {
    let placement = place(snapshot, pod, Wants::default(), 0);
    search(snapshot, pod, Wants::default(), (&placement.crowded, budgets), 0)
}

/// The node and who has to leave it.
fn way(preemption: Preemption) -> (String, Vec<String>) {
    match preemption {
        Preemption::Victims { node, victims } => {
            (node, victims.iter().map(|pod| pod.metadata.uid.clone()).collect())
        }
        Preemption::Nobody { why, .. } => panic!("{why}"),
    }
}

fn who(node: &str, victims: &[&str]) -> (String, Vec<String>) {
    (node.to_owned(), victims.iter().map(|victim| (*victim).to_owned()).collect())
}

#[test]
fn nobody_makes_way_and_why() {
    let mut tainted = node("b", "4");
    tainted["spec"] = serde_json::json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
    let mut snapshot = cluster(&[node("a", "2"), tainted, node("c", "2")]);
    put(&mut snapshot, "a", ("equal1", 5, "2"));
    put(&mut snapshot, "c", ("more1", 9, "1500m"));
    put(&mut snapshot, "c", ("less1", 1, "100m"));
    let shown = |snapshot: &Snapshot, pod: &PodView| asked(snapshot, pod, &[]).shown().to_owned();
    assert_eq!(
        shown(&snapshot, &pod("p", 5, "1", none())),
        "preemption: 0/3 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod, 1 \
         Preemption is not helpful for scheduling."
    );
    // Nobody can make room that is not there.
    assert_eq!(
        shown(&snapshot, &pod("p", 5, "3", none())),
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    let never = pod("p", 10, "1", serde_json::json!({"preemptionPolicy": "Never"}));
    assert_eq!(shown(&snapshot, &never), "preemption: not eligible due to preemptionPolicy=Never.");
}

#[test]
fn as_few_as_possible_leave_and_the_rest_is_as_it_was() {
    let mut snapshot = cluster(&[node("a", "4")]);
    for (uid, priority) in [("x1", 1), ("x2", 2), ("x3", 1), ("x4", 3)] {
        put(&mut snapshot, "a", (uid, priority, "1"));
    }
    let before = snapshot.node("a").cloned().unwrap();
    // The youngest of the least important ones goes first.
    assert_eq!(way(asked(&snapshot, &pod("p", 5, "1", none()), &[])), who("a", &["x3"]));
    assert_eq!(way(asked(&snapshot, &pod("p", 5, "3", none()), &[])), who("a", &["x2", "x1", "x3"]));
    let after = snapshot.node("a").unwrap();
    let uids = |info: &NodeInfo| info.pods.keys().cloned().collect::<std::collections::BTreeSet<_>>();
    assert_eq!((&after.used, uids(after)), (&before.used, uids(&before)));
}

#[test]
fn it_is_done_where_least_is_lost() {
    let choose = |pods: &[(&str, (&str, i64, &str))], budgets: &[Arc<BudgetView>]| {
        let mut snapshot = cluster(&[node("a", "2"), node("b", "2")]);
        pods.iter().for_each(|(on, pod)| put(&mut snapshot, on, *pod));
        way(asked(&snapshot, &pod("p", 9, "2", none()), budgets)).0
    };
    assert_eq!(choose(&[("a", ("x1", 3, "2")), ("b", ("y1", 2, "2"))], &[]), "b", "who matters less");
    let two = [("a", ("x1", 2, "1")), ("a", ("x2", 2, "1")), ("b", ("y1", 2, "2"))];
    assert_eq!(choose(&two, &[]), "b", "fewer");
    assert_eq!(choose(&[("a", ("x1", 2, "2")), ("b", ("y2", 2, "2"))], &[]), "b", "the younger");
    let budget = serde_json::json!({"metadata": {"name": "y", "namespace": "n"},
        "spec": {"selector": {"matchLabels": {"app": "y1"}}}, "status": {"disruptionsAllowed": 0}});
    let budget = [Arc::new(serde_json::from_value(budget).unwrap())];
    assert_eq!(choose(&[("a", ("x1", 3, "2")), ("b", ("y1", 2, "2"))], &budget), "a", "who is not protected");
}

#[test]
fn who_waits_for_those_that_make_way_tells_nobody_else_to() {
    let mut snapshot = cluster(&[node("a", "2"), node("b", "2")]);
    put(&mut snapshot, "b", ("y1", 1, "2"));
    let mut going = pod("x1", 1, "2", serde_json::json!({"nodeName": "a"}));
    going.metadata.deletion_timestamp = Some("2026-01-01T00:00:00Z".to_owned());
    going.status.conditions = serde_json::from_value(serde_json::json!([
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]))
    .unwrap();
    snapshot.set_pod(Arc::new(going));
    let mut waiting = pod("p", 5, "2", none());
    waiting.status.nominated_node_name = "a".to_owned();
    let told = asked(&snapshot, &waiting, &[]).shown().to_owned();
    assert_eq!(told, "preemption: not eligible due to a terminating pod on the nominated node.");
}

#[test]
fn what_was_freed_for_one_pod_is_not_taken_by_a_lesser_one() {
    let mut snapshot = cluster(&[node("a", "2")]);
    let mut waiting = pod("p", 5, "2", none());
    waiting.status.nominated_node_name = "a".to_owned();
    snapshot.nominate(Arc::new(waiting.clone()));
    let node_of = |snapshot: &Snapshot, pod: &PodView| {
        let decision = place(snapshot, pod, Wants::default(), 0).decision;
        matches!(decision, crate::plan::Decision::Node(_))
    };
    assert!(!node_of(&snapshot, &pod("q", 5, "1", none())), "an equal one came later");
    assert!(node_of(&snapshot, &pod("q", 6, "1", none())), "a greater one takes it");
    assert!(node_of(&snapshot, &waiting), "its own");
    snapshot.renounce("p");
    assert!(node_of(&snapshot, &pod("q", 1, "1", none())));
}
