//! Asks a container to stop: its hook first, then its signal.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::jobs::{Failed, call};
use super::spec::{MINIMUM_GRACE, PodExt};
use super::{Handle, start};
use crate::Shared;
use crate::counts::table;
use crate::probes::hooks;

/// Stops a container within `grace` seconds, of which its hook has as many as it takes. However few there are, its
/// process has [`MINIMUM_GRACE`] to end by itself.
///
/// # Errors
/// When the runtime could not.
pub async fn kill(
    shared: &Shared,
    handle: &Handle,
    pod: &Pod,
    (id, name): (&str, &str),
    grace: i64,
    why: &str,
) -> Result<(), Failed> {
    let is_told = handle.memory.lock().prepared.contains(id);
    let left = match is_told {
        true => grace,
        false => pre_stop(shared, handle, pod, (id, name), grace, why).await,
    };
    shared.runtime.stop_container(id, left.max(MINIMUM_GRACE)).await.map_err(call("FailedKill"))
}

/// Tells that a container is going to stop, and runs its hook. How many of the `grace` seconds are left.
pub async fn pre_stop(
    shared: &Shared,
    handle: &Handle,
    pod: &Pod,
    (id, name): (&str, &str),
    grace: i64,
    why: &str,
) -> i64 {
    shared.recorder.normal(pod.reference(Some(name)), "Killing", why);
    let Some(container) = pod.container(name).filter(|_| grace > 0) else { return grace };
    let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let Some(hook) = hook else { return grace };
    let begun = shared.config.clock.monotonic();
    let ip = start::pod_ips(shared, handle, pod).first().cloned().unwrap_or_default();
    let limit = Duration::from_secs(grace.unsigned_abs());
    let gates = shared.config.configuration.fields.gates;
    let target = hooks::Target { id, ip: &ip, container: &container, gates };
    match tokio::time::timeout(limit, hooks::run(shared, pod, hook, &target, limit)).await {
        Ok(Ok(())) => {}
        Ok(Err(message)) => {
            tracing::warn!(pod = %pod.described(), name, message, "a preStop hook failed");
            // What a command or a server says may be secret: it stays out of events.
            let about = pod.reference(Some(name));
            shared.recorder.warning(about, "FailedPreStopHook", "PreStopHook failed");
        }
        Err(_) => {
            if hook.sleep.is_some() {
                shared.counts.count(&table::SLEEPS_CUT, &[]);
            }
            tracing::debug!(pod = %pod.described(), name, "a preStop hook took the whole grace period")
        }
    }
    let spent = shared.config.clock.monotonic().saturating_sub(begun).as_secs();
    (grace - i64::try_from(spent).unwrap_or(grace)).max(0)
}
