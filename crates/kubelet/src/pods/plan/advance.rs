//! The way of a pod from nothing to running, and what keeps it there.

use k8s_openapi::api::core::v1::Container;

use super::{Action, Planner, is_started};
use crate::pods::memory::Job;
use crate::pods::observed::{Instance, State};
use crate::pods::spec::{PodExt, as_container, hash, is_sidecar, restarts};

impl Planner<'_> {
    pub(super) fn advance(&mut self) {
        let memory = self.view.memory;
        let refresh = memory.mounted.is_none_or(|again| again.is_some_and(|again| again <= self.view.now));
        if refresh {
            self.act(Action::MountVolumes);
        }
        self.wake(memory.mounted.flatten().filter(|again| *again > self.view.now));
        let sandbox = self.sandbox();
        if sandbox.is_some() {
            self.ephemeral(sandbox.as_deref());
        }
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

    /// Ephemeral containers start whenever there is a sandbox, and never again.
    fn ephemeral(&mut self, sandbox: Option<&str>) {
        for ephemeral in self.view.pod.ephemeral_containers() {
            let latest = self.view.observed.latest(&ephemeral.name);
            let known =
                self.view.pod.status.iter().flat_map(|s| s.ephemeral_container_statuses.iter().flatten());
            let ended = known
                .filter(|status| status.name == ephemeral.name)
                .any(|status| status.state.as_ref().is_some_and(|state| state.terminated.is_some()));
            if latest.is_none_or(|latest| latest.state == State::Created) && !ended {
                self.start(&as_container(ephemeral), latest, sandbox);
            }
        }
    }

    /// Images are fetched while init containers run, so that what comes next starts at once.
    fn prefetch(&mut self, container: &Container) {
        if self.view.memory.fetched(container).is_none()
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
                if latest.state == State::Exited
                    && !restarts(self.view.pod, container, latest.exit_code)
                    && !self.view.memory.replaced.contains(&latest.id) => {}
            latest => self.start(container, latest, sandbox),
        }
    }

    /// Kills a running container that is unhealthy or is not what the pod says any more.
    fn check(&mut self, container: &Container, instance: &Instance) {
        let health = self.view.memory.health.get(&container.name).filter(|health| health.id == instance.id);
        let changed = !instance.hash.is_empty() && instance.hash != hash(container);
        let unhealthy = health.and_then(|health| health.unhealthy);
        let why = match unhealthy {
            Some(probe) => format!("Container {} failed {probe} probe, will be restarted", container.name),
            None if changed => {
                format!("Container {} definition changed, will be restarted", container.name)
            }
            None => return,
        };
        let probe = match unhealthy {
            Some("liveness") => container.liveness_probe.as_ref(),
            Some("startup") => container.startup_probe.as_ref(),
            _ => None,
        };
        let grace = probe.and_then(|probe| probe.termination_grace_period_seconds);
        self.kill_for(instance, grace.unwrap_or_else(|| self.view.pod.grace()), why, changed);
    }
}
