//! What the cluster gives a Service stays as long as its type has it, and no longer.

use serde_json::{Value, json};
use testkit::Cluster;
use testkit::http::Call;

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// Replaces it, as somebody does who has just read it, and tells what it now is.
async fn replace(client: &kube::Client, service: &Value) -> Value {
    Call::put(format!("{SERVICES}/web"), service).send(client).await.expect(200).json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_was_given_follows_its_type() {
    let cluster = Cluster::start().await;
    let client = &cluster.tls(0).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
        "type": "NodePort", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}});
    let made: Value = Call::post(SERVICES, &service).send(client).await.expect(201).json();
    let (ip, ports) = (made["spec"]["clusterIP"].clone(), made["spec"]["ports"].clone());
    assert!(ip.is_string() && ports[0]["nodePort"].is_number(), "{made}");

    // Who writes neither keeps both.
    let mut wanted = made.clone();
    wanted["spec"]["clusterIP"] = json!("");
    wanted["spec"]["clusterIPs"] = json!(null);
    for port in wanted["spec"]["ports"].as_array_mut().unwrap() {
        let _ = port.as_object_mut().unwrap().remove("nodePort");
    }
    let mut kept = replace(client, &wanted).await;
    assert_eq!((&kept["spec"]["clusterIP"], &kept["spec"]["ports"]), (&ip, &ports));

    kept["spec"]["type"] = json!("ClusterIP");
    let mut inside = replace(client, &kept).await;
    let spec = &inside["spec"];
    assert_eq!(spec["clusterIP"], ip);
    assert!(spec["ports"][0]["nodePort"].is_null() && spec["externalTrafficPolicy"].is_null(), "{spec}");

    inside["spec"]["type"] = json!("ExternalName");
    inside["spec"]["externalName"] = json!("example.com");
    let elsewhere = replace(client, &inside).await;
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        assert!(elsewhere["spec"][field].is_null(), "{field}: {elsewhere}");
    }

    // Both are free for others.
    let other = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"}, "spec": {
        "type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": ports[0]["nodePort"]}]}});
    let _ = Call::post(SERVICES, &other).send(client).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_balancer_is_given_a_port_to_ask_at_and_keeps_it() {
    let cluster = Cluster::start().await;
    let client = &cluster.tls(0).await;
    let service = |kind: &str, policy: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {
            "type": kind, "externalTrafficPolicy": policy, "ports": [{"port": 80}]}})
    };
    let made: Value =
        Call::post(SERVICES, &service("LoadBalancer", "Local")).send(client).await.expect(201).json();
    let port = made["spec"]["healthCheckNodePort"].clone();
    assert!(port.is_number(), "{made}");

    let mut unsaid = made.clone();
    let _ = unsaid["spec"].as_object_mut().unwrap().remove("healthCheckNodePort");
    assert_eq!(replace(client, &unsaid).await["spec"]["healthCheckNodePort"], port);

    let mut other = made.clone();
    other["spec"]["healthCheckNodePort"] = json!(port.as_i64().unwrap() ^ 1);
    other["metadata"]["resourceVersion"] = json!(null);
    let refused = Call::put(format!("{SERVICES}/web"), &other).send(client).await.expect(422).message();
    assert!(refused.contains("spec.healthCheckNodePort: Forbidden: field is immutable"), "{refused}");

    let mut open = replace(client, &{
        let mut open = made.clone();
        open["metadata"]["resourceVersion"] = json!(null);
        open["spec"]["externalTrafficPolicy"] = json!("Cluster");
        open
    })
    .await;
    assert!(open["spec"]["healthCheckNodePort"].is_null(), "{open}");
    open["spec"]["healthCheckNodePort"] = port;
    let refused = Call::put(format!("{SERVICES}/web"), &open).send(client).await.expect(422).message();
    assert!(refused.contains("may only be set when `type` is 'LoadBalancer'"), "{refused}");
}
