//! Pods that nobody else deletes.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::Call;
use testkit::nodes::SimulatedNode;
use testkit::{Cluster, Options, ShiftedClock, Watch, until};

use super::{PODS, account, pod};

async fn made(client: &kube::Client, name: &str, node: &str) {
    let pod = pod(name, json!({"nodeName": node}));
    let _ = Call::post(PODS, &pod).send(client).await.expect(201);
}

async fn names(client: &kube::Client) -> Vec<String> {
    let pods = Call::get(PODS).send(client).await.expect(200).json();
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    pods["items"].as_array().unwrap().iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_nobody_deletes_go() {
    let clock = ShiftedClock::shared();
    let options =
        Options { clock: clock.clone(), controllers: true, terminated_pods: 2, ..Options::default() };
    let cluster = Cluster::with(options).await;
    let client = cluster.admin();
    account(&client, "default").await;
    orphans(&cluster, &client, &clock).await;
    out_of_service(&cluster, &client).await;
    without_a_node(&client).await;
    too_many(&client).await;
}

/// A node that is deleted takes its pods with it, but not before it has been missing for a while.
async fn orphans(cluster: &Cluster, client: &kube::Client, clock: &ShiftedClock) {
    let _node = SimulatedNode::join(client, "short", cluster.clock().now()).await;
    made(client, "stays", "short").await;
    let start = Call::get(PODS).send(client).await.expect(200).revision();
    let mut watch = Watch::open(client, &format!("{PODS}?watch=1&resourceVersion={start}")).await;
    let _ = Call::delete("/api/v1/nodes/short").send(client).await.expect(200);
    // Somebody who comes to a node that is not there waits as long; it also shows that the controller has looked.
    made(client, "comes", "never").await;
    clock.advance(Duration::from_secs(39));
    made(client, "looks", "short").await;
    assert_eq!(names(client).await, ["comes", "looks", "stays"]);
    // What comes to a node has it looked at: whatever had been noted before is known to be old now.
    let mut gone = Vec::new();
    let mut number = 0;
    until("the node's pods to go", || {
        number += 1;
        let next = format!("next-{number}");
        clock.advance(Duration::from_secs(2));
        async move {
            made(client, &next, "short").await;
            let left = names(client).await;
            (!left.contains(&"stays".to_owned())).then_some(())
        }
    })
    .await;
    while gone.len() < 2 {
        let event = watch.next().await.unwrap();
        let pod = &event["object"];
        if pod["metadata"]["name"] != "stays" {
            continue;
        }
        gone.push(event["type"].as_str().unwrap().to_owned());
        let condition = &pod["status"]["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|condition| condition["type"] == "DisruptionTarget").cloned());
        let condition = condition.as_ref().unwrap();
        assert_eq!(
            (
                &pod["status"]["phase"],
                &condition["reason"],
                &condition["message"],
                &condition["observedGeneration"]
            ),
            (&json!("Failed"), &json!("DeletionByPodGC"), &json!("PodGC: node no longer exists"), &json!(1)),
        );
    }
    assert_eq!(gone, ["MODIFIED", "DELETED"]);
    let _ = Call::delete(format!("{PODS}?gracePeriodSeconds=0")).send(client).await.expect(200);
}

/// Nobody will say that a pod has ended whose node has lost its power.
async fn out_of_service(cluster: &Cluster, client: &kube::Client) {
    let _node = SimulatedNode::join(client, "dark", cluster.clock().now()).await;
    made(client, "going", "dark").await;
    made(client, "tolerant", "dark").await;
    let _ = Call::delete(format!("{PODS}/going")).send(client).await.expect(200);
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let _ = Call::patch("/api/v1/nodes/dark/status", &ready).send(client).await.expect(200);
    assert!(names(client).await.contains(&"going".to_owned()), "it waits for its node");
    let taint = json!({"spec": {"taints": [
        {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoSchedule"}]}});
    let _ = Call::patch("/api/v1/nodes/dark", &taint).send(client).await.expect(200);
    until("the pod to go", || async { (!names(client).await.contains(&"going".to_owned())).then_some(()) })
        .await;
    assert_eq!(names(client).await, ["tolerant"], "only what was being deleted");
    let _ = Call::delete(format!("{PODS}/tolerant?gracePeriodSeconds=0")).send(client).await.expect(200);
}

/// A pod that somebody holds back fails all the same once it is deleted: it will have no node any more.
async fn without_a_node(client: &kube::Client) {
    let mut held = pod("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.org/holds"]);
    let _ = Call::post(PODS, &held).send(client).await.expect(201);
    let _ = Call::delete(format!("{PODS}/held")).send(client).await.expect(200);
    let path = format!("{PODS}/held");
    until("the pod to fail", || async {
        let held = Call::get(&path).send(client).await.expect(200).json();
        (held["status"]["phase"] == "Failed").then_some(())
    })
    .await;
    let _ = Call::patch(path, &json!({"metadata": {"finalizers": null}})).send(client).await.expect(200);
}

/// The oldest go of those that have ended.
async fn too_many(client: &kube::Client) {
    for name in ["a", "b", "c", "d"] {
        let _ = Call::post(PODS, &pod(name, json!({}))).send(client).await.expect(201);
    }
    for name in ["a", "b", "c"] {
        let ended = json!({"status": {"phase": "Succeeded"}});
        let _ = Call::patch(format!("{PODS}/{name}/status"), &ended).send(client).await.expect(200);
    }
    until("the first to go", || async { (names(client).await == ["b", "c", "d"]).then_some(()) }).await;
}
