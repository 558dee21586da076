//! One container on its way to running: its image, its back-off, the reasons why it waits.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Container;

use super::{Action, Planner, go_duration};
use crate::pods::memory::Job;
use crate::pods::observed::{Instance, State};
use crate::pods::spec::{PodExt, crash_key};

/// How long an image's error is shown as such before it is shown as a back-off.
const SHOW_PULL_ERROR: SignedDuration = SignedDuration::from_secs(2);

impl Planner<'_> {
    /// Brings a container that does not run one step nearer to running.
    pub(super) fn start(&mut self, container: &Container, latest: Option<&Instance>, sandbox: Option<&str>) {
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
        let fetched = memory.fetched(container).is_some();
        if !fetched {
            self.act(Action::EnsureImage { container: name.clone() });
        }
        let (Some(sandbox), true, Some(_)) = (sandbox, fetched, memory.mounted) else { return };
        if self.is_cramped() {
            return;
        }
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
        let Some(pause) = self.view.memory.pauses.get(&crash_key(container)) else { return false };
        // What the runtime says of when it ended is by a clock that may have been set since, either way.
        let Some(finished) = self.view.memory.exits.get(&latest.id).copied() else { return false };
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
        let unpulled = memory.unpulled(self.view.pod, container);
        if let Some(failure) = memory.failures.get(&Job::Start(container.name.clone()))
            && !failure.is_of_pull()
        {
            self.wake(Some(failure.retry_at).filter(|at| *at > now));
            let (reason, message) = (failure.reason.clone(), failure.message.clone());
            return self.wait(container, &reason, Some(message));
        }
        if let Some((image, failure)) = unpulled {
            let shown_until = failure.at.checked_add(SHOW_PULL_ERROR).unwrap_or(failure.at);
            let (reason, message, at) = (failure.reason.clone(), failure.message.clone(), failure.at);
            if !failure.is_of_pull() || now < shown_until {
                self.wake(Some(shown_until).filter(|until| *until > now));
                return self.wait(container, &reason, Some(message));
            }
            if memory.told.get(&container.name) != Some(&at) {
                self.plan
                    .actions
                    .push(Action::TellBackOff { container: container.name.clone(), failed_at: at });
            }
            let message = format!("Back-off pulling image {image:?}: {reason}: {message}");
            return self.wait(container, "ImagePullBackOff", Some(message));
        }
        if latest.is_none_or(|latest| latest.state != State::Exited) {
            let many = !self.view.pod.init_containers().is_empty();
            self.wait(container, if many { "PodInitializing" } else { "ContainerCreating" }, None);
        }
    }
}
