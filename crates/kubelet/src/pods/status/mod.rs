//! Makes a pod's status of what the runtime says. Pure.

mod conditions;
mod container;
pub mod news;
mod phase;
mod whole;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, HostIP, PodIP, PodStatus, ResourceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::memory::{Ending, Memory};
use super::plan::{Plan, View};
use super::resources;
use super::spec::{PodExt, as_container};
use phase::{Phase, phase};

/// What of the node stands in the status of its pods.
pub struct NodeFacts<'a> {
    /// The node's addresses, the primary one first.
    pub host_ips: &'a [String],
    /// The scheme of container ids.
    pub runtime_name: &'a str,
    /// Whether the runtime makes mounts read-only down to the last one.
    pub recursive_read_only: bool,
    /// How what containers have for themselves is, by container.
    pub exclusive: &'a BTreeMap<String, Vec<ResourceStatus>>,
}

/// Makes the status.
pub fn generate(view: &View<'_>, plan: &Plan, node: &NodeFacts<'_>) -> PodStatus {
    let pod = view.pod;
    let before = view.memory.status.as_ref().or(pod.status.as_ref());
    let maker = Maker { view, plan, node, before };
    if let Some(ending) = view.memory.ending.as_ref().filter(|ending| ending.refused) {
        return maker.refused(ending);
    }
    let mut init: Vec<ContainerStatus> =
        pod.init_containers().iter().map(|c| maker.container(c, true)).collect();
    let mut main: Vec<ContainerStatus> = pod.containers().iter().map(|c| maker.container(c, false)).collect();
    let ephemeral: Vec<ContainerStatus> =
        pod.ephemeral_containers().iter().map(|c| maker.container(&as_container(c), false)).collect();
    // One that the API server has as ended is not unsaid: it would refuse that.
    let ends = view.removed || pod.is_deleting() || pod.is_terminal() || plan.failed.is_some();
    let over = plan.over && ends;
    if over {
        container::lose(pod, &mut init, &mut main);
    }
    let phase = maker.phase(&init, &main);
    let ips: Vec<String> = match view.observed.sandbox() {
        _ if pod.host_network() => node.host_ips.to_vec(),
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.clone(),
        // A pod that is over keeps the address that it had.
        _ => before.and_then(|s| s.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    let failed = plan.failed.clone().filter(|_| phase == "Failed").unzip();
    let keep = |text: fn(&PodStatus) -> Option<String>| {
        pod.status.as_ref().filter(|_| pod.is_terminal()).and_then(text)
    };
    PodStatus {
        conditions: Some(maker.conditions(&phase, &init, &main)),
        start_time: before.and_then(|status| status.start_time.clone()).or(Some(Time(view.now))),
        host_ip: node.host_ips.first().cloned(),
        host_ips: Some(node.host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: Some(ips.into_iter().map(|ip| PodIP { ip }).collect::<Vec<_>>())
            .filter(|ips| !ips.is_empty()),
        qos_class: Some(resources::qos(pod).to_owned()),
        reason: failed.0.or_else(|| keep(|status| status.reason.clone())),
        message: failed.1.or_else(|| keep(|status| status.message.clone())),
        container_statuses: Some(main).filter(|list| !list.is_empty()),
        init_container_statuses: Some(init).filter(|list| !list.is_empty()),
        ephemeral_container_statuses: Some(ephemeral).filter(|list| !list.is_empty()),
        resources: Some(whole::resources(pod, before, view.memory.resize.in_progress.is_some())),
        allocated_resources: Some(resources::pod_requests(pod)).filter(|requests| !requests.is_empty()),
        observed_generation: pod.metadata.generation,
        phase: Some(phase),
        ..PodStatus::default()
    }
}

struct Maker<'a> {
    view: &'a View<'a>,
    plan: &'a Plan,
    node: &'a NodeFacts<'a>,
    before: Option<&'a PodStatus>,
}

impl Maker<'_> {
    fn memory(&self) -> &Memory {
        self.view.memory
    }

    /// The status of a pod that the node did not take.
    fn refused(&self, ending: &Ending) -> PodStatus {
        let known = self.view.pod.status.as_ref();
        PodStatus {
            conditions: known.and_then(|status| status.conditions.clone()),
            start_time: self
                .before
                .and_then(|status| status.start_time.clone())
                .or(Some(Time(self.view.now))),
            phase: Some("Failed".to_owned()),
            reason: Some(ending.reason.clone()),
            message: Some(ending.message.clone()),
            qos_class: Some(resources::qos(self.view.pod).to_owned()),
            observed_generation: self.view.pod.metadata.generation,
            ..PodStatus::default()
        }
    }

    fn phase(&self, init: &[ContainerStatus], main: &[ContainerStatus]) -> String {
        let pod = self.view.pod;
        // Whoever ended stays so.
        if pod.is_terminal() {
            return pod.phase().to_owned();
        }
        if self.plan.failed.is_some() {
            return if self.plan.over { "Failed" } else { pod_phase_now(pod.phase()) }.to_owned();
        }
        // Whoever ends now does so for the others' sake, or to begin anew.
        let is_replaced = |name: &str| {
            let latest = self.view.observed.latest(name);
            latest.is_some_and(|latest| self.view.memory.replaced.contains(&latest.id))
        };
        let is_over = pod.is_deleting() || self.view.removed;
        if self.plan.restarting_all || !is_over && pod.containers().iter().any(|c| is_replaced(&c.name)) {
            let known = self.before.and_then(|before| before.phase.as_deref());
            return pod_phase_now(known.unwrap_or_default()).to_owned();
        }
        let over = self.plan.over && (self.view.removed || pod.is_deleting());
        let found = phase(&Phase { pod, init, main, over, initialized: main.iter().any(has_run) });
        // What had not begun does not begin any more.
        if over && found == "Pending" { "Failed" } else { found }.to_owned()
    }
}

fn pod_phase_now(phase: &str) -> &str {
    if phase.is_empty() { "Pending" } else { phase }
}

fn has_run(status: &ContainerStatus) -> bool {
    let any = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    status.container_id.is_some()
        && (status.state.as_ref().is_some_and(any) || status.last_state.as_ref().is_some_and(any))
}
