//! Pods that have no node because of others, and who is woken when others come or change.

use std::sync::Arc;

use client::Change;

use super::Scheduler;
use super::decide::Verdict;
use crate::plan::{Decision, concerns};
use crate::snapshot::Snapshot;
use crate::view::{NamespaceView, PodView};

impl Scheduler {
    /// A pod was decided about. The caller still holds the snapshot, so that no change is missed.
    pub(super) fn remember(&self, pod: &Arc<PodView>, verdict: &Verdict) {
        let waits = verdict.by_others && matches!(verdict.decision, Decision::Unschedulable(..));
        match waits {
            true => self.lonely.lock().insert(pod.metadata.key(), pod.clone()),
            false => self.lonely.lock().remove(&pod.metadata.key()),
        };
    }

    /// A pod has a node now, or its labels are others than before: that may help those that look for company.
    pub(super) fn heard_of_pod(&self, old: Option<&Arc<PodView>>, new: &Arc<PodView>) {
        let is_news = old.is_none_or(|old| {
            old.spec.node_name != new.spec.node_name
                || old.metadata.labels != new.metadata.labels
                || old.metadata.deletion_timestamp.is_some() != new.metadata.deletion_timestamp.is_some()
        });
        if is_news && new.takes_room() {
            let seen: Vec<&Arc<PodView>> = old.into_iter().chain([new]).collect();
            self.wake_lonely(|snapshot, pod| seen.iter().any(|seen| concerns(pod, seen, snapshot)));
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
        self.wake_lonely(|_, _| true);
    }

    /// Those try again whom it may help; they are lonely no more until they have been decided about again.
    fn wake_lonely(&self, may_help: impl Fn(&Snapshot, &PodView) -> bool) {
        if self.lonely.lock().is_empty() {
            return;
        }
        let snapshot = self.snapshot.lock();
        let mut woken = Vec::new();
        self.lonely.lock().retain(|key, pod| {
            let wakes = may_help(&snapshot, pod);
            if wakes {
                woken.push(key.clone());
            }
            !wakes
        });
        drop(snapshot);
        woken.iter().for_each(|key| self.queue.retry(key));
    }
}
