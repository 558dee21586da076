//! Nodes that run nothing: they are there, are ready, and renew their lease when they are told to.

use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

use crate::http::Call;

/// A node that runs nothing.
#[derive(Clone)]
pub struct SimulatedNode {
    name: String,
    client: Client,
}

impl SimulatedNode {
    /// Makes the node and its lease, and says that it is ready.
    ///
    /// # Panics
    /// When the API refuses it.
    pub async fn join(client: &Client, name: &str, now: Timestamp) -> Self {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        });
        let _ = Call::post("/api/v1/nodes", &node).send(client).await.expect(201);
        let room = json!({"cpu": "8", "memory": "16Gi", "pods": "110"});
        let condition = |kind: &str, status: &str| {
            json!({"type": kind, "status": status, "lastHeartbeatTime": now.round(jiff::Unit::Second).unwrap(),
                "reason": "Simulated", "message": "a simulated node"})
        };
        let status = json!({"status": {
            "capacity": room, "allocatable": room,
            "conditions": [
                condition("Ready", "True"), condition("MemoryPressure", "False"),
                condition("DiskPressure", "False"), condition("PIDPressure", "False"),
            ],
        }});
        let _ = Call::patch(format!("/api/v1/nodes/{name}/status"), &status).send(client).await.expect(200);
        let node = Self { name: name.to_owned(), client: client.clone() };
        node.renew(now).await;
        node
    }

    /// Renews the node's lease as of `now`.
    ///
    /// # Panics
    /// When the API refuses it.
    pub async fn renew(&self, now: Timestamp) {
        let collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let renewed = format!("{:.6}", now.round(jiff::Unit::Microsecond).unwrap());
        let spec = json!({"holderIdentity": self.name, "leaseDurationSeconds": 40, "renewTime": renewed});
        let path = format!("{collection}/{}", self.name);
        if Call::patch(path, &json!({"spec": spec})).send(&self.client).await.code == 404 {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": self.name}, "spec": spec,
            });
            let _ = Call::post(collection, &lease).send(&self.client).await.expect(201);
        }
    }

    /// The status of its `Ready` condition.
    ///
    /// # Panics
    /// When there is no such node.
    pub async fn ready(&self) -> String {
        let node =
            Call::get(format!("/api/v1/nodes/{}", self.name)).send(&self.client).await.expect(200).json();
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        ready.map_or(String::new(), |ready: &Value| ready["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
