//! Volumes: what pods need of them, what they get, and who is woken when they change.

use std::sync::Arc;

use super::decide::Verdict;
use super::{Scheduler, is_ours};
use crate::plan::Decision;
use crate::plan::volumes::{Found, Hindrance, Wanted, wanted};
use crate::view::PodView;
use crate::volumes::{BindError, Standing};

impl Scheduler {
    /// What a pod needs of volumes.
    pub(super) fn wanted(&self, pod: &PodView) -> Result<Option<Wanted<'_>>, Hindrance> {
        self.volumes.get().map_or(Ok(None), |known| wanted(pod, known))
    }

    /// A pod is about to be decided about: from now on it hears of volumes.
    pub(super) fn look_out(&self, pod: &PodView) {
        if !pod.spec.volumes.is_empty() {
            self.stalled.lock().insert(pod.metadata.key());
        }
    }

    /// A pod was decided about: volumes concern it no more unless they are in its way.
    pub(super) fn looked(&self, pod: &PodView, verdict: &Verdict) {
        let stalls = verdict.by_volumes && matches!(verdict.decision, Decision::Unschedulable(..));
        if !pod.spec.volumes.is_empty() && !stalls {
            self.stalled.lock().remove(&pod.metadata.key());
        }
    }

    /// From now on what was found is nobody else's.
    pub(super) fn assume(&self, found: &mut Found, node: &str) {
        if let Some(known) = self.volumes.get() {
            known.assume(found, node);
        }
    }

    /// What was found is anybody's again.
    pub(super) fn release(&self, found: &Found) {
        if let Some(known) = self.volumes.get() {
            known.release(found);
        }
    }

    /// Tells of a pod that it is about to have a node (KEP-5278): what it waits for may take long.
    pub(super) async fn expect(&self, pod: &PodView, node: &str) {
        let patch = serde_json::json!({"status": {"nominatedNodeName": node}});
        if let Err(error) = self.patch(pod, &patch).await {
            tracing::debug!(pod = pod.metadata.key(), %error, "the node that a pod is about to have was not written");
        }
    }

    /// Writes down what a pod's claims get.
    pub(super) async fn write_volumes(&self, found: &mut Found, node: &str) -> Result<(), BindError> {
        match self.volumes.get() {
            Some(known) => known.write(found, node).await,
            None => Ok(()),
        }
    }

    /// Until a pod's claims have what was written down.
    pub(super) async fn volumes_bound(
        &self,
        pod: &PodView,
        node: &str,
        found: &Found,
    ) -> Result<(), BindError> {
        let Some(known) = self.volumes.get() else { return Ok(()) };
        let key = pod.metadata.key();
        let standing = || {
            let labelled = self.snapshot.lock().node(node).and_then(|info| info.node.clone());
            let current = self.pods.get().and_then(|pods| pods.get(&key));
            let is_there = current.is_some_and(|current| current.metadata.uid == pod.metadata.uid);
            Standing { node: labelled, is_there }
        };
        known.bound(found, (&pod.metadata.name, node), standing).await
    }

    /// A pod is gone for which volumes may be on their way.
    pub(super) fn look_again(&self, pod: &Arc<PodView>) {
        if let Some(known) = self.volumes.get().filter(|_| !pod.spec.volumes.is_empty()) {
            known.look_again();
        }
    }

    /// Volumes, classes or the claim are other than before: those try again whom that may help.
    pub(super) fn heard_of_volumes(&self, claim: Option<&str>) {
        let keys = match claim {
            Some(claim) => self.claimants.of(claim),
            None => {
                let mut stalled = self.stalled.lock();
                if let Some(pods) = self.pods.get() {
                    stalled.retain(|key| pods.get(key).is_some_and(|pod| is_ours(&pod)));
                }
                stalled.iter().cloned().collect()
            }
        };
        keys.iter().for_each(|key| self.queue.retry(key));
    }
}
