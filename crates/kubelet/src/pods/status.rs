//! Makes a pod's status of what the runtime says. Pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::memory::Memory;
use super::observed::{Instance, State};
use super::plan::{Plan, View, is_started};
use super::resources;
use super::spec::{PodExt, is_sidecar, restarts};

/// What of the node stands in the status of its pods.
pub struct NodeFacts<'a> {
    pub host_ip: &'a str,
    /// The scheme of container ids.
    pub runtime_name: &'a str,
}

/// Makes the status.
pub fn generate(view: &View<'_>, plan: &Plan, node: &NodeFacts<'_>) -> PodStatus {
    let pod = view.pod;
    let before = view.memory.status.as_ref().or(pod.status.as_ref());
    let maker = Maker { view, plan, node, before };
    let mut init: Vec<ContainerStatus> =
        pod.init_containers().iter().map(|c| maker.container(c, true)).collect();
    let mut main: Vec<ContainerStatus> = pod.containers().iter().map(|c| maker.container(c, false)).collect();
    let over = plan.over && (view.removed || pod.is_deleting() || plan.failed.is_some());
    if over {
        init.iter_mut().chain(&mut main).for_each(lost);
    }
    let phase = maker.phase(&init, &main);
    let ips: Vec<String> = match view.observed.sandbox() {
        _ if pod.host_network() => vec![node.host_ip.to_owned()],
        Some(sandbox) if !sandbox.ips.is_empty() => sandbox.ips.clone(),
        // A pod that is over keeps the address that it had.
        _ => before.and_then(|s| s.pod_ips.as_ref()).into_iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    let failed = plan.failed.filter(|_| phase == "Failed");
    let keep = |text: fn(&PodStatus) -> Option<String>| {
        pod.status.as_ref().filter(|_| pod.is_terminal()).and_then(text)
    };
    PodStatus {
        conditions: Some(maker.conditions(&phase, &init, &main)),
        start_time: before.and_then(|status| status.start_time.clone()).or(Some(Time(view.now))),
        host_ip: Some(node.host_ip.to_owned()),
        host_ips: Some(vec![HostIP { ip: node.host_ip.to_owned() }]),
        pod_ip: ips.first().cloned(),
        pod_ips: Some(ips.into_iter().map(|ip| PodIP { ip }).collect::<Vec<_>>())
            .filter(|ips| !ips.is_empty()),
        qos_class: Some(resources::qos(pod).to_owned()),
        reason: failed.map(|(reason, _)| reason.to_owned()).or_else(|| keep(|status| status.reason.clone())),
        message: failed
            .map(|(_, message)| message.to_owned())
            .or_else(|| keep(|status| status.message.clone())),
        container_statuses: Some(main).filter(|list| !list.is_empty()),
        init_container_statuses: Some(init).filter(|list| !list.is_empty()),
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

/// A container of a pod that is over and that nobody has seen end.
fn lost(status: &mut ContainerStatus) {
    let state = status.state.get_or_insert_default();
    if state.terminated.is_some() {
        return;
    }
    *state = ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    status.ready = false;
    status.started = Some(false);
}

fn time(nanoseconds: i64) -> Option<Time> {
    // The API has seconds.
    Timestamp::from_second(nanoseconds.div_euclid(1_000_000_000)).ok().filter(|_| nanoseconds > 0).map(Time)
}

impl Maker<'_> {
    fn memory(&self) -> &Memory {
        self.view.memory
    }

    fn id(&self, instance: &Instance) -> String {
        format!("{}://{}", self.node.runtime_name, instance.id)
    }

    fn terminated(&self, instance: &Instance) -> ContainerStateTerminated {
        let fallback = if instance.exit_code == 0 { "Completed" } else { "Error" };
        let reason = if instance.reason.is_empty() { fallback } else { &instance.reason };
        ContainerStateTerminated {
            container_id: Some(self.id(instance)),
            exit_code: instance.exit_code,
            finished_at: time(instance.finished_at),
            message: Some(instance.message.clone()).filter(|message| !message.is_empty()),
            reason: Some(reason.to_owned()),
            signal: None,
            started_at: time(instance.started_at),
        }
    }

    fn container(&self, container: &Container, init: bool) -> ContainerStatus {
        let mut instances = self.view.observed.instances(&container.name);
        let (latest, previous) = (instances.next(), instances.next());
        let old = self.before.and_then(|status| {
            let lists = status.init_container_statuses.iter().chain(&status.container_statuses);
            lists.flatten().find(|status| status.name == container.name)
        });
        let Some(latest) = latest else { return self.absent(container, old) };
        let waiting = self.plan.waiting.get(&container.name).map(|waiting| ContainerStateWaiting {
            reason: Some(waiting.reason.clone()),
            message: waiting.message.clone(),
        });
        let mut last =
            previous.filter(|previous| previous.state == State::Exited).map(|p| self.terminated(p));
        let mut state = ContainerState::default();
        match (latest.state, waiting) {
            (State::Running, _) => {
                state.running = Some(ContainerStateRunning { started_at: time(latest.started_at) })
            }
            (State::Exited, None) => state.terminated = Some(self.terminated(latest)),
            (State::Exited, Some(waiting)) => {
                state.waiting = Some(waiting);
                last = Some(self.terminated(latest));
            }
            (State::Created | State::Unknown, waiting) => {
                let creating =
                    || ContainerStateWaiting { reason: Some("ContainerCreating".to_owned()), message: None };
                state.waiting = Some(waiting.unwrap_or_else(creating));
            }
        }
        let started = is_started(self.memory(), container, latest);
        let ready = match init && !is_sidecar(container) {
            true => latest.state == State::Exited && latest.exit_code == 0,
            false => started && self.is_ready(container, latest),
        };
        ContainerStatus {
            name: container.name.clone(),
            container_id: Some(self.id(latest)),
            image: if latest.image.is_empty() || latest.image.starts_with("sha256:") {
                container.image.clone().unwrap_or_default()
            } else {
                latest.image.clone()
            },
            image_id: latest.image_id.clone(),
            state: Some(state),
            last_state: last.map(|terminated| ContainerState {
                terminated: Some(terminated),
                ..ContainerState::default()
            }),
            ready,
            restart_count: i32::try_from(latest.restarts).unwrap_or(i32::MAX),
            started: Some(started),
            ..ContainerStatus::default()
        }
    }

    /// A container that the runtime does not have (yet, or any more).
    fn absent(&self, container: &Container, old: Option<&ContainerStatus>) -> ContainerStatus {
        let ended = old.filter(|old| old.state.as_ref().is_some_and(|state| state.terminated.is_some()));
        if let Some(ended) = ended.filter(|_| !self.plan.waiting.contains_key(&container.name)) {
            return ended.clone();
        }
        let many = !self.view.pod.init_containers().is_empty();
        let default = if many { "PodInitializing" } else { "ContainerCreating" };
        let waiting = self.plan.waiting.get(&container.name);
        ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: Some(ContainerState {
                waiting: Some(ContainerStateWaiting {
                    reason: Some(
                        waiting.map_or_else(|| default.to_owned(), |waiting| waiting.reason.clone()),
                    ),
                    message: waiting.and_then(|waiting| waiting.message.clone()),
                }),
                ..ContainerState::default()
            }),
            last_state: old.and_then(|old| old.last_state.clone()),
            // One that ran and that the runtime forgot counts as restarted.
            restart_count: old.map_or(0, |old| old.restart_count + i32::from(old.container_id.is_some())),
            started: Some(false),
            ..ContainerStatus::default()
        }
    }

    fn is_ready(&self, container: &Container, instance: &Instance) -> bool {
        let health = self.memory().health.get(&container.name).filter(|health| health.id == instance.id);
        container.readiness_probe.is_none() || health.is_some_and(|health| health.ready)
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
        let over = self.plan.over && (self.view.removed || pod.is_deleting());
        phase(&Phase { pod, init, main, over, initialized: main.iter().any(has_run) }).to_owned()
    }

    fn conditions(
        &self,
        phase: &str,
        init: &[ContainerStatus],
        main: &[ContainerStatus],
    ) -> Vec<PodCondition> {
        let pod = self.view.pod;
        let sandbox = self.view.observed.sandbox().is_some_and(|s| pod.host_network() || !s.ips.is_empty());
        let verdict = |status: bool, reason: &'static str, message: String| (status, reason, message);
        let initialized = self.initialized(phase, init, main);
        let ready = containers_ready(pod, phase, init, main);
        let gates = if ready.0 { self.gates() } else { ready.clone() };
        let all = [
            ("PodReadyToStartContainers", verdict(sandbox, "", String::new())),
            ("Initialized", initialized),
            ("Ready", gates),
            ("ContainersReady", ready),
            ("PodScheduled", verdict(true, "", String::new())),
        ];
        all.into_iter().map(|(name, verdict)| self.condition(name, verdict)).collect()
    }

    fn condition(&self, name: &str, (status, reason, message): Verdict) -> PodCondition {
        let status = if status { "True" } else { "False" };
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let conditions = self.before.and_then(|before| before.conditions.as_ref());
        let old = conditions.into_iter().flatten().find(|condition| condition.type_ == name);
        let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
        PodCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: text(reason.to_owned()),
            message: text(message),
            last_probe_time: None,
            last_transition_time: since.or(Some(Time(self.view.now))),
            observed_generation: self.view.pod.metadata.generation,
        }
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

type Verdict = (bool, &'static str, String);

fn pod_phase_now(phase: &str) -> &str {
    if phase.is_empty() { "Pending" } else { phase }
}

fn has_run(status: &ContainerStatus) -> bool {
    let any = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    status.container_id.is_some()
        && (status.state.as_ref().is_some_and(any) || status.last_state.as_ref().is_some_and(any))
}

fn containers_ready(
    pod: &k8s_openapi::api::core::v1::Pod,
    phase: &str,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Verdict {
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

/// What the phase follows from.
pub struct Phase<'a> {
    pub pod: &'a k8s_openapi::api::core::v1::Pod,
    pub init: &'a [ContainerStatus],
    pub main: &'a [ContainerStatus],
    /// Nothing is restarted any more.
    pub over: bool,
    pub initialized: bool,
}

#[derive(Default)]
struct Counts {
    running: usize,
    waiting: usize,
    stopped: usize,
    for_good: usize,
    succeeded: usize,
}

/// How the container last ended: its exit code.
fn ended(status: &ContainerStatus) -> Option<i32> {
    let code = |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref().map(|end| end.exit_code);
    code(&status.state).or_else(|| {
        let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
        if waits { code(&status.last_state) } else { None }
    })
}

fn runs(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// The phase of a pod; the rules are upstream's.
pub fn phase(input: &Phase<'_>) -> &'static str {
    let pod = input.pod;
    let mut pending = 0;
    for (container, status) in pod.init_containers().iter().zip(input.init) {
        if is_sidecar(container) {
            pending +=
                usize::from(!input.initialized && status.started != Some(true) && ended(status).is_none());
            continue;
        }
        match ended(status) {
            Some(code) if code != 0 && !restarts(pod, container, code) => return "Failed",
            Some(0) => {}
            Some(_) if !runs(status) => {}
            _ => pending += 1,
        }
    }
    let mut counts = Counts::default();
    for (container, status) in pod.containers().iter().zip(input.main) {
        if runs(status) {
            counts.running += 1;
        } else if let Some(code) = ended(status) {
            counts.stopped += 1;
            counts.succeeded += usize::from(code == 0);
            counts.for_good += usize::from(!restarts(pod, container, code));
        } else {
            counts.waiting += 1;
        }
    }
    let sidecars =
        pod.init_containers().iter().zip(input.init).filter(|(c, s)| is_sidecar(c) && runs(s)).count();
    if !input.over && (pending > 0 || counts.waiting > 0) {
        return "Pending";
    }
    if counts.running + sidecars > 0 {
        return "Running";
    }
    let result =
        if counts.stopped == counts.succeeded && counts.waiting == 0 { "Succeeded" } else { "Failed" };
    match counts.stopped {
        0 => "Pending",
        _ if input.over || counts.stopped == counts.for_good => result,
        _ => "Running",
    }
}
