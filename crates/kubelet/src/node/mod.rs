//! This node's object: registered, kept true, and renewed.

pub mod allocatable;
pub mod classes;
mod cloud;
pub mod enforce;
mod events;
pub mod kernel;
pub mod lease;
mod plan;
pub mod process;
mod startup;
pub mod view;

pub use cloud::Cloud;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ObjectReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};

use crate::Shared;
use plan::Facts;
use startup::Startup;
use view::NodeView;

/// While a node that starts is not ready.
const POLL_STARTING: Duration = Duration::from_millis(100);
/// How long a node starts, as upstream's `nodeReadyGracePeriod`.
const STARTING: Duration = Duration::from_secs(120);
/// While the runtime is not ready later, and while it does not take the node's pod network or the node cannot be
/// reported. After that `nodeStatusUpdateFrequency` says how often.
const POLL_WAITING: Duration = Duration::from_secs(1);

/// Registers the node and keeps its status, forever.
pub async fn run(shared: Arc<Shared>) {
    let startup = Startup::new(shared.config.clock.monotonic());
    let mut reporter = Reporter {
        shared,
        reported: None,
        at: Duration::ZERO,
        heartbeat: Duration::ZERO,
        pod_cidr: String::new(),
        refused: false,
        unschedulable: false,
        is_registered: false,
        is_missing: false,
        startup,
    };
    loop {
        let pause = match reporter.round().await {
            Ok(true) if reporter.refused => POLL_WAITING,
            Ok(true) => reporter.shared.config.configuration.fields.node_status_update_frequency,
            Ok(false) if reporter.is_starting() => POLL_STARTING,
            Ok(false) => POLL_WAITING,
            Err(kube::Error::Api(status)) if status.code == 404 && reporter.is_registered => {
                reporter.note_deleted();
                reporter.shared.config.configuration.fields.node_status_update_frequency
            }
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
            () = shared.node_changed.notified() => {}
        }
    }
}

/// The node's object before it is known to anybody: what it is registered with.
pub fn initial(config: &crate::Config) -> Node {
    plan::node(config, k8s_openapi::api::core::v1::NodeStatus::default())
}

/// What an event of the node is about. Before its object is known it is meant by its name, by which kubectl looks, too.
pub fn reference(shared: &Shared) -> ObjectReference {
    let name = shared.config.node_name.clone();
    let uid = Some(shared.own_node().metadata.uid).filter(|uid| !uid.is_empty());
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        uid: uid.or_else(|| Some(name.clone())),
        name: Some(name),
        ..ObjectReference::default()
    }
}

struct Reporter {
    shared: Arc<Shared>,
    /// The status that the API server has.
    reported: Option<Node>,
    /// When it was reported; zero before the first time.
    at: Duration,
    /// How long after that it is reported again although nothing changed.
    heartbeat: Duration,
    pod_cidr: String,
    /// The runtime does not take the pod network.
    refused: bool,
    unschedulable: bool,
    /// The node was there: whoever deletes it wants it gone.
    is_registered: bool,
    is_missing: bool,
    startup: Startup,
}

impl Reporter {
    fn is_starting(&self) -> bool {
        self.shared.config.clock.monotonic().saturating_sub(self.shared.began) < STARTING
    }

    /// As upstream's kubelet, this one does not make a node again that was there and is not any more.
    fn note_deleted(&mut self) {
        if !std::mem::replace(&mut self.is_missing, true) {
            let node = &self.shared.config.node_name;
            tracing::warn!(node, "the node was deleted: it is made again when its kubelet is started anew");
        }
    }

    fn api(&self) -> Api<Node> {
        Api::all(self.shared.client.clone())
    }

    /// Looks once; whether the node is ready.
    async fn round(&mut self) -> Result<bool, kube::Error> {
        let name = self.shared.config.node_name.clone();
        // A node that is known is not read again: it is watched. What others said of one that was silent is read, to be
        // set right at once.
        let watched = self.shared.node.get(&name);
        let is_current = |node: &Node| match &watched {
            Some(view) => {
                !view.is_given_up()
                    && node.metadata.uid.as_ref() == Some(&view.metadata.uid)
                    && view.advertises_as(&NodeView::from(node))
            }
            None => !self.shared.node.is_synced(),
        };
        let node = match self.reported.take().filter(is_current) {
            Some(node) => node,
            None => self.register(&name).await?,
        };
        (self.is_registered, self.is_missing) = (true, false);
        let view = watched.map_or_else(|| NodeView::from(&node), |view| NodeView::clone(&view));
        self.keep_labels(&name, &view).await?;
        self.tell_pod_cidr(&view).await;
        if let Some(event) = events::schedulable(self.unschedulable, view.spec.unschedulable) {
            event.record(&self.shared);
            self.unschedulable = view.spec.unschedulable;
        }
        let facts = self.facts().await;
        let ready = facts.is_ready();
        let status = plan::status(&self.shared.config, &self.shared.machine, &facts, node.status.as_ref());
        let now = self.shared.config.clock.monotonic();
        let differs = plan::differs(node.status.as_ref(), &status);
        if !differs && !self.at.is_zero() && now.saturating_sub(self.at) < self.heartbeat {
            self.reported = Some(node);
            return Ok(ready);
        }
        for event in events::between(node.status.as_ref(), &status, self.at.is_zero()) {
            event.record(&self.shared);
        }
        let patch = serde_json::json!({"status": plan::patch(&status, node.status.as_ref())});
        let node = self.api().patch_status(&name, &PatchParams::default(), &Patch::Strategic(&patch)).await?;
        self.reported = Some(node);
        self.at = now;
        self.heartbeat = self.heartbeat(differs);
        if ready {
            self.startup.ready(now, &self.shared.counts);
        }
        Ok(ready)
    }

    /// `nodeStatusReportFrequency`. After a change it is half of it to one and a half, so that nodes which changed
    /// together do not report together for ever.
    fn heartbeat(&self, differs: bool) -> Duration {
        let config = &self.shared.config;
        let frequency = config.configuration.fields.node_status_report_frequency;
        match differs {
            true => frequency.mul_f64(0.5 + config.random.below(1001) as f64 / 1000.0),
            false => frequency,
        }
    }

    /// The node as the API server has it; it is made if it is not there, and its labels are set.
    async fn register(&mut self, name: &str) -> Result<Node, kube::Error> {
        let shared = self.shared.clone();
        let config = &shared.config;
        let api = self.api();
        self.startup.attempt(config.clock.monotonic());
        let found = match config.configuration.fields.register_node && !self.is_registered {
            true => api.get_opt(name).await?,
            // Somebody else makes the node, or has deleted it: until it is there, there is nothing to tell.
            false => Some(api.get(name).await?),
        };
        let Some(node) = found else {
            let facts = self.facts().await;
            let status = plan::status(config, &shared.machine, &facts, None);
            let told = events::between(None, &status, false);
            let node = api.create(&PostParams::default(), &plan::node(config, status)).await?;
            self.startup.registered(config.clock.monotonic(), &shared.counts);
            told.into_iter().for_each(|event| event.record(&shared));
            return Ok(node);
        };
        // What its administrator asked for is given to a node once; what it is it says whenever it starts.
        let labels = plan::lasting(plan::labels(config));
        let known = node.metadata.labels.clone().unwrap_or_default();
        let annotations = cloud::annotations(config.cloud, &config.node_ips(), Some(&node));
        if annotations.is_empty() && labels.iter().all(|(key, value)| known.get(key) == Some(value)) {
            return Ok(node);
        }
        self.describe(name, &serde_json::json!({"labels": labels, "annotations": annotations})).await
    }

    async fn describe(&self, name: &str, metadata: &serde_json::Value) -> Result<Node, kube::Error> {
        let patch = serde_json::json!({"metadata": metadata});
        self.api().patch(name, &PatchParams::default(), &Patch::Strategic(&patch)).await
    }

    /// Its system and architecture nobody else may call differently: pods are placed by them.
    async fn keep_labels(&self, name: &str, view: &NodeView) -> Result<(), kube::Error> {
        let mut labels = plan::labels(&self.shared.config);
        labels.retain(|key, value| {
            matches!(key.as_str(), "kubernetes.io/os" | "kubernetes.io/arch")
                && view.metadata.labels.get(key) != Some(value)
        });
        match labels.is_empty() {
            true => Ok(()),
            false => self.describe(name, &serde_json::json!({"labels": labels})).await.map(drop),
        }
    }

    async fn tell_pod_cidr(&mut self, view: &NodeView) {
        let cidr = match view.spec.pod_cidrs.is_empty() {
            true => view.spec.pod_cidr.clone(),
            false => view.spec.pod_cidrs.join(","),
        };
        if cidr.is_empty() || cidr == self.pod_cidr {
            return;
        }
        let answer = self.shared.runtime.set_pod_cidr(&cidr).await;
        self.refused = answer.is_err();
        match answer {
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
