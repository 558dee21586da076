//! Pods as clients and kubelets make and change them.

mod admission;
mod answers;
mod changes;
mod company;
mod disruption;
mod garbage;
mod proxied;

use serde_json::{Value, json};
use testkit::http::Call;

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pod(name: &str, spec: Value) -> Value {
    let mut whole = json!({"containers": [{"name": "c", "image": "registry.example/i:1"}]});
    for (field, value) in spec.as_object().cloned().unwrap_or_default() {
        whole[field] = value;
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole})
}

/// Makes the account that pods run as.
async fn account(client: &kube::Client, namespace: &str) {
    let account = json!({"metadata": {"name": "default"}});
    let _ = Call::post(format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account)
        .send(client)
        .await
        .expect(201);
}
