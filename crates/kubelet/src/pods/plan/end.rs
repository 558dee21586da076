//! The end of a pod: of itself, by its deadline, by whoever deletes it, or by its node.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Container;

use super::{Action, Planner};
use crate::pods::memory::Job;
use crate::pods::observed::{Instance, State};
use crate::pods::spec::{MINIMUM_GRACE, PodExt, is_sidecar, restarts};

const DEADLINE: (&str, &str) =
    ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");

impl Planner<'_> {
    /// Whether the node itself has given the pod up: evicted, refused, or shut down.
    pub(super) fn is_ended(&mut self) -> bool {
        let Some(ending) = &self.view.memory.ending else { return false };
        self.plan.failed = Some((ending.reason.clone(), ending.message.clone()));
        true
    }

    /// How long containers have to stop, in seconds: at least one, in which a hook can run
    /// (`calculateEffectiveGracePeriod`).
    fn grace(&self) -> i64 {
        let given = self.view.memory.ending.as_ref().and_then(|ending| ending.grace_seconds);
        given.map_or_else(|| self.view.pod.grace(), |given| given.min(self.view.pod.grace())).max(1)
    }

    /// Whether the pod has been active for too long.
    pub(super) fn is_late(&mut self) -> bool {
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
            self.plan.failed = Some((DEADLINE.0.to_owned(), DEADLINE.1.to_owned()));
        }
        true
    }

    /// Whether all containers did what they had to do, or an init container failed for good.
    pub(super) fn is_complete(&self) -> bool {
        let pod = self.view.pod;
        let over = |container: &Container, wanted: fn(i32) -> bool| {
            let latest = self.view.observed.latest(&container.name);
            latest.is_some_and(|latest| {
                latest.state == State::Exited
                    && wanted(latest.exit_code)
                    && !restarts(pod, container, latest.exit_code)
                    && !self.view.memory.replaced.contains(&latest.id)
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

    pub(super) fn end(&mut self, deleting: bool) {
        let (observed, memory) = (self.view.observed, self.view.memory);
        if self.kill_all() || memory.is_creating() {
            return;
        }
        self.plan.over = true;
        let ready: Vec<_> = observed.sandboxes.iter().filter(|sandbox| sandbox.ready).collect();
        for sandbox in &ready {
            self.act(Action::StopSandbox { id: sandbox.id.clone() });
        }
        if !ready.is_empty() {
            return;
        }
        if !deleting {
            self.retire();
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
        if memory.running.contains(&Job::Volumes) {
            // What it makes would be left behind.
        } else if !memory.cleaned {
            self.act(Action::Cleanup);
        } else if self.view.removed || memory.deleted {
            self.plan.done = true;
        } else {
            self.act(Action::Delete);
        }
    }

    /// A pod that is over and stays in the API gives back what it had of the node. Its containers and logs stay to be
    /// looked at, unless it was evicted or the node needs its disk.
    fn retire(&mut self) {
        let (observed, memory) = (self.view.observed, self.view.memory);
        let Some(status) =
            memory.status.as_ref().filter(|status| memory.acknowledged.as_ref() == Some(*status))
        else {
            return;
        };
        let phase = status.phase.as_deref();
        if !matches!(phase, Some("Succeeded" | "Failed")) || memory.running.contains(&Job::Volumes) {
            return;
        }
        let evicted = phase == Some("Failed") && status.reason.as_deref() == Some("Evicted");
        let strip = evicted || memory.strip;
        if strip && !observed.sandboxes.is_empty() {
            for sandbox in &observed.sandboxes {
                self.act(Action::RemoveSandbox { id: sandbox.id.clone() });
            }
        } else if !memory.retired || strip && !memory.stripped {
            self.act(Action::Retire { logs: strip });
        }
    }

    /// Stops what runs: sidecars after all others, the last one first, and all of them within the one grace period
    /// (upstream's `terminationOrdering`). Hooks run at once. False when nothing runs.
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
        self.plan.stopping = Some(self.grace());
        let sidecars: Vec<&str> =
            pod.init_containers().iter().filter(|c| is_sidecar(c)).map(|c| c.name.as_str()).collect();
        let runs = |name: &str| running.iter().any(|instance| instance.name == name);
        for victim in &running {
            match sidecars.iter().position(|name| *name == victim.name) {
                Some(at) => {
                    let mut before = pod
                        .containers()
                        .iter()
                        .map(|c| c.name.as_str())
                        .chain(sidecars.iter().skip(at + 1).copied());
                    self.stop_sidecar(victim, before.any(runs));
                }
                None => self.kill(victim, self.grace(), stopping(victim)),
            }
        }
        true
    }

    /// Stops a sidecar, or only tells it while others are to end before it.
    fn stop_sidecar(&mut self, victim: &Instance, is_early: bool) {
        let (memory, grace) = (self.view.memory, self.grace());
        let begun = memory.stopping.filter(|stopping| stopping.grace == grace);
        // Its time is short already, and gets no shorter because it passes.
        if begun.is_some() && memory.kills.get(&victim.id).is_some_and(|given| *given <= grace) {
            return;
        }
        let since = begun.map_or(self.view.now, |stopping| stopping.since);
        let left = (grace - self.view.now.duration_since(since).as_secs()).clamp(0, grace);
        let is_told = memory.prepared.contains(&victim.id);
        let is_busy = memory.running.contains(&Job::PreStop(victim.id.clone()));
        if left > 0 && (is_early || is_busy) {
            self.wake(since.checked_add(SignedDuration::from_secs(grace)).ok());
            if !is_told {
                let (id, container) = (victim.id.clone(), victim.name.clone());
                self.act(Action::PreStop { id, container, grace: left, why: stopping(victim) });
            }
            return;
        }
        self.kill(victim, left.max(MINIMUM_GRACE.min(grace)), stopping(victim));
    }
}

fn stopping(instance: &Instance) -> String {
    format!("Stopping container {}", instance.name)
}
