//! Binding of pods to nodes that run nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use async_trait::async_trait;
use base::{Clock, SystemClock};
use serde_json::Value;

use super::Measure;
use super::clean::{delete_all, names};
use crate::bench::http::Call;
use crate::bench::load::each;
use crate::bench::manifests;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// So many pods a round.
const PODS: usize = 3000;
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Binds pods on so many nodes.
pub(super) struct Bind {
    /// So many nodes.
    pub nodes: usize,
}

fn node_name(number: usize) -> String {
    format!("bench-{number:05}")
}

fn namespace(round: usize) -> String {
    format!("bench-bind-{round}")
}

impl Bind {
    /// As kubelets do, all at once and between the rounds: a round is shorter than a lease.
    async fn renew(&self, target: &Target) -> Result<()> {
        let now = format!("{:.6}", SystemClock::new().now());
        let body = serde_json::json!({"spec": {"renewTime": now}}).to_string();
        let renew = |number| Call::patch(format!("{LEASES}/{}", node_name(number)), body.clone());
        each(&target.client, self.nodes, renew).await
    }
}

#[async_trait(?Send)]
impl Measure for Bind {
    async fn prepare(&self, target: &Target) -> Result<()> {
        target.prepare_namespace("kube-node-lease").await?;
        let now = SystemClock::new().now();
        let (short, long) = (format!("{now:.0}"), format!("{now:.6}"));
        let lease = |number| Call::post(LEASES, manifests::lease(&node_name(number), &long, None));
        each(&target.client, self.nodes, lease).await?;
        let create = |number| Call::post("/api/v1/nodes", manifests::node(&node_name(number), &short));
        each(&target.client, self.nodes, create).await?;
        // New nodes are tainted until a controller finds them ready; there may be none.
        let untaint = |number| {
            Call::patch(format!("/api/v1/nodes/{}", node_name(number)), r#"{"spec":{"taints":null}}"#)
        };
        each(&target.client, self.nodes, untaint).await?;
        target.settle().await
    }

    async fn measure(&self, target: &Target, round: usize) -> Result<Sample> {
        let namespace = namespace(round);
        target.prepare_namespace(&namespace).await?;
        self.renew(target).await?;
        target.settle().await?;
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let (before, since) = (target.usage()?, Instant::now());
        let create =
            |number| Call::post(&path, manifests::pod(&format!("web-{number:06}"), "default-scheduler"));
        each(&target.client, PODS, create).await?;
        let created = since.elapsed().as_secs_f64();
        let unbound = format!("{path}?fieldSelector=spec.nodeName%3D&limit=1");
        while waiting(&target.client.json(Call::get(&unbound)).await?) {
            if since.elapsed() > Duration::from_secs(300) {
                bail!("pods are not bound after 300 s");
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        let (elapsed, used) = (since.elapsed().as_secs_f64(), target.usage()?.since(before));
        Ok(vec![
            ("cpu ms/pod", used.cpu_us as f64 / 1000.0 / PODS as f64),
            ("pods/s", PODS as f64 / elapsed),
            ("created pods/s", PODS as f64 / created),
        ])
    }

    async fn clean(&self, target: &Target) -> Result<()> {
        for namespace in names(target, "/api/v1/namespaces").await? {
            if namespace.starts_with("bench-bind-") {
                delete_all(target, &format!("/api/v1/namespaces/{namespace}/pods")).await?;
            }
        }
        delete_all(target, "/api/v1/nodes").await?;
        delete_all(target, LEASES).await
    }
}

/// Whether a list has something in it.
fn waiting(list: &Value) -> bool {
    list.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty())
}
