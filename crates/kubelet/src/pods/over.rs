//! When a pod that the node ends has ended.

use super::Handle;
use super::memory::Job;
use super::observed::State;

/// A status that was not written so often in a row holds nobody up any more: the API server is away, or refuses it.
const TRIES: u32 = 3;

impl Handle {
    /// Whether nothing of the pod runs any more and the API server knows how it ended, or is not to be told.
    pub fn is_over(&self) -> bool {
        if self.is_removed() {
            return true;
        }
        let observed = self.observed.lock().clone();
        let runs = observed.containers.iter().any(|c| matches!(c.state, State::Running | State::Unknown))
            || observed.sandboxes.iter().any(|sandbox| sandbox.ready);
        let memory = self.memory.lock();
        let phase = memory.status.as_ref().and_then(|status| status.phase.as_deref());
        let given_up = memory.failures.get(&Job::Status).is_some_and(|failure| failure.count >= TRIES);
        let told = self.is_static || given_up || memory.acknowledged == memory.status;
        !runs && !memory.is_creating() && matches!(phase, Some("Succeeded" | "Failed")) && told
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::{Pod, PodStatus};

    use super::super::memory::Outcome;
    use super::*;

    fn status(phase: &str) -> Option<PodStatus> {
        Some(PodStatus { phase: Some(phase.to_owned()), ..PodStatus::default() })
    }

    #[test]
    fn a_pod_is_over_when_its_end_is_told_or_cannot_be() {
        let handle = Handle::new("u", Arc::new(Pod::default()), false, Duration::ZERO);
        assert!(!handle.is_over(), "nobody has looked yet");
        handle.memory.lock().status = status("Pending");
        handle.memory.lock().acknowledged = status("Pending");
        assert!(!handle.is_over(), "that it ends is not told yet");
        handle.memory.lock().status = status("Failed");
        assert!(!handle.is_over());
        for tries in 1..=TRIES {
            let refused = Outcome { failure: Some(("Status".to_owned(), "no".to_owned())) };
            handle.memory.lock().finish(&Job::Status, refused, Timestamp::UNIX_EPOCH);
            assert_eq!(handle.is_over(), tries == TRIES, "after {tries}");
        }
        handle.memory.lock().finish(&Job::Status, Outcome::default(), Timestamp::UNIX_EPOCH);
        assert!(!handle.is_over());
        handle.memory.lock().acknowledged = status("Failed");
        assert!(handle.is_over());
        handle.memory.lock().running.insert(Job::Start("c".to_owned()));
        assert!(!handle.is_over(), "something is about to run");
        handle.remove();
        assert!(handle.is_over());
    }
}
