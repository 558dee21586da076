//! The phase of a pod: upstream's rules. Pure.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus};

use super::container::RESTARTING_ALL;
use crate::pods::spec::{PodExt, is_sidecar, restarts};

/// What the phase follows from.
pub struct Phase<'a> {
    pub pod: &'a k8s_openapi::api::core::v1::Pod,
    pub init: &'a [ContainerStatus],
    pub main: &'a [ContainerStatus],
    /// Nothing is restarted any more.
    pub over: bool,
    pub initialized: bool,
}

#[derive(Default)]
struct Counts {
    running: usize,
    waiting: usize,
    stopped: usize,
    for_good: usize,
    succeeded: usize,
}

/// How the container last ended: its exit code.
fn ended(status: &ContainerStatus) -> Option<i32> {
    let code = |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref().map(|end| end.exit_code);
    code(&status.state).or_else(|| {
        let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
        if waits { code(&status.last_state) } else { None }
    })
}

/// Whether it ended only because all begin anew: it does, too.
fn was_reset(status: &ContainerStatus) -> bool {
    let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
    waits && last.is_some_and(|last| last.reason.as_deref() == Some(RESTARTING_ALL))
}

fn runs(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

/// The phase of a pod; the rules are upstream's.
pub fn phase(input: &Phase<'_>) -> &'static str {
    let pod = input.pod;
    let mut pending = 0;
    for (container, status) in pod.init_containers().iter().zip(input.init) {
        if is_sidecar(container) {
            pending +=
                usize::from(!input.initialized && status.started != Some(true) && ended(status).is_none());
            continue;
        }
        match ended(status) {
            Some(code) if code != 0 && !restarts(pod, container, code) && !was_reset(status) => {
                return "Failed";
            }
            Some(0) => {}
            Some(_) if !runs(status) => {}
            _ => pending += 1,
        }
    }
    let mut counts = Counts::default();
    for (container, status) in pod.containers().iter().zip(input.main) {
        if runs(status) {
            counts.running += 1;
        } else if let Some(code) = ended(status) {
            counts.stopped += 1;
            counts.succeeded += usize::from(code == 0);
            counts.for_good += usize::from(!restarts(pod, container, code) && !was_reset(status));
        } else {
            counts.waiting += 1;
        }
    }
    let sidecars =
        pod.init_containers().iter().zip(input.init).filter(|(c, s)| is_sidecar(c) && runs(s)).count();
    if !input.over && (pending > 0 || counts.waiting > 0) {
        return "Pending";
    }
    if counts.running + sidecars > 0 {
        return "Running";
    }
    let result =
        if counts.stopped == counts.succeeded && counts.waiting == 0 { "Succeeded" } else { "Failed" };
    match counts.stopped {
        0 => "Pending",
        _ if input.over || counts.stopped == counts.for_good => result,
        _ => "Running",
    }
}
