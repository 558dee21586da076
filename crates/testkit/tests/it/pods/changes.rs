use serde_json::{Value, json};
use testkit::Cluster;
use testkit::http::{Answer, Call};
use testkit::nodes::SimulatedNode;

use super::{PODS, account, pod};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_bound_grown_and_otherwise_left_alone() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    account(client, "default").await;
    let _ = SimulatedNode::join(client, "n", cluster.clock().now()).await;
    let _ = Call::post(PODS, &pod("a", json!({"schedulerName": "nobody"}))).send(client).await.expect(201);
    let one = format!("{PODS}/a");
    let binding = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n"}});
    let bound = Call::post(format!("{one}/binding"), &binding);
    let _ = bound.send(client).await.expect(201);
    let again = bound.send(client).await.expect(409).message();
    assert!(again.contains("pod a is already assigned to node \"n\""), "{again}");
    let _ = Call::post(PODS, &pod("b", json!({"schedulerName": "nobody"}))).send(client).await.expect(201);
    let named = |name: &str| {
        let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n"}});
        Call::post("/api/v1/namespaces/default/bindings", &binding)
    };
    let done = named("b").send(client).await.expect(201).json();
    assert_eq!((&done["kind"], &done["status"]), (&json!("Status"), &json!("Success")));
    let bound = Call::get(format!("{PODS}/b")).send(client).await.expect(200).json();
    assert_eq!(bound["spec"]["nodeName"], "n");
    let missing = named("c").send(client).await.expect(404).message();
    assert_eq!(missing, "pods \"c\" not found");
    let _ = named("").send(client).await.expect(400);
    let wrong = named("a/b").send(client).await.expect(400).message();
    assert_eq!(wrong, "Name parameter invalid: \"a/b\": may not contain '/'");

    let renamed = json!({"spec": {"terminationGracePeriodSeconds": 5}});
    let refused = Call::patch(&one, &renamed).send(client).await.expect(422).message();
    let why = "Pod \"a\" is invalid: spec: Forbidden: pod updates may not change fields other than \
               `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
               `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
               (allow it to be set to 1 if it was previously negative)\n";
    assert!(refused.starts_with(why), "{refused}");
    assert!(
        refused.contains("- \"TerminationGracePeriodSeconds\": 30,\n+ \"TerminationGracePeriodSeconds\": 5,"),
        "{refused}"
    );

    let size = |amount: &str| json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]}});
    let strategic = "application/strategic-merge-patch+json";
    let resize = |amount: &str| {
        Call::patch(format!("{one}/resize"), &json!({})).body(strategic, size(amount).to_string())
    };
    let refused = resize("1").send(client).await.expect(422).message();
    assert!(refused.contains("Pod QOS Class may not change as a result of resizing"), "{refused}");

    let sized = json!([{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m"}}}]);
    let _ = Call::delete(format!("{one}?gracePeriodSeconds=0")).send(client).await.expect(200);
    let asked = pod("a", json!({"nodeName": "n", "containers": sized}));
    let _ = Call::post(PODS, &asked).send(client).await.expect(201);
    let grown = resize("2").send(client).await.expect(200).json();
    assert_eq!(grown["spec"]["containers"][0]["resources"]["requests"], json!({"cpu": "2"}));
    assert_eq!(grown["metadata"]["generation"], 2);
    let whole = json!({"spec": {"resources": {"requests": {"cpu": "3"}}}});
    let whole = Call::patch(format!("{one}/resize"), &whole).body(strategic, whole.to_string());
    let refused = whole.send(client).await.expect(403).message();
    let why = "pods \"a\" is forbidden: pod update requires features InPlacePodLevelResourcesVerticalScaling which \
               are not available on node \"n\"";
    assert_eq!(refused, why);
    let refused = resize("9").send(client).await.expect(403).json();
    let why = "pods \"a\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 9000, \
               allocatable: 8000";
    assert_eq!(
        (&refused["message"], &refused["details"]["causes"]),
        (&json!(why), &json!([{"reason": "NodeCapacity"}]))
    );
}

async fn evict(client: &kube::Client, name: &str) -> Answer {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    Call::post(format!("{PODS}/{name}/eviction"), &eviction).send(client).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_keeps_its_pods_from_eviction() {
    let cluster = Cluster::start().await;
    let client = &cluster.admin();
    account(client, "default").await;
    let mut asked = pod("a", json!({"nodeName": "n"}));
    asked["metadata"]["labels"] = json!({"app": "a"});
    let _ = Call::post(PODS, &asked).send(client).await.expect(201);
    let running =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    let _ = Call::patch(format!("{PODS}/a/status"), &running).send(client).await.expect(200);
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    let _ = Call::post(budgets, &budget).send(client).await.expect(201);
    let status = json!({"status": {"observedGeneration": 1, "currentHealthy": 1, "desiredHealthy": 1,
        "disruptionsAllowed": 0, "expectedPods": 1}});
    let _ = Call::patch(format!("{budgets}/b/status"), &status).send(client).await.expect(200);
    let refused = evict(client, "a").await.expect(429);
    assert_eq!(refused.message(), "Cannot evict pod as it would violate the pod's disruption budget.");
    let cause = json!({"reason": "DisruptionBudget",
        "message": "The disruption budget b needs 1 healthy pods and has 1 currently"});
    assert_eq!(refused.json()["details"]["causes"], json!([cause]));

    let status = json!({"status": {"disruptionsAllowed": 1, "currentHealthy": 2}});
    let _ = Call::patch(format!("{budgets}/b/status"), &status).send(client).await.expect(200);
    let _ = evict(client, "a").await.expect(201);
    let budget = Call::get(format!("{budgets}/b")).send(client).await.expect(200).json();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    let left = Call::get(format!("{PODS}/a")).send(client).await.expect(200).json();
    let conditions = left["status"]["conditions"].as_array().unwrap();
    let told = conditions.iter().find(|condition| condition["type"] == "DisruptionTarget").unwrap();
    let reason: Value = "EvictionByEvictionAPI".into();
    assert_eq!((&told["status"], &told["reason"]), (&json!("True"), &reason));
    assert!(left["metadata"]["deletionTimestamp"].is_string());
}
