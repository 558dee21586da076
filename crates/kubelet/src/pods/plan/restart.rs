//! `RestartAllContainers`: a container's exit lets the whole pod begin anew in its sandbox (KEP-5532).
//!
//! All others are killed and removed first, and whoever began it last: as long as that one is there, everything of
//! this can be decided again from what is seen.

use super::{Action, Planner};
use crate::pods::observed::{Instance, State};
use crate::pods::spec::{PodExt, restarts_all};

impl Planner<'_> {
    /// Whether a container's exit lets the whole pod begin anew.
    fn begins_anew(&self, instance: &Instance) -> bool {
        let (pod, observed) = (self.view.pod, self.view.observed);
        let latest = observed.latest(&instance.name).is_some_and(|latest| latest.id == instance.id);
        let mut lasting = pod.init_containers().iter().chain(pod.containers());
        let lasting = lasting.find(|c| c.name == instance.name);
        latest
            && instance.state == State::Exited
            && lasting.is_some_and(|container| restarts_all(container, instance.exit_code))
    }

    /// Whether it was such an exit that ended the last of the main containers: a sidecar that ends after them lets nothing
    /// begin anew.
    pub(super) fn is_reset(&self) -> bool {
        let (pod, observed) = (self.view.pod, self.view.observed);
        let mains = pod.containers().iter().filter_map(|container| observed.latest(&container.name));
        let last = mains.map(|instance| instance.finished_at).max();
        let mut sources = observed.containers.iter().filter(|instance| self.begins_anew(instance));
        sources.any(|source| last.is_some_and(|last| source.finished_at <= last))
    }

    /// Whether the pod is being reset; does the next step of it.
    pub(super) fn restart_all(&mut self) -> bool {
        let (pod, observed) = (self.view.pod, self.view.observed);
        let begins = |instance: &Instance| self.begins_anew(instance);
        let lasting = |instance: &&Instance| {
            !pod.ephemeral_containers().iter().any(|ephemeral| ephemeral.name == instance.name)
        };
        let (sources, targets): (Vec<&Instance>, Vec<&Instance>) =
            observed.containers.iter().filter(lasting).partition(|instance| begins(instance));
        if sources.is_empty() || observed.sandbox().is_none() {
            return false;
        }
        self.plan.restarting_all = true;
        for instance in &targets {
            match instance.state {
                State::Running | State::Unknown => {
                    let why = format!("Container {} will be restarted with all others", instance.name);
                    self.kill(instance, pod.grace(), why);
                }
                State::Created | State::Exited => {
                    self.act(Action::RemoveContainer { id: instance.id.clone() });
                }
            }
        }
        if targets.is_empty() && !self.view.memory.is_creating() {
            for source in sources {
                self.act(Action::RemoveContainer { id: source.id.clone() });
            }
        }
        true
    }
}
