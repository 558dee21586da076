//! Budgets: what they allow, and what evictions make of them.

use serde_json::{Value, json};
use testkit::http::{Answer, Call};
use testkit::nodes::SimulatedNode;
use testkit::{Cluster, Options, until};

use super::{PODS, account, pod};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
const EVENTS: &str = "/api/v1/namespaces/default/events";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn budgets_tell_how_many_pods_may_go() {
    let cluster = Cluster::with(Options { controllers: true, ..Options::default() }).await;
    let client = cluster.admin();
    account(&client, "default").await;
    let _node = SimulatedNode::join(&client, "n", cluster.clock().now()).await;
    counted(&client).await;
    owned(&client).await;
    unmanaged(&client).await;
    stale(&cluster, &client).await;
}

/// A pod that runs and is well.
async fn well(client: &kube::Client, name: &str, app: &str, owner: Option<&Value>) {
    let mut made = pod(name, json!({"nodeName": "n"}));
    made["metadata"]["labels"] = json!({"app": app});
    if let Some(owner) = owner {
        made["metadata"]["ownerReferences"] = json!([owner]);
    }
    let _ = Call::post(PODS, &made).send(client).await.expect(201);
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let _ = Call::patch(format!("{PODS}/{name}/status"), &status).send(client).await.expect(200);
}

async fn budget(client: &kube::Client, name: &str, mut spec: Value) {
    spec["selector"] = json!({"matchLabels": {"app": name}});
    let budget = json!({"metadata": {"name": name}, "spec": spec});
    let _ = Call::post(BUDGETS, &budget).send(client).await.expect(201);
}

async fn evict(client: &kube::Client, name: &str) -> Answer {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}});
    Call::post(format!("{PODS}/{name}/eviction"), &eviction).send(client).await
}

/// Waits until a budget says so: healthy, desired, expected, allowed, and the reason.
async fn becomes(client: &kube::Client, name: &str, counts: [i64; 4], reason: &str) {
    let path = format!("{BUDGETS}/{name}");
    until("the budget's status", || async {
        let budget = Call::get(&path).send(client).await.expect(200).json();
        let status = &budget["status"];
        let told = ["currentHealthy", "desiredHealthy", "expectedPods", "disruptionsAllowed"];
        let is_so = told.map(|field| status[field].as_i64().unwrap_or(-1)) == counts
            && status["conditions"][0]["reason"] == reason
            && status["observedGeneration"] == budget["metadata"]["generation"];
        is_so.then_some(())
    })
    .await
}

async fn told(client: &kube::Client, reason: &str, of: &str) -> String {
    until("an event", || async {
        let events = Call::get(EVENTS).send(client).await.expect(200).json();
        let found = events["items"]
            .as_array()?
            .iter()
            .find(|event| event["reason"] == reason && event["involvedObject"]["name"] == of)?;
        Some(found["message"].as_str()?.to_owned())
    })
    .await
}

async fn gone(client: &kube::Client, pods: &[&str]) {
    for name in pods {
        let path = format!("{PODS}/{name}?gracePeriodSeconds=0");
        let _ = Call::delete(path).send(client).await.expect(200);
    }
}

/// A number that must be well: the pods themselves are counted.
async fn counted(client: &kube::Client) {
    budget(client, "a", json!({"minAvailable": 2})).await;
    assert_eq!(told(client, "NoPods", "a").await, "No matching pods found");
    becomes(client, "a", [0, 2, 0, 0], "InsufficientPods").await;
    for name in ["a-0", "a-1", "a-2"] {
        well(client, name, "a", None).await;
    }
    becomes(client, "a", [3, 2, 3, 1], "SufficientPods").await;
    let _ = evict(client, "a-0").await.expect(201);
    // It is being deleted: its node, which is none, never says that it has ended.
    becomes(client, "a", [2, 2, 3, 0], "InsufficientPods").await;
    until("nobody to wait for what is seen going", || async {
        let budget = Call::get(format!("{BUDGETS}/a")).send(client).await.expect(200).json();
        budget["status"].get("disruptedPods").is_none().then_some(())
    })
    .await;
    let refused = evict(client, "a-1").await.expect(429).json();
    assert_eq!(
        (&refused["message"], &refused["details"]["causes"][0]["message"]),
        (
            &json!("Cannot evict pod as it would violate the pod's disruption budget."),
            &json!("The disruption budget a needs 2 healthy pods and has 2 currently")
        )
    );
    let fewer = json!({"spec": {"minAvailable": 1}});
    let _ = Call::patch(format!("{BUDGETS}/a"), &fewer).send(client).await.expect(200);
    becomes(client, "a", [2, 1, 3, 1], "SufficientPods").await;
    let _ = evict(client, "a-1").await.expect(201);
    becomes(client, "a", [1, 1, 3, 0], "InsufficientPods").await;
    gone(client, &["a-0", "a-1", "a-2"]).await;
    becomes(client, "a", [0, 1, 0, 0], "InsufficientPods").await;
}

/// A number that may be missing: owners say how many there should be.
async fn owned(client: &kube::Client) {
    let set = json!({"metadata": {"name": "b"}, "spec": {"replicas": 4, "serviceName": "b",
        "selector": {"matchLabels": {"app": "b"}},
        "template": {"metadata": {"labels": {"app": "b"}},
            "spec": {"containers": [{"name": "c", "image": "registry.example/i:1"}]}}}});
    let set = Call::post(SETS, &set).send(client).await.expect(201).json();
    let owner = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "b",
        "uid": set["metadata"]["uid"], "controller": true});
    budget(client, "b", json!({"maxUnavailable": "50%"})).await;
    for name in ["b-0", "b-1", "b-2"] {
        well(client, name, "b", Some(&owner)).await;
    }
    becomes(client, "b", [3, 2, 4, 1], "SufficientPods").await;

    // An owner that is of no kind that can be scaled.
    let map = Call::post("/api/v1/namespaces/default/configmaps", &json!({"metadata": {"name": "c"}}));
    let map = map.send(client).await.expect(201).json();
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": map["metadata"]["uid"],
        "controller": true});
    budget(client, "c", json!({"maxUnavailable": 1})).await;
    well(client, "c-0", "c", Some(&owner)).await;
    let why = "configmaps does not implement the scale subresource";
    let path = format!("{BUDGETS}/c");
    until("the budget to fail", || async {
        let condition = &Call::get(&path).send(client).await.expect(200).json()["status"]["conditions"][0];
        (condition["reason"] == "SyncFailed" && condition["message"] == why).then_some(())
    })
    .await;
    let message = told(client, "CalculateExpectedPodCountFailed", "c").await;
    assert_eq!(message, format!("Failed to calculate the number of expected pods: {why}"));
    let refused = evict(client, "c-0").await.expect(429).json();
    let cause = format!(
        "The disruption budget c does not allow evicting pods currently because it failed sync: {why}"
    );
    assert_eq!(refused["details"]["causes"][0]["message"], cause.as_str());
}

/// Pods that nobody made, and one with two budgets.
async fn unmanaged(client: &kube::Client) {
    budget(client, "d", json!({"maxUnavailable": 1})).await;
    well(client, "d-0", "d", None).await;
    let message = told(client, "UnmanagedPods", "d").await;
    assert!(message.contains("MatchLabels:map[string]string{app: d,}"), "{message}");
    becomes(client, "d", [1, 0, 0, 0], "InsufficientPods").await;
    let all = json!({"metadata": {"name": "all"}, "spec": {"minAvailable": 0, "selector": {}}});
    let _ = Call::post(BUDGETS, &all).send(client).await.expect(201);
    becomes(client, "all", [5, 0, 5, 5], "SufficientPods").await;
    // It is told of when the pod changes.
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let _ = Call::patch(format!("{PODS}/d-0/status"), &unready).send(client).await.expect(200);
    let message = told(client, "MultiplePodDisruptionBudgets", "d-0").await;
    assert!(
        message.starts_with("Pod \"default\"/\"d-0\" matches multiple PodDisruptionBudgets.  Chose"),
        "{message}"
    );
    let refused = evict(client, "d-0").await.expect(500).message();
    assert_eq!(
        refused,
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
    let _ = Call::delete(format!("{BUDGETS}/all")).send(client).await.expect(200);
}

/// Who was said to be going and did not go is not any more.
async fn stale(cluster: &Cluster, client: &kube::Client) {
    well(client, "e-0", "e", None).await;
    let long_ago = cluster.clock().now() - jiff::SignedDuration::from_secs(121);
    let long_ago = long_ago.round(jiff::Unit::Second).unwrap().to_string();
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastTransitionTime": long_ago});
    let path = format!("{PODS}/e-0/status");
    let status = json!({"status": {"conditions": [condition]}});
    let _ = Call::patch(&path, &status).send(client).await.expect(200);
    let told = until("the condition to be taken back", || async {
        let pod = Call::get(format!("{PODS}/e-0")).send(client).await.expect(200).json();
        let conditions = pod["status"]["conditions"].as_array()?.clone();
        conditions.into_iter().find(|one| one["type"] == "DisruptionTarget" && one["status"] == "False")
    })
    .await;
    assert_eq!((&told["reason"], &told["message"]), (&Value::Null, &Value::Null));
}
