use super::*;

fn deployment(image: &str, replicas: i32, strategy: serde_json::Value) -> Deployment {
    serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1},
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": strategy,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    }))
    .unwrap()
}

fn rolling(surge: serde_json::Value, unavailable: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

fn set(name: &str, image: &str, replicas: i32, available: i32, revision: i64) -> Arc<ReplicaSet> {
    let set = serde_json::json!({
        "metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": format!("2026-01-01T00:00:{revision:02}Z"),
                     "annotations": {REVISION: revision.to_string()}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web", HASH_LABEL: name}},
                              "spec": {"containers": [{"name": "c", "image": image}]}}},
        "status": {"replicas": replicas, "availableReplicas": available, "readyReplicas": available},
    });
    Arc::new(serde_json::from_value(set).unwrap())
}

fn scales(plan: &Plan) -> Vec<(&str, i32)> {
    plan.actions
        .iter()
        .filter_map(|action| match action {
            Action::Scale { name, to, .. } => Some((name.as_str(), *to)),
            _ => None,
        })
        .collect()
}

#[test]
fn percentages_round_as_upstream_says() {
    let d = deployment("a", 10, rolling("25%".into(), "25%".into()));
    assert_eq!(limits(&d), Limits { replicas: 10, surge: 3, unavailable: 2 });
    let d = deployment("a", 3, rolling(0.into(), "25%".into()));
    assert_eq!(limits(&d), Limits { replicas: 3, surge: 0, unavailable: 1 });
}

#[test]
fn the_first_replica_set_has_the_whole_size() {
    let d = deployment("a", 3, rolling("25%".into(), "25%".into()));
    let plan = plan(&d, &[], Timestamp::UNIX_EPOCH);
    assert!(matches!(&plan.actions[..], [Action::Create { replicas: 3, .. }]));
    assert_eq!(plan.revision.as_deref(), Some("1"));
}

#[test]
fn a_rolling_update_grows_before_it_shrinks() {
    let d = deployment("b", 4, rolling(1.into(), 0.into()));
    let first = plan(&d, &[set("old", "a", 4, 4, 1)], Timestamp::UNIX_EPOCH);
    assert!(matches!(&first.actions[..], [Action::Create { replicas: 1, .. }]));
    let second = plan(&d, &[set("old", "a", 4, 4, 1), set("new", "b", 1, 0, 2)], Timestamp::UNIX_EPOCH);
    assert_eq!(scales(&second), []);
    let third = plan(&d, &[set("old", "a", 4, 4, 1), set("new", "b", 1, 1, 2)], Timestamp::UNIX_EPOCH);
    assert_eq!(scales(&third), [("old", 3)]);
}

#[test]
fn unavailable_old_pods_go_first() {
    let d = deployment("b", 4, rolling(1.into(), 1.into()));
    let plan = plan(&d, &[set("old", "a", 4, 2, 1), set("new", "b", 1, 1, 2)], Timestamp::UNIX_EPOCH);
    assert_eq!(scales(&plan), [("old", 2)]);
}

#[test]
fn recreate_waits_for_the_old_pods_to_go() {
    let strategy = serde_json::json!({"type": "Recreate"});
    let d = deployment("b", 2, strategy);
    let first = plan(&d, &[set("old", "a", 2, 2, 1)], Timestamp::UNIX_EPOCH);
    assert_eq!(scales(&first), [("old", 0)]);
    assert!(!first.actions.iter().any(|action| matches!(action, Action::Create { .. })));
    let gone = plan(&d, &[set("old", "a", 0, 0, 1)], Timestamp::UNIX_EPOCH);
    assert!(matches!(&gone.actions[..], [Action::Create { replicas: 2, .. }]));
}

#[test]
fn a_rollback_gives_the_old_set_a_new_number() {
    let d = deployment("a", 2, rolling(1.into(), 0.into()));
    let plan = plan(&d, &[set("old", "a", 0, 0, 1), set("new", "b", 2, 2, 2)], Timestamp::UNIX_EPOCH);
    assert_eq!(plan.revision.as_deref(), Some("3"));
    assert_eq!(scales(&plan), [("old", 1)]);
}

#[test]
fn history_keeps_its_limit() {
    let mut d = deployment("c", 1, rolling(1.into(), 0.into()));
    d.spec.revision_history_limit = Some(1);
    let sets = [set("r1", "a", 0, 0, 1), set("r2", "b", 0, 0, 2), set("r3", "c", 1, 1, 3)];
    let deleted: Vec<_> = plan(&d, &sets, Timestamp::UNIX_EPOCH)
        .actions
        .into_iter()
        .filter(|action| matches!(action, Action::Delete { .. }))
        .collect();
    assert_eq!(deleted, [Action::Delete { name: "r1".to_owned() }]);
}

#[test]
fn a_rollout_that_stands_still_is_told() {
    let mut d = deployment("a", 1, rolling(1.into(), 0.into()));
    let start = Timestamp::UNIX_EPOCH;
    d.status = Some(plan(&d, &[set("r1", "a", 1, 0, 1)], start).status);
    let late = start + std::time::Duration::from_secs(601);
    let plan = plan(&d, &[set("r1", "a", 1, 0, 1)], late);
    let conditions = plan.status.conditions.unwrap();
    let progressing =
        conditions.iter().find(|condition| condition.type_.as_deref() == Some("Progressing")).unwrap();
    assert_eq!(progressing.reason.as_deref(), Some("ProgressDeadlineExceeded"));
}
