//! Pods that no node takes get one as soon as something has changed that helps them.

use serde_json::{Value, json};
use testkit::Cluster;
use testkit::http::Call;
use testkit::nodes::SimulatedNode;
use testkit::wait::until;

use super::{PODS, pod};

/// Makes a pod that wants to be near `app` in namespaces with these labels, and waits until it cannot be placed.
async fn lonely(client: &kube::Client, name: &str, app: &str, namespaces: Value) {
    let term = json!({"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}},
        "namespaceSelector": namespaces});
    let near = json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    let _ = Call::post(PODS, &pod(name, json!({"affinity": near}))).send(client).await.expect(201);
    refused(client, name, "didn't match pod affinity rules").await;
}

async fn refused(client: &kube::Client, name: &str, why: &str) {
    until("the pod to be refused", || async {
        let found = Call::get(format!("{PODS}/{name}")).send(client).await.expect(200).json();
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let refused = conditions.iter().find(|noted| noted["reason"] == "Unschedulable")?;
        refused["message"].as_str().filter(|told| told.contains(why)).map(|_| ())
    })
    .await;
}

async fn placed(client: &kube::Client, name: &str) {
    until("the pod to have a node", || async {
        let found = Call::get(format!("{PODS}/{name}")).send(client).await.expect(200).json();
        (found["spec"]["nodeName"] == "n").then_some(())
    })
    .await;
}

async fn ready(cluster: &Cluster) {
    let client = &cluster.admin();
    let _ = SimulatedNode::join(client, "n", cluster.clock().now()).await;
    until("the namespace's account", || async {
        let found = Call::get("/api/v1/namespaces/default/serviceaccounts/default").send(client).await;
        (found.code == 200).then_some(())
    })
    .await;
    until("the node to be ready for pods", || async {
        let node = Call::get("/api/v1/nodes/n").send(client).await.expect(200).json();
        node["spec"]["taints"].is_null().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_goes_to_its_company_once_that_is_there() {
    let cluster = Cluster::whole().await;
    let client = &cluster.admin();
    ready(&cluster).await;
    lonely(client, "near", "x", json!({})).await;
    lonely(client, "elsewhere", "x", json!({"matchLabels": {"team": "t"}})).await;
    let mut company = pod("x", json!({}));
    company["metadata"]["labels"] = json!({"app": "x"});
    let _ = Call::post(PODS, &company).send(client).await.expect(201);
    placed(client, "x").await;
    placed(client, "near").await;
    let other = Call::get(format!("{PODS}/elsewhere")).send(client).await.expect(200).json();
    assert!(other["spec"]["nodeName"].is_null());
    let labels = json!({"metadata": {"labels": {"team": "t"}}});
    let _ = Call::patch("/api/v1/namespaces/default", &labels).send(client).await.expect(200);
    placed(client, "elsewhere").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_tried_again_when_it_bears_more() {
    let cluster = Cluster::whole().await;
    let client = &cluster.admin();
    ready(&cluster).await;
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    let _ = Call::patch("/api/v1/nodes/n", &tainted).send(client).await.expect(200);
    let _ = Call::post(PODS, &pod("p", json!({}))).send(client).await.expect(201);
    refused(client, "p", "1 node(s) had untolerated taint(s)").await;
    let found = Call::get(format!("{PODS}/p")).send(client).await.expect(200).json();
    let mut bears = found["spec"]["tolerations"].as_array().cloned().unwrap_or_default();
    bears.push(json!({"key": "k", "operator": "Exists"}));
    let patch = json!({"spec": {"tolerations": bears}});
    let _ = Call::patch(format!("{PODS}/p"), &patch).send(client).await.expect(200);
    placed(client, "p").await;
}
