//! Decides what a pod needs next. Pure: the pod, what the runtime says of it and what the worker remembers go in;
//! actions, the reasons why containers wait, and the time to look again come out.

mod advance;
mod collect;
mod end;
mod resize;
mod restart;
mod start;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::memory::{Job, Memory};
use super::observed::{Instance, Observed, State};
use super::spec::PodExt;

/// What is decided upon.
pub struct View<'a> {
    pub pod: &'a Pod,
    /// The pod is gone from the API.
    pub removed: bool,
    pub observed: &'a Observed,
    /// How many jobs had ended when that was looked at.
    pub as_of: u64,
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
        /// Whether it makes way for what the pod says now: then it starts again, whatever its policy.
        replaces: bool,
    },
    /// Tell a container that it is to stop, and run its hook, before it is its turn.
    PreStop {
        id: String,
        container: String,
        grace: i64,
        why: String,
    },
    RemoveContainer {
        id: String,
    },
    /// Give running containers what is allocated to them: ids and names.
    Resize {
        containers: Vec<(String, String)>,
        sandbox: String,
    },
    /// Tell of an image that is not pulled again yet.
    TellBackOff {
        container: String,
        failed_at: Timestamp,
    },
    /// Remove what a pod that is over has no use for: volumes and cgroups, and its logs, too, if its containers are gone.
    Retire {
        logs: bool,
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
            Self::PreStop { id, .. } => Job::PreStop(id.clone()),
            Self::RemoveContainer { id } => Job::RemoveContainer(id.clone()),
            Self::Resize { .. } => Job::Resize,
            Self::Retire { .. } => Job::Retire,
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
    pub failed: Option<(String, String)>,
    /// All that runs is being stopped, within so many seconds.
    pub stopping: Option<i64>,
    /// All containers begin anew, since one of them ended so.
    pub restarting_all: bool,
    /// All containers have what is allocated to them.
    pub resized: bool,
    /// No container runs, and none will.
    pub over: bool,
    /// Nothing of the pod is left here.
    pub done: bool,
    /// A job has ended since the runtime was asked, and what it did is not seen, or only in part: nothing is decided.
    pub outdated: bool,
}

/// Decides.
pub fn plan(view: &View<'_>) -> Plan {
    if view.as_of != view.memory.ended {
        return Plan { outdated: true, ..Plan::default() };
    }
    let mut planner = Planner { view, plan: Plan::default() };
    let deleting = view.removed || view.pod.is_deleting();
    let is_complete = planner.is_complete() && !planner.is_reset();
    if deleting || view.pod.is_terminal() || planner.is_ended() || planner.is_late() || is_complete {
        planner.end(deleting);
    } else if !planner.restart_all() {
        planner.advance();
        planner.resize();
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

    fn kill(&mut self, instance: &Instance, grace: i64, why: String) {
        self.kill_for(instance, grace, why, false);
    }

    /// The same; with `replaces`, it starts again as the pod says now.
    fn kill_for(&mut self, instance: &Instance, grace: i64, why: String, replaces: bool) {
        // A kill that is under way is repeated only when there is less time now.
        if self.view.memory.kills.get(&instance.id).is_some_and(|given| *given <= grace) {
            return;
        }
        let (id, container) = (instance.id.clone(), instance.name.clone());
        self.act(Action::Kill { id, container, grace, why, replaces });
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
