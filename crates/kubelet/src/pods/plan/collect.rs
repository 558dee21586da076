//! What a living pod leaves behind and nobody needs.

use std::collections::BTreeMap;

use super::{Action, Planner};
use crate::pods::observed::State;

impl Planner<'_> {
    /// Of each container the newest and the one before are kept, and sandboxes as long as they hold one of those.
    pub(super) fn collect(&mut self) {
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
