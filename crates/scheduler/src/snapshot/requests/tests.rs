use super::*;

fn pod(spec: serde_json::Value, status: serde_json::Value) -> PodView {
    serde_json::from_value(serde_json::json!({"spec": spec, "status": status})).unwrap()
}

fn needed(pod: &PodView) -> (i64, i64) {
    let needed = requests(pod);
    (needed["cpu"], needed.get("memory").copied().unwrap_or_default())
}

#[test]
fn a_pod_needs_the_larger_of_its_containers_and_its_init_containers() {
    let pod = pod(
        serde_json::json!({
            "containers": [{"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "1"}}},
            ],
        }),
        serde_json::json!({}),
    );
    assert_eq!(needed(&pod), (1050, 1 << 30));
}

#[test]
fn what_a_pod_asks_for_as_a_whole_counts_instead() {
    let spec = serde_json::json!({
        "resources": {"requests": {"cpu": "2", "example.com/odd": "1"}}, "overhead": {"cpu": "10m"},
        "containers": [{"resources": {"requests": {"cpu": "100m", "memory": "1Gi"}}}],
    });
    let pod = pod(spec, serde_json::json!({}));
    assert_eq!(needed(&pod), (2010, 1 << 30));
    assert!(!requests(&pod).contains_key("example.com/odd"));
    assert_eq!(weight(&pod, &requests(&pod)), [2010, 1 << 30]);
    assert_eq!(weight_of_new(&pod, &requests(&pod)), [110, 1 << 30]);
}

#[test]
fn what_is_in_use_counts_until_a_resize_is_done() {
    let spec = serde_json::json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
    let status = |used: &str, reason: &str| {
        serde_json::json!({
            "conditions": [{"type": "PodResizePending", "status": "True", "reason": reason}],
            "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "200m"},
                "resources": {"requests": {"cpu": used}}}],
        })
    };
    assert_eq!(needed(&pod(spec.clone(), status("3", "Deferred"))), (3000, 0));
    assert_eq!(needed(&pod(spec.clone(), status("100m", "Deferred"))), (1000, 0));
    assert_eq!(needed(&pod(spec, status("100m", "Infeasible"))), (200, 0));
}

#[test]
fn who_asks_for_nothing_counts_as_a_little() {
    let spec = serde_json::json!({"containers": [{"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "0"}}}]});
    let pod = pod(spec, serde_json::json!({}));
    assert_eq!(weight(&pod, &requests(&pod)), [100, 400 << 20]);
}

#[test]
fn a_resize_that_cannot_be_leaves_out_what_the_node_does_not_promise() {
    let spec = serde_json::json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]});
    let status = serde_json::json!({
        "conditions": [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}],
        "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "200m"},
            "resources": {"requests": {"cpu": "100m"}}}],
    });
    let pod = pod(spec, status);
    assert_eq!(weight(&pod, &requests(&pod)), [200, 200 << 20]);
}
