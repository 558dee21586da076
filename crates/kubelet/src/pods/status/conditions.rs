//! The conditions of a pod. Pure.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Maker, has_run};
use crate::pods::spec::{PodExt, could_restart_all, is_sidecar};

const READY_TO_START: &str = "PodReadyToStartContainers";

type Verdict = (bool, &'static str, String);

impl Maker<'_> {
    pub(super) fn conditions(
        &self,
        phase: &str,
        init: &[ContainerStatus],
        main: &[ContainerStatus],
    ) -> Vec<PodCondition> {
        let pod = self.view.pod;
        let sandbox = self.view.observed.sandbox().is_some_and(|s| pod.host_network() || !s.ips.is_empty())
            && self.are_volumes_there();
        let verdict = |status: bool, reason: &'static str, message: String| (status, reason, message);
        let initialized = self.initialized(phase, init, main);
        let ready = containers_ready(pod, phase, init, main);
        let gates = if ready.0 { self.gates() } else { ready.clone() };
        let all = [
            (READY_TO_START, verdict(sandbox, "", String::new())),
            ("Initialized", initialized),
            ("Ready", gates),
            ("ContainersReady", ready),
            ("PodScheduled", verdict(true, "", String::new())),
        ];
        let mut conditions: Vec<PodCondition> =
            all.into_iter().map(|(name, verdict)| self.condition(name, verdict)).collect();
        conditions.extend(self.restarting_all(phase));
        conditions.extend(self.disruption());
        conditions.extend(self.resizes());
        conditions
    }

    fn condition(&self, name: &str, (status, reason, message): Verdict) -> PodCondition {
        let status = if status { "True" } else { "False" };
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        PodCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: text(reason.to_owned()),
            message: text(message),
            last_probe_time: None,
            last_transition_time: self.since(name, status).or(Some(Time(self.view.now))),
            observed_generation: self.view.pod.metadata.generation,
        }
    }

    /// Upstream's kubelet makes the sandbox once volumes are mounted, this one at the same time. After a start of the
    /// kubelet, nobody has looked yet, but they were there.
    fn are_volumes_there(&self) -> bool {
        let before = self.before.and_then(|before| before.conditions.as_deref()).unwrap_or_default();
        self.view.memory.mounted.is_some()
            || !self.view.observed.containers.is_empty()
            || before.iter().any(|known| known.type_ == READY_TO_START && known.status == "True")
    }

    /// Since when a condition is what it is, if it was so before.
    fn since(&self, name: &str, status: &str) -> Option<Time> {
        let conditions = self.before.and_then(|before| before.conditions.as_ref());
        let old = conditions.into_iter().flatten().find(|condition| condition.type_ == name);
        old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone())
    }

    /// Whether all containers begin anew (KEP-5532), for pods of which they could.
    fn restarting_all(&self, phase: &str) -> Option<PodCondition> {
        let verdict = match phase {
            "Succeeded" => (false, "PodCompleted", String::new()),
            "Failed" => (false, "PodFailed", String::new()),
            _ if self.plan.restarting_all => {
                let why = "container exited with restart policy rule".to_owned();
                (true, "RestartAllContainersStarted", why)
            }
            _ => (false, "", String::new()),
        };
        could_restart_all(self.view.pod).then(|| self.condition("AllContainersRestarting", verdict))
    }

    /// What is said of a pod that its node gave up. Since when is said once: a status that is always another one is
    /// never known to the API server.
    fn disruption(&self) -> Option<PodCondition> {
        let told = self.view.memory.ending.as_ref()?.condition.clone()?;
        let since = self.since(&told.type_, &told.status);
        Some(PodCondition {
            last_transition_time: told.last_transition_time.or(since).or(Some(Time(self.view.now))),
            observed_generation: self.view.pod.metadata.generation,
            ..told
        })
    }

    /// Whether other resources are wanted than the pod has (KEP-1287).
    fn resizes(&self) -> impl Iterator<Item = PodCondition> {
        let resize = &self.view.memory.resize;
        let pending = resize
            .pending
            .as_ref()
            .map(|(reason, message)| self.condition("PodResizePending", (true, reason, message.clone())));
        let progress = resize.in_progress.as_ref().map(|progress| {
            let reason = if progress.error.is_some() { "Error" } else { "" };
            let message = progress.error.clone().unwrap_or_default();
            let mut condition = self.condition("PodResizeInProgress", (true, reason, message));
            condition.observed_generation = progress.generation;
            condition
        });
        pending.into_iter().chain(progress)
    }

    fn initialized(&self, phase: &str, init: &[ContainerStatus], main: &[ContainerStatus]) -> Verdict {
        if phase == "Succeeded" {
            return (true, "PodCompleted", String::new());
        }
        if main.iter().any(has_run) {
            return (true, "", String::new());
        }
        let containers = self.view.pod.init_containers();
        let incomplete: Vec<&str> = containers
            .iter()
            .zip(init)
            .filter(
                |(container, status)| {
                    if is_sidecar(container) { status.started != Some(true) } else { !status.ready }
                },
            )
            .map(|(container, _)| container.name.as_str())
            .collect();
        if incomplete.is_empty() {
            return (true, "", String::new());
        }
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        (false, "ContainersNotInitialized", message)
    }

    /// Conditions that others set and that the pod waits for.
    fn gates(&self) -> Verdict {
        let pod = self.view.pod;
        let conditions =
            pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let gates = pod.spec().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
        let missing: Vec<String> = gates
            .iter()
            .filter_map(|gate| {
                let name = &gate.condition_type;
                match conditions.iter().find(|condition| condition.type_ == *name) {
                    None => Some(format!(
                        "corresponding condition of pod readiness gate {name:?} does not exist."
                    )),
                    Some(condition) if condition.status != "True" => Some(format!(
                        "the status of pod readiness gate {name:?} is not \"True\", but {}",
                        condition.status
                    )),
                    Some(_) => None,
                }
            })
            .collect();
        if missing.is_empty() {
            return (true, "", String::new());
        }
        (false, "ReadinessGatesNotReady", missing.join(", "))
    }
}

fn containers_ready(pod: &Pod, phase: &str, init: &[ContainerStatus], main: &[ContainerStatus]) -> Verdict {
    match phase {
        "Succeeded" => return (false, "PodCompleted", String::new()),
        "Failed" => return (false, "PodFailed", String::new()),
        _ => {}
    }
    let sidecars =
        pod.init_containers().iter().zip(init).filter(|(c, _)| is_sidecar(c)).map(|(_, status)| status);
    let unready: Vec<&str> =
        sidecars.chain(main).filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return (true, "", String::new());
    }
    (false, "ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}
