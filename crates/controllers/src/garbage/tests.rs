use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::graph::{Graph, Kind};
use super::*;
use crate::view::AnyView;

/// An object of the kind `Thing`; owners are `UID` or, if they block, `UID!`.
fn item(uid: &str, owners: &[&str], finalizers: &[&str], deleting: bool) -> Item {
    let owners: Vec<_> = owners
        .iter()
        .map(|owner| {
            let uid = owner.trim_end_matches('!');
            serde_json::json!({"apiVersion": "g/v1", "kind": "Thing", "name": uid, "uid": uid,
                "blockOwnerDeletion": owner.ends_with('!')})
        })
        .collect();
    let mut metadata = serde_json::json!({"name": uid, "namespace": "n", "uid": uid,
        "ownerReferences": owners, "finalizers": finalizers});
    if deleting {
        metadata["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    }
    let view: AnyView = serde_json::from_value(serde_json::json!({"metadata": metadata})).unwrap();
    let kind = Kind {
        group: "g".into(),
        version: "v1".into(),
        kind: "Thing".into(),
        plural: "things".into(),
        namespaced: true,
    };
    Item { kind: Arc::new(kind), view: Arc::new(view) }
}

fn set(uids: &[&str]) -> BTreeSet<String> {
    uids.iter().map(|&uid| uid.to_owned()).collect()
}

#[test]
fn questions() {
    let rows = [
        (item("a", &[], &[], false), Question::Nothing),
        (item("a", &["o"], &[], false), Question::Owned),
        (item("a", &["o"], &[], true), Question::Nothing),
        (item("a", &[], &["foregroundDeletion"], false), Question::Nothing),
        (item("a", &[], &["foregroundDeletion"], true), Question::Foreground),
        (item("a", &["o"], &["orphan"], true), Question::Orphan),
    ];
    for (item, expected) in rows {
        assert_eq!(question(&item), expected, "{item:?}");
    }
}

#[test]
fn verdicts() {
    use Owner::{Dangling, Solid, Waiting};
    let delete = |policy| Verdict::Delete { policy, unblock: false };
    let child = || vec![item("c", &["a"], &[], false)];
    let rows = [
        (vec![Solid, Solid], vec![], vec![], Verdict::Keep),
        (vec![Dangling, Dangling], vec![], vec![], delete("Background")),
        (vec![Dangling, Dangling], vec!["foregroundDeletion"], vec![], delete("Foreground")),
        (vec![Dangling, Dangling], vec!["orphan"], child(), delete("Orphan")),
        (vec![Waiting, Dangling], vec![], vec![], delete("Background")),
        (vec![Waiting, Dangling], vec![], child(), delete("Foreground")),
        (
            vec![Waiting, Waiting],
            vec![],
            vec![item("c", &["a"], &["foregroundDeletion"], true)],
            Verdict::Delete { policy: "Foreground", unblock: true },
        ),
    ];
    for (owners, finalizers, dependents, expected) in rows {
        let item = item("a", &["o", "p"], &finalizers, false);
        assert_eq!(judge(&item, &owners, &dependents), expected, "{owners:?} {finalizers:?}");
    }
    for gone in [Dangling, Waiting] {
        let item = item("a", &["o", "p"], &[], false);
        let left = vec![item.meta().owner_references[1].clone()];
        assert_eq!(judge(&item, &[gone, Solid], &[]), Verdict::Release(left));
    }
}

#[test]
fn only_blocking_dependents_hold_up_their_owner() {
    assert!(!is_blocked("o", &[item("a", &["o"], &[], false), item("b", &["o", "p!"], &[], false)]));
    assert!(is_blocked("o", &[item("a", &["o"], &[], false), item("b", &["o!"], &[], true)]));
}

#[test]
fn the_graph_wakes_dependents_of_what_goes_and_owners_that_wait() {
    let mut graph = Graph::default();
    assert_eq!(graph.set(item("o", &[], &[], false)), set(&[]));
    assert_eq!(graph.set(item("a", &["o"], &[], false)), set(&["a"]));
    assert_eq!(graph.set(item("o", &[], &["foregroundDeletion"], true)), set(&["o"]));
    assert_eq!(graph.set(item("b", &["o"], &[], false)), set(&["b", "o"]));
    assert_eq!(graph.set(item("b", &[], &[], false)), set(&["o"]));
    assert_eq!(graph.dependents("o").len(), 1);
    assert_eq!(graph.remove("o"), set(&["a"]));
    assert_eq!(graph.remove("a"), set(&[]));
    assert!(graph.dependents("o").is_empty());
}

#[test]
fn an_owner_in_another_namespace_or_of_another_name_is_not_meant() {
    let (owner, child) = (item("o", &[], &[], false), item("a", &["o"], &[], false));
    let reference = &child.meta().owner_references[0];
    assert!(owner.is_meant(reference, &child));
    let renamed = OwnerReference { name: "x".into(), ..reference.clone() };
    assert!(!owner.is_meant(&renamed, &child));
    let mut away = (*child.view).clone();
    away.metadata.namespace = "elsewhere".into();
    assert!(!owner.is_meant(reference, &Item { view: Arc::new(away), ..child.clone() }));
}
