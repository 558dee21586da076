//! Pods that have no node because of others, and who is woken when others come or change.

use std::sync::Arc;

use client::Change;

use super::decide::Verdict;
use super::{Scheduler, is_ours};
use crate::plan::Decision;
use crate::view::{NamespaceView, PodView};

impl Scheduler {
    /// A pod was decided about. The caller still holds the snapshot, so that no change is missed.
    pub(super) fn remember(&self, key: String, verdict: &Verdict) {
        let waits = verdict.by_others && matches!(verdict.decision, Decision::Unschedulable(..));
        match waits {
            true => self.lonely.lock().insert(key),
            false => self.lonely.lock().remove(&key),
        };
    }

    /// A pod has a node now, or its labels are others than before: that may help those that look for company.
    pub(super) fn heard_of_pod(&self, old: Option<&Arc<PodView>>, new: &PodView) {
        let is_news = old.is_none_or(|old| {
            old.spec.node_name != new.spec.node_name
                || old.metadata.labels != new.metadata.labels
                || old.metadata.deletion_timestamp.is_some() != new.metadata.deletion_timestamp.is_some()
        });
        if is_news && new.takes_room() {
            self.wake_lonely();
        }
    }

    /// Whether a pod is met by others' rules can depend on its namespace's labels.
    pub(super) fn heard_of_namespace(&self, change: &Change<'_, NamespaceView>) {
        match change {
            Change::Set { key, old, new } => {
                if old.is_some_and(|old| old.metadata.labels == new.metadata.labels) {
                    return;
                }
                self.snapshot.lock().set_namespace(key, new.metadata.labels.clone());
            }
            Change::Removed { key, .. } => self.snapshot.lock().remove_namespace(key),
        }
        self.wake_lonely();
    }

    fn wake_lonely(&self) {
        let Some(pods) = self.pods.get() else { return };
        let keys = {
            let mut lonely = self.lonely.lock();
            if lonely.is_empty() {
                return;
            }
            lonely.retain(|key| pods.get(key).is_some_and(|pod| is_ours(&pod)));
            lonely.clone()
        };
        keys.iter().for_each(|key| self.queue.retry(key));
    }
}
