//! Giving running containers other resources, in place where their policy allows it.

use super::{Action, Planner};
use crate::pods::observed::State;
use crate::pods::resize::{Change, change};
use crate::pods::spec::PodExt;

impl Planner<'_> {
    /// Brings what containers have in line with what is allocated to them.
    pub(super) fn resize(&mut self) {
        let (pod, observed) = (self.view.pod, self.view.observed);
        let actuated = &self.view.memory.resize.actuated;
        let mut in_place = Vec::new();
        let mut settled = true;
        for container in pod.init_containers().iter().chain(pod.containers()) {
            let Some(latest) = observed.latest(&container.name).filter(|c| c.state == State::Running) else {
                continue;
            };
            let Some(has) = actuated.get(&latest.id) else { continue };
            let wants = container.resources.clone().unwrap_or_default();
            match change(container.resize_policy.as_ref(), has, &wants) {
                Change::None => continue,
                Change::InPlace => in_place.push((latest.id.clone(), container.name.clone())),
                Change::Restart => {
                    let why =
                        format!("Container {} resize requires restart, will be restarted", container.name);
                    self.kill(latest, pod.grace(), why);
                }
            }
            settled = false;
        }
        self.plan.resized = settled && self.view.memory.resize.in_progress.is_some();
        if let (false, Some(sandbox)) = (in_place.is_empty(), observed.sandbox()) {
            self.act(Action::Resize { containers: in_place, sandbox: sandbox.id.clone() });
        }
    }
}
