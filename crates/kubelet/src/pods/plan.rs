//! Decides what a pod needs next. Pure: the pod, what the runtime says of it and what the worker remembers go in;
//! actions, the reasons why containers wait, and the time to look again come out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::memory::{Job, Memory};
use super::observed::{Instance, Observed, State};
use super::spec::{PodExt, hash, is_sidecar, restarts};

/// How long an image's error is shown as such before it is shown as a back-off.
const SHOW_PULL_ERROR: SignedDuration = SignedDuration::from_secs(2);
/// The grace period of the last, forced end; upstream's minimum.
const DEADLINE: (&str, &str) =
    ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");

/// What is decided upon.
pub struct View<'a> {
    pub pod: &'a Pod,
    /// The pod is gone from the API.
    pub removed: bool,
    pub observed: &'a Observed,
    pub memory: &'a Memory,
    pub now: Timestamp,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    MountVolumes,
    CreateSandbox {
        attempt: u32,
    },
    StopSandbox {
        id: String,
    },
    RemoveSandbox {
        id: String,
    },
    EnsureImage {
        container: String,
    },
    /// `crashed` when it ran before: then the next pause is longer.
    Start {
        container: String,
        sandbox: String,
        restarts: u32,
        crashed: bool,
    },
    Kill {
        id: String,
        container: String,
        grace: i64,
        why: String,
    },
    RemoveContainer {
        id: String,
    },
    /// Tell of an image that is not pulled again yet.
    TellBackOff {
        container: String,
        failed_at: Timestamp,
    },
    /// Remove volumes, directories and logs.
    Cleanup,
    /// Remove the object.
    Delete,
}

impl Action {
    /// The job that it is; telling is none.
    pub fn job(&self) -> Option<Job> {
        Some(match self {
            Self::MountVolumes => Job::Volumes,
            Self::CreateSandbox { .. } => Job::Sandbox,
            Self::StopSandbox { id } => Job::StopSandbox(id.clone()),
            Self::RemoveSandbox { id } => Job::RemoveSandbox(id.clone()),
            Self::EnsureImage { container } => Job::Image(container.clone()),
            Self::Start { container, .. } => Job::Start(container.clone()),
            Self::Kill { id, grace, .. } => Job::Kill(id.clone(), *grace),
            Self::RemoveContainer { id } => Job::RemoveContainer(id.clone()),
            Self::Cleanup => Job::Cleanup,
            Self::Delete => Job::Delete,
            Self::TellBackOff { .. } => return None,
        })
    }
}

/// Why a container waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    pub reason: String,
    pub message: Option<String>,
}

/// What came out.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// Look again at this time, if nothing happens before.
    pub wake: Option<Timestamp>,
    /// By container.
    pub waiting: BTreeMap<String, Waiting>,
    /// The pod failed as a whole: reason and message.
    pub failed: Option<(&'static str, &'static str)>,
    /// No container runs, and none will.
    pub over: bool,
    /// Nothing of the pod is left here.
    pub done: bool,
}

/// Decides.
pub fn plan(view: &View<'_>) -> Plan {
    let mut planner = Planner { view, plan: Plan::default() };
    let deleting = view.removed || view.pod.is_deleting();
    if deleting || view.pod.is_terminal() || planner.is_late() || planner.is_complete() {
        planner.end(deleting);
    } else {
        planner.advance();
        planner.collect();
    }
    planner.plan
}

struct Planner<'a> {
    view: &'a View<'a>,
    plan: Plan,
}

impl Planner<'_> {
    /// Adds an action, unless it is under way or waits after a failure.
    fn act(&mut self, action: Action) {
        let Some(job) = action.job() else {
            self.plan.actions.push(action);
            return;
        };
        match self.view.memory.may(&job, self.view.now) {
            Ok(()) => self.plan.actions.push(action),
            Err(until) => self.wake(until),
        }
    }

    fn wake(&mut self, at: Option<Timestamp>) {
        self.plan.wake = match (self.plan.wake, at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn wait(&mut self, container: &Container, reason: &str, message: Option<String>) {
        let waiting = Waiting { reason: reason.to_owned(), message };
        self.plan.waiting.insert(container.name.clone(), waiting);
    }

    /// Whether the pod has been active for too long.
    fn is_late(&mut self) -> bool {
        let status = self.view.memory.status.as_ref().or(self.view.pod.status.as_ref());
        let started = status.and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        let Some(deadline) = self.view.pod.deadline(started) else { return false };
        if self.view.now < deadline {
            self.wake(Some(deadline));
            return false;
        }
        // Whoever was through in time is not blamed.
        let limit = i64::try_from(deadline.as_nanosecond()).unwrap_or(i64::MAX);
        let late = self.view.observed.containers.iter().any(|container| container.finished_at > limit);
        if late || !self.is_complete() {
            self.plan.failed = Some(DEADLINE);
        }
        true
    }

    /// Whether all containers did what they had to do, or an init container failed for good.
    fn is_complete(&self) -> bool {
        let pod = self.view.pod;
        let over = |container: &Container, wanted: fn(i32) -> bool| {
            let latest = self.view.observed.latest(&container.name);
            latest.is_some_and(|latest| {
                latest.state == State::Exited
                    && wanted(latest.exit_code)
                    && !restarts(pod, container, latest.exit_code)
            })
        };
        let init_failed = pod
            .init_containers()
            .iter()
            .any(|container| !is_sidecar(container) && over(container, |code| code != 0));
        let idle = !self.view.memory.is_creating();
        idle && (init_failed
            || (!pod.containers().is_empty() && pod.containers().iter().all(|c| over(c, |_| true))))
    }

    fn end(&mut self, deleting: bool) {
        let (observed, memory) = (self.view.observed, self.view.memory);
        if self.kill_all() || memory.is_creating() {
            return;
        }
        self.plan.over = true;
        let ready: Vec<_> = observed.sandboxes.iter().filter(|sandbox| sandbox.ready).collect();
        for sandbox in &ready {
            self.act(Action::StopSandbox { id: sandbox.id.clone() });
        }
        if !ready.is_empty() || !deleting {
            return;
        }
        // The runtime is asked to forget the containers only after the API server knows how they ended.
        let is_known = memory.frozen && memory.acknowledged == memory.status;
        if !self.view.removed && !is_known {
            return;
        }
        for sandbox in &observed.sandboxes {
            self.act(Action::RemoveSandbox { id: sandbox.id.clone() });
        }
        if !observed.sandboxes.is_empty() {
            return;
        }
        if !memory.cleaned {
            self.act(Action::Cleanup);
        } else if self.view.removed || memory.deleted {
            self.plan.done = true;
        } else {
            self.act(Action::Delete);
        }
    }

    /// Kills what runs: first all but the sidecars, then those, the last one first. False when nothing runs.
    fn kill_all(&mut self) -> bool {
        let (pod, observed) = (self.view.pod, self.view.observed);
        let running: Vec<&Instance> = observed
            .containers
            .iter()
            .filter(|c| matches!(c.state, State::Running | State::Unknown))
            .collect();
        if running.is_empty() {
            return false;
        }
        let sidecars: Vec<&str> =
            pod.init_containers().iter().filter(|c| is_sidecar(c)).map(|c| c.name.as_str()).collect();
        let mains: Vec<&&Instance> =
            running.iter().filter(|c| !sidecars.contains(&c.name.as_str())).collect();
        let victims: Vec<&Instance> = if mains.is_empty() {
            let last = sidecars.iter().rev().find_map(|name| running.iter().find(|c| c.name == **name));
            last.map(|instance| vec![*instance]).unwrap_or_default()
        } else {
            mains.into_iter().copied().collect()
        };
        for victim in victims {
            let why = format!("Stopping container {}", victim.name);
            self.kill(victim, pod.grace(), why);
        }
        true
    }

    fn kill(&mut self, instance: &Instance, grace: i64, why: String) {
        // A kill that is under way is repeated only when there is less time now.
        if self.view.memory.kills.get(&instance.id).is_some_and(|given| *given <= grace) {
            return;
        }
        self.act(Action::Kill { id: instance.id.clone(), container: instance.name.clone(), grace, why });
    }

    fn advance(&mut self) {
        let memory = self.view.memory;
        let refresh = memory.mounted.is_none_or(|again| again.is_some_and(|again| again <= self.view.now));
        if refresh {
            self.act(Action::MountVolumes);
        }
        self.wake(memory.mounted.flatten().filter(|again| *again > self.view.now));
        let sandbox = self.sandbox();
        let initialized = self.init(sandbox.as_deref());
        let pod = self.view.pod;
        for container in pod.containers() {
            if initialized {
                self.main(container, sandbox.as_deref());
            } else if self.view.observed.latest(&container.name).is_none() {
                self.wait(container, "PodInitializing", None);
                self.prefetch(container);
            }
        }
    }

    /// Images are fetched while init containers run, so that what comes next starts at once.
    fn prefetch(&mut self, container: &Container) {
        if !self.view.memory.images.contains_key(&container.name)
            && container.image_pull_policy.as_deref() != Some("Always")
        {
            let job = Job::Image(container.name.clone());
            if !self.view.memory.failures.contains_key(&job) {
                self.act(Action::EnsureImage { container: container.name.clone() });
            }
        }
    }

    /// The id of a sandbox that works; if there is none, one is asked for.
    fn sandbox(&mut self) -> Option<String> {
        let observed = self.view.observed;
        if let Some(sandbox) = observed.sandbox() {
            return Some(sandbox.id.clone());
        }
        // What still runs in a sandbox that broke would hold its names and addresses.
        let survivors: Vec<&Instance> =
            observed.containers.iter().filter(|c| c.state == State::Running).collect();
        for survivor in &survivors {
            let why = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.kill(survivor, self.view.pod.grace(), why);
        }
        if survivors.is_empty() {
            let attempt = observed.sandboxes.first().map_or(0, |sandbox| sandbox.attempt + 1);
            self.act(Action::CreateSandbox { attempt });
        }
        None
    }

    /// Whether all init containers are through. Starts the one whose turn it is.
    fn init(&mut self, sandbox: Option<&str>) -> bool {
        let (pod, observed) = (self.view.pod, self.view.observed);
        // Once a container ran in this sandbox, the pod is initialized; sidecars are still looked after.
        let begun = sandbox.is_some_and(|sandbox| {
            pod.containers().iter().any(|c| observed.latest(&c.name).is_some_and(|i| i.sandbox == sandbox))
        });
        let mut through = true;
        for container in pod.init_containers() {
            if !through {
                self.wait(container, "PodInitializing", None);
                continue;
            }
            let latest = observed.latest(&container.name).filter(|i| sandbox.is_none_or(|s| i.sandbox == s));
            if is_sidecar(container) {
                let started = self.sidecar(container, sandbox);
                through = begun || started;
                continue;
            }
            match latest {
                _ if begun => {}
                Some(latest) if latest.state == State::Exited && latest.exit_code == 0 => {}
                Some(latest) if latest.state == State::Running => through = false,
                _ => {
                    self.start(container, latest, sandbox);
                    through = false;
                }
            }
        }
        through || begun
    }

    /// Looks after a sidecar; whether it has started.
    fn sidecar(&mut self, container: &Container, sandbox: Option<&str>) -> bool {
        let latest = self.view.observed.latest(&container.name);
        match latest {
            Some(latest) if latest.state == State::Running => {
                self.check(container, latest);
                is_started(self.view.memory, container, latest)
            }
            latest => {
                self.start(container, latest, sandbox);
                false
            }
        }
    }

    fn main(&mut self, container: &Container, sandbox: Option<&str>) {
        match self.view.observed.latest(&container.name) {
            Some(latest) if latest.state == State::Running => self.check(container, latest),
            Some(latest)
                if latest.state == State::Exited && !restarts(self.view.pod, container, latest.exit_code) => {
            }
            latest => self.start(container, latest, sandbox),
        }
    }

    /// Kills a running container that is unhealthy or is not what the pod says any more.
    fn check(&mut self, container: &Container, instance: &Instance) {
        let health = self.view.memory.health.get(&container.name).filter(|health| health.id == instance.id);
        let why = match health.and_then(|health| health.unhealthy) {
            Some(probe) => format!("Container {} failed {probe} probe, will be restarted", container.name),
            None if !instance.hash.is_empty() && instance.hash != hash(container) => {
                format!("Container {} definition changed, will be restarted", container.name)
            }
            None => return,
        };
        let probe = match health.and_then(|health| health.unhealthy) {
            Some("liveness") => container.liveness_probe.as_ref(),
            Some("startup") => container.startup_probe.as_ref(),
            _ => None,
        };
        let grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
        self.kill(instance, grace.unwrap_or_else(|| self.view.pod.grace()), why);
    }

    /// Brings a container that does not run one step nearer to running.
    fn start(&mut self, container: &Container, latest: Option<&Instance>, sandbox: Option<&str>) {
        let (memory, name) = (self.view.memory, &container.name);
        match latest.map(|latest| (latest.state, latest)) {
            // A kubelet died between creating and starting it.
            Some((State::Created, latest)) if !memory.running.contains(&Job::Start(name.clone())) => {
                self.act(Action::RemoveContainer { id: latest.id.clone() });
                return self.wait(container, "ContainerCreating", None);
            }
            Some((State::Unknown, latest)) => {
                return self.kill(
                    latest,
                    self.view.pod.grace(),
                    format!("Container {name} is in unknown state, try killing it before restart"),
                );
            }
            Some((State::Exited, latest)) if self.is_paused(container, latest) => return,
            _ => {}
        }
        self.explain(container, latest);
        let job = Job::Start(name.clone());
        if memory.running.contains(&job) {
            return;
        }
        if !memory.images.contains_key(name) {
            self.act(Action::EnsureImage { container: name.clone() });
        }
        let (Some(sandbox), true, Some(_)) = (sandbox, memory.images.contains_key(name), memory.mounted)
        else {
            return;
        };
        let status = self.view.pod.status.as_ref();
        let lists =
            status.into_iter().flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses));
        let known = lists.flatten().find(|status| status.name == *name);
        // If the runtime forgot what ran before, the API server still knows how often.
        let counted = known.map_or(0, |status| {
            u32::try_from(status.restart_count).unwrap_or(0) + u32::from(status.container_id.is_some())
        });
        let restarts = latest.map_or(counted, |latest| latest.restarts + 1);
        self.act(Action::Start {
            container: name.clone(),
            sandbox: sandbox.to_owned(),
            restarts,
            crashed: latest.is_some_and(|latest| latest.state == State::Exited),
        });
    }

    /// Whether a container that exited has to wait before it starts again.
    fn is_paused(&mut self, container: &Container, latest: &Instance) -> bool {
        let Some(pause) = self.view.memory.pauses.get(&container.name) else { return false };
        let Ok(finished) = Timestamp::from_nanosecond(i128::from(latest.finished_at)) else { return false };
        let Ok(until) = finished.checked_add(pause.pause) else { return false };
        if until <= self.view.now {
            return false;
        }
        let message = format!(
            "back-off {} restarting failed container={} pod={}",
            go_duration(pause.pause),
            container.name,
            self.view.pod.described()
        );
        self.wait(container, "CrashLoopBackOff", Some(message));
        let told = self.view.memory.told.get(&container.name);
        if told != Some(&finished) {
            self.plan
                .actions
                .push(Action::TellBackOff { container: container.name.clone(), failed_at: finished });
        }
        self.wake(Some(until));
        true
    }

    /// Says why a container does not run yet.
    fn explain(&mut self, container: &Container, latest: Option<&Instance>) {
        let (memory, now) = (self.view.memory, self.view.now);
        if let Some(failure) = memory.failures.get(&Job::Start(container.name.clone())) {
            self.wake(Some(failure.retry_at).filter(|at| *at > now));
            let (reason, message) = (failure.reason.clone(), failure.message.clone());
            return self.wait(container, &reason, Some(message));
        }
        if let Some(failure) = memory.failures.get(&Job::Image(container.name.clone())) {
            let shown_until = failure.at.checked_add(SHOW_PULL_ERROR).unwrap_or(failure.at);
            let (reason, message, at) = (failure.reason.clone(), failure.message.clone(), failure.at);
            if reason != "ErrImagePull" || now < shown_until {
                self.wake(Some(shown_until).filter(|until| *until > now));
                return self.wait(container, &reason, Some(message));
            }
            if memory.told.get(&container.name) != Some(&at) {
                self.plan
                    .actions
                    .push(Action::TellBackOff { container: container.name.clone(), failed_at: at });
            }
            let image = container.image.as_deref().unwrap_or_default();
            let message = format!("Back-off pulling image {image:?}: ErrImagePull: {message}");
            return self.wait(container, "ImagePullBackOff", Some(message));
        }
        if latest.is_none_or(|latest| latest.state != State::Exited) {
            let many = !self.view.pod.init_containers().is_empty();
            self.wait(container, if many { "PodInitializing" } else { "ContainerCreating" }, None);
        }
    }

    /// Of each container the newest and the one before are kept, and sandboxes as long as they hold one of those.
    fn collect(&mut self) {
        let observed = self.view.observed;
        let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
        let mut kept: Vec<&str> = Vec::new();
        for instance in &observed.containers {
            let count = seen.entry(&instance.name).or_insert(0);
            *count += 1;
            if *count > 2 && instance.state != State::Running {
                self.act(Action::RemoveContainer { id: instance.id.clone() });
            } else {
                kept.push(&instance.sandbox);
            }
        }
        if self.view.memory.is_creating() {
            return;
        }
        for sandbox in observed.sandboxes.iter().skip(1) {
            if sandbox.ready {
                self.act(Action::StopSandbox { id: sandbox.id.clone() });
            } else if !kept.contains(&sandbox.id.as_str()) {
                self.act(Action::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
    }
}

/// Whether a running container has started, as its startup probe says if it has one.
pub fn is_started(memory: &Memory, container: &Container, instance: &Instance) -> bool {
    let health = memory.health.get(&container.name).filter(|health| health.id == instance.id);
    instance.state == State::Running
        && (container.startup_probe.is_none() || health.is_some_and(|health| health.started))
}

/// A duration as Go writes it: `1m20s`.
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
