//! Giving running containers other resources, in place where their policy allows it.

use std::collections::BTreeMap;

use super::{Action, Planner};
use crate::pods::memory::Job;
use crate::pods::observed::State;
use crate::pods::resize::{Change, change};
use crate::pods::resources;
use crate::pods::spec::PodExt;
use crate::volumes::empty;

impl Planner<'_> {
    /// Brings what containers have in line with what is allocated to them.
    pub(super) fn resize(&mut self) {
        let (pod, observed) = (self.view.pod, self.view.observed);
        let actuated = &self.view.memory.resize.actuated;
        let mut in_place = Vec::new();
        let (mut settled, mut restarts) = (true, false);
        for container in pod.init_containers().iter().chain(pod.containers()) {
            let Some(latest) = observed.latest(&container.name).filter(|c| c.state == State::Running) else {
                continue;
            };
            let Some(has) = actuated.get(&latest.id) else { continue };
            let wants = resources::given_in(pod, container);
            match change(container.resize_policy.as_ref(), has, &wants) {
                Change::None => continue,
                Change::InPlace => in_place.push((latest.id.clone(), container.name.clone())),
                Change::Restart => {
                    restarts = true;
                    let why =
                        format!("Container {} resize requires restart, will be restarted", container.name);
                    self.kill(latest, pod.grace(), why);
                }
            }
            settled = false;
        }
        let regroups = self.regroups();
        let resizes_volumes = self.resizes_volumes();
        settled &= !regroups && !resizes_volumes;
        self.plan.resized = settled && self.view.memory.resize.in_progress.is_some();
        // A group cannot have less than what is in it: whoever is to be started anew goes first.
        let is_due = !restarts && (regroups || resizes_volumes || !in_place.is_empty());
        if let (true, Some(sandbox)) = (is_due, observed.sandbox()) {
            self.act(Action::Resize { containers: in_place, sandbox: sandbox.id.clone() });
        }
    }

    /// Whether the pod's cgroup is to have something else than it has.
    fn regroups(&self) -> bool {
        let group = &self.view.memory.resize.group;
        group.as_ref().is_some_and(|group| *group != resources::pod_limits(self.view.pod))
    }

    /// Whether a volume in memory is to have another size than it has.
    fn resizes_volumes(&self) -> bool {
        let has = &self.view.memory.resize.volumes;
        let wants = if has.is_empty() { BTreeMap::new() } else { empty::sizes(self.view.pod) };
        has.iter().any(|(name, has)| wants.get(name).is_some_and(|wants| wants != has))
    }

    /// Whether the pod's cgroup must grow before a container can be started in it, and may yet.
    pub(super) fn is_cramped(&self) -> bool {
        let memory = self.view.memory;
        let Some(has) = &memory.resize.group else { return false };
        let wants = resources::pod_limits(self.view.pod);
        let grows = |has: Option<i64>, wants: Option<i64>| {
            has.is_some_and(|has| wants.is_none_or(|wants| has < wants))
        };
        (grows(has.cpu_quota, wants.cpu_quota) || grows(has.memory, wants.memory))
            && !memory.failures.contains_key(&Job::Resize)
    }
}
