//! This node's object: registered, kept true, and renewed.

pub mod allocatable;
pub mod enforce;
mod events;
pub mod lease;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use crate::Shared;
use plan::Facts;

/// While the runtime is not ready, and while the node has no pod network or cannot be reported. After that
/// `nodeStatusUpdateFrequency` says how often.
const POLL_STARTING: Duration = Duration::from_millis(100);
const POLL_WAITING: Duration = Duration::from_secs(1);

/// Registers the node and keeps its status, forever.
pub async fn run(shared: Arc<Shared>) {
    let mut reporter = Reporter { shared, reported: None, at: Duration::ZERO, pod_cidr: String::new() };
    loop {
        let pause = match reporter.round().await {
            Ok(true) if reporter.pod_cidr.is_empty() => POLL_WAITING,
            Ok(true) => reporter.shared.config.configuration.fields.node_status_update_frequency,
            Ok(false) => POLL_STARTING,
            Err(error) => {
                tracing::debug!(%error, "the node's status is not reported yet");
                // At the start the API server is about to answer; later it has more important things to do.
                if reporter.at.is_zero() { POLL_STARTING } else { POLL_WAITING }
            }
        };
        let shared = reporter.shared.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.pressure.changed() => {}
            () = shared.shutdown.changed() => {}
            () = shared.exclusive.devices.changed() => {}
        }
    }
}

/// What an event of the node is about.
pub fn reference(shared: &Shared) -> ObjectReference {
    let name = shared.config.node_name.clone();
    ObjectReference {
        kind: Some("Node".to_owned()),
        uid: Some(name.clone()),
        name: Some(name),
        ..ObjectReference::default()
    }
}

struct Reporter {
    shared: Arc<Shared>,
    /// The status that the API server has.
    reported: Option<Node>,
    at: Duration,
    pod_cidr: String,
}

impl Reporter {
    fn api(&self) -> Api<Node> {
        Api::all(self.shared.client.clone())
    }

    /// Looks once; whether the node is ready.
    async fn round(&mut self) -> Result<bool, kube::Error> {
        let name = self.shared.config.node_name.clone();
        // A node that is ready and known is not read again before something is to be told.
        let node = match self.reported.take() {
            Some(node) if !self.pod_cidr.is_empty() => node,
            _ => self.register(&name).await?,
        };
        self.tell_pod_cidr(&node).await;
        let facts = self.facts().await;
        let ready = facts.is_ready();
        let status = plan::status(&self.shared.config, &self.shared.machine, &facts, node.status.as_ref());
        let now = self.shared.config.clock.monotonic();
        let report = self.shared.config.configuration.fields.node_status_report_frequency;
        let differs = plan::differs(node.status.as_ref(), &status);
        if !differs && !self.at.is_zero() && now.saturating_sub(self.at) < report {
            self.reported = Some(node);
            return Ok(ready);
        }
        for event in events::between(node.status.as_ref(), &status, self.at.is_zero()) {
            event.record(&self.shared);
        }
        let patch = serde_json::json!({"status": plan::patch(&status)});
        let node = self.api().patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
        self.reported = Some(node);
        self.at = now;
        Ok(ready)
    }

    /// The node as the API server has it; it is made if it is not there, and its labels are set.
    async fn register(&self, name: &str) -> Result<Node, kube::Error> {
        let config = &self.shared.config;
        let api = self.api();
        let found = match config.configuration.fields.register_node {
            true => api.get_opt(name).await?,
            // Somebody else makes the node: until then there is nothing to tell.
            false => Some(api.get(name).await?),
        };
        let Some(node) = found else {
            let facts = self.facts().await;
            let status = plan::status(config, &self.shared.machine, &facts, None);
            return api.create(&PostParams::default(), &plan::node(config, status)).await;
        };
        let labels = plan::labels(config);
        let known = node.metadata.labels.clone().unwrap_or_default();
        if labels.iter().all(|(key, value)| known.get(key) == Some(value)) {
            return Ok(node);
        }
        let patch = serde_json::json!({"metadata": {"labels": labels}});
        api.patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await
    }

    async fn tell_pod_cidr(&mut self, node: &Node) {
        let spec = node.spec.as_ref();
        let cidrs = spec.and_then(|spec| spec.pod_cidrs.as_ref()).map(|cidrs| cidrs.join(","));
        let cidr = cidrs.or_else(|| spec.and_then(|spec| spec.pod_cidr.clone())).unwrap_or_default();
        if cidr.is_empty() || cidr == self.pod_cidr {
            return;
        }
        match self.shared.runtime.set_pod_cidr(&cidr).await {
            Ok(()) => self.pod_cidr = cidr,
            Err(status) => tracing::warn!(%status, "the runtime does not take the pod network"),
        }
    }

    async fn facts(&self) -> Facts {
        let runtime = &self.shared.runtime;
        let mut handlers = Vec::new();
        let mut supplemental_groups = false;
        let conditions = match runtime.status().await {
            Ok(answer) => {
                handlers = answer.runtime_handlers;
                supplemental_groups = answer.features.is_some_and(|f| f.supplemental_groups_policy);
                Ok(answer.status.unwrap_or_default().conditions)
            }
            Err(status) => Err(status.message().to_owned()),
        };
        let images = match runtime.images().await {
            Ok(images) => images,
            Err(status) => {
                tracing::debug!(%status, "the runtime does not list its images");
                Vec::new()
            }
        };
        let disk = nix::sys::statvfs::statvfs(&self.shared.config.root_dir);
        let disk = disk.map(|disk| disk.blocks() * disk.fragment_size()).unwrap_or(0);
        Facts {
            conditions,
            images,
            handlers,
            supplemental_groups,
            disk,
            pressure: self.shared.pressure.now(),
            closing: self.shared.shutdown.is_begun(),
            devices: self.shared.exclusive.devices.amounts(),
            runtime: format!("{}://{}", runtime.name, runtime.version),
            now: self.shared.config.clock.now(),
        }
    }
}
