//! What a worker counts of its pod.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

use super::memory::Memory;
use super::observed::{Observed, State, observe};
use super::resize::Allocation;
use super::resources;
use super::spec::{CRITICAL, PodExt, is_sidecar};
use super::worker::Worker;
use crate::counts::table;

/// A pod's priority, as metrics tell it.
pub fn priority_bucket(pod: &Pod) -> &'static str {
    match pod.spec().and_then(|spec| spec.priority).unwrap_or(0) {
        CRITICAL.. => "system-critical",
        100_000.. => "high",
        1.. => "medium",
        0 => "normal",
        -999.. => "low",
        _ => "very-low",
    }
}

impl Worker {
    /// What the runtime tells of the pod. It is asked only if that may be something else than last time: because it told
    /// of a change, or a job was done there.
    pub(super) async fn observe(&mut self) -> Result<Arc<Observed>, tonic::Status> {
        if !self.handle.stale.swap(false, Ordering::AcqRel)
            && let Some(last) = &self.last
        {
            return Ok(last.clone());
        }
        let begun = self.shared.config.clock.monotonic();
        let observed = observe(&self.shared.runtime, &self.handle.uid, &mut self.cache).await;
        let took = self.shared.config.clock.monotonic().saturating_sub(begun);
        self.shared.counts.took(&table::RELIST_POD, &[], took);
        match observed {
            Ok(observed) => Ok(self.last.insert(Arc::new(observed)).clone()),
            Err(status) => {
                self.handle.stale.store(true, Ordering::Release);
                Err(status)
            }
        }
    }

    /// It begins.
    pub(super) fn note_begin(&self) {
        let counts = &self.shared.counts;
        let since = self.shared.config.clock.monotonic().saturating_sub(self.handle.seen);
        counts.took(&table::POD_WORKER_START, &[], since);
        let containers = u32::try_from(self.handle.pod().containers().len()).unwrap_or(u32::MAX);
        counts.observe(&table::CONTAINERS_PER_POD, &[], f64::from(containers));
    }

    /// Tells once how long the pod took to run. One that ran before this kubelet looked is not told of.
    pub(super) fn note_start(&mut self) {
        let Some(seen) = self.starts else { return };
        let pod = self.handle.pod();
        let before = pod.status.as_ref().and_then(|status| status.phase.clone());
        let pulls = {
            let memory = self.handle.memory.lock();
            let phase = memory.status.as_ref().and_then(|status| status.phase.as_deref());
            match (before.as_deref(), phase) {
                (_, None) | (None | Some("Pending"), Some("Pending")) => return,
                (None | Some("Pending"), Some("Running")) => {
                    memory.pulled.map_or(0.0, |(first, last)| last.saturating_sub(first).as_secs_f64())
                }
                _ => {
                    self.starts = None;
                    return;
                }
            }
        };
        self.starts = None;
        let counts = &self.shared.counts;
        counts.took(&table::POD_START, &[], self.shared.config.clock.monotonic().saturating_sub(seen));
        let Some(created) = pod.metadata.creation_timestamp.as_ref() else { return };
        let total = self.now().duration_since(created.0).as_secs_f64().max(0.0);
        counts.observe(&table::POD_START_TOTAL, &[], total);
        let own = (total - pulls - initializing(&pod, &self.handle.observed.lock())).max(0.0);
        counts.observe(&table::POD_START_SLI, &[], own);
        if !pod.host_network() && counts.known(&table::FIRST_POD_START).is_none() {
            counts.set(&table::FIRST_POD_START, &[], own);
        }
    }

    /// Counts containers that ran when the runtime was asked before, and do not run any more.
    pub(super) fn note_ends(&self, pod: &Pod, before: &Observed, now: &Observed) {
        let ended = now.containers.iter().filter(|container| container.state == State::Exited);
        let ran = |id: &str| before.containers.iter().any(|c| c.id == id && c.state == State::Running);
        for container in ended.filter(|container| ran(&container.id)) {
            let code = container.exit_code.to_string();
            let labels = [pod.kind_of(&container.name), code.as_str(), container.reason.as_str()];
            self.shared.counts.count(&table::TERMINATED_CONTAINERS, &labels);
        }
    }

    /// Counts what a change of resources is about; `waited` says why it was not made before.
    pub(super) fn note_resize(&self, had: &Allocation, wanted: &Allocation, waited: Option<&str>) {
        for (resource, requirement, operation) in changes(had, wanted) {
            self.shared.counts.count(&table::RESIZES, &[operation, requirement, resource]);
        }
        if waited == Some("Deferred") {
            self.shared.counts.count(&table::RESIZES_DEFERRED, &["pods_removed"]);
        }
    }

    /// A change of resources waits from now on, or has no more to wait for.
    pub(super) fn note_deferred(&self, memory: &mut Memory, waits: bool) {
        let since = memory.resize.deferred.unwrap_or_else(|| self.shared.config.clock.monotonic());
        memory.resize.deferred = Some(since).filter(|_| waits);
    }

    /// No change of resources waits any more: tells how long one did, and how that ended.
    pub(super) fn note_waited(&self, memory: &mut Memory, resolution: &str) {
        let Some(since) = memory.resize.deferred.take() else { return };
        let waited = self.shared.config.clock.monotonic().saturating_sub(since);
        let labels = [resolution, priority_bucket(&self.handle.pod())];
        self.shared.counts.took(&table::RESIZES_WAITED, &labels, waited);
    }

    /// Counts a pod that the node took, by where it says what it needs.
    pub(super) fn note_admitted(&self, pod: &Pod) {
        let mut containers = pod.containers().iter().chain(pod.init_containers());
        let by_containers = containers.any(|container| {
            container.resources.as_ref().is_some_and(|own| own.requests.is_some() || own.limits.is_some())
        });
        let mode = match (resources::has_own_resources(pod), by_containers) {
            (true, true) => "pod_and_container_level",
            (true, false) => "pod_level",
            (false, true) => "container_level",
            (false, false) => "",
        };
        self.shared.counts.count(&table::ADMITTED, &[mode, resources::qos(pod)]);
    }
}

/// How long init containers ran, from the first one's start to the last one's end, in seconds.
fn initializing(pod: &Pod, observed: &Observed) -> f64 {
    let init = || {
        let ordinary = pod.init_containers().iter().filter(|container| !is_sidecar(container));
        ordinary.filter_map(|container| observed.latest(&container.name))
    };
    let first = init().map(|instance| instance.started_at).min();
    let last = init().map(|instance| instance.finished_at).max();
    let at = |nanoseconds: i64| Timestamp::from_nanosecond(i128::from(nanoseconds)).ok();
    match (first.and_then(at), last.and_then(at)) {
        (Some(first), Some(last)) => last.duration_since(first).as_secs_f64().max(0.0),
        _ => 0.0,
    }
}

/// Resource, requirement and operation of each change.
fn changes(had: &Allocation, wanted: &Allocation) -> Vec<(&'static str, &'static str, &'static str)> {
    let mut found = Vec::new();
    for (had, wanted) in had.pairs(wanted) {
        let of = |resources: Option<&ResourceRequirements>, requirement, resource| match requirement {
            "limits" => resources::limit(resources, resource),
            _ => resources
                .and_then(|r| r.requests.as_ref()?.get(resource))
                .and_then(|_| resources::request(resources, resource)),
        };
        for resource in ["cpu", "memory"] {
            for requirement in ["limits", "requests"] {
                let operation = match (of(had, requirement, resource), of(wanted, requirement, resource)) {
                    (None, Some(_)) => "add",
                    (Some(_), None) => "remove",
                    (Some(before), Some(after)) if after > before => "increase",
                    (Some(before), Some(after)) if after < before => "decrease",
                    _ => continue,
                };
                found.push((resource, requirement, operation));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(resources: serde_json::Value) -> Pod {
        let spec = json!({"containers": [{"name": "c", "resources": resources}]});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn changes_of_resources_are_told_apart() {
        let had = pod(json!({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "2"}}));
        let wants = pod(json!({"requests": {"cpu": "1500m"}, "limits": {"cpu": "1", "memory": "2Mi"}}));
        assert_eq!(
            changes(&Allocation::wanted(&had), &Allocation::wanted(&wants)),
            [
                ("cpu", "limits", "decrease"),
                ("cpu", "requests", "increase"),
                ("memory", "limits", "add"),
                ("memory", "requests", "remove")
            ]
        );
    }
}
