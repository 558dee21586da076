//! A cluster with one webhook, whose configuration a test changes.

use base64::Engine;
use serde_json::{Value, json};
use testkit::Cluster;
use testkit::http::{Answer, Call};

use super::server::Webhook;

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

pub struct Bench {
    pub cluster: Cluster,
    pub client: kube::Client,
    pub webhook: Webhook,
}

/// A rule about these operations on config maps.
pub fn on_config_maps(operations: &str) -> Value {
    json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": [operations]})
}

impl Bench {
    pub async fn start() -> Self {
        let cluster = Cluster::start().await;
        let client = cluster.tls(0).await;
        let bench = Self { cluster, client, webhook: Webhook::start().await };
        bench.configure(json!({})).await;
        bench
    }

    /// Has the webhook configured as it is by default, with these fields of its own. It counts once this returns.
    pub async fn configure(&self, fields: Value) {
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.webhook.ca_pem);
        let mut hook = json!({
            "name": "x.example.org",
            "clientConfig": {"url": self.webhook.url(), "caBundle": ca},
            "rules": [on_config_maps("CREATE")],
            "admissionReviewVersions": ["v1"], "sideEffects": "None", "timeoutSeconds": 5,
        });
        for (field, value) in fields.as_object().unwrap() {
            hook[field] = value.clone();
        }
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "x"}, "webhooks": [hook],
        });
        let path = format!("{CONFIGURATIONS}/x");
        let _ = Call::delete(&path).send(&self.client).await;
        let _ = Call::post(CONFIGURATIONS, &configuration).send(&self.client).await.expect(201);
        // A consistent read: from now on every write sees it.
        let _ = Call::get(path).send(&self.client).await.expect(200);
        self.webhook.asked();
    }

    /// Tries to make a config map, and takes it away again.
    pub async fn attempt(&self) -> Answer {
        self.attempt_with("").await
    }

    /// The same with a query.
    pub async fn attempt_with(&self, query: &str) -> Answer {
        let answer = Call::post(format!("{CONFIG_MAPS}?{query}"), &config_map("a")).send(&self.client).await;
        if answer.code == 201 && query.is_empty() {
            let _ = Call::delete(format!("{CONFIG_MAPS}/a")).send(&self.client).await.expect(200);
        }
        answer
    }
}

pub fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}
