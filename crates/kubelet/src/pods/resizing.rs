//! Carries a resize out: the pod's cgroup first where it grows, then its containers, then the cgroup where it shrinks.
//! What it has in memory is made smaller before all that, and larger after it.

use k8s_openapi::api::core::v1::Pod;

use super::Handle;
use super::jobs::{Failed, failed};
use super::resources;
use super::spec::PodExt;
use crate::Shared;
use crate::cgroups::Limits;
use crate::counts::table;

/// Gives containers (ids and names) what is allocated to them.
pub async fn resize(
    shared: &Shared,
    handle: &Handle,
    pod: &Pod,
    containers: &[(String, String)],
    sandbox: &str,
) -> Result<(), Failed> {
    let begun = shared.config.clock.monotonic();
    let done = give(shared, handle, pod, containers, sandbox).await;
    let took = shared.config.clock.monotonic().saturating_sub(begun).as_secs_f64() * 1000.0;
    shared.counts.observe(&table::RESIZE, &[&done.is_ok().to_string()], took);
    done
}

async fn give(
    shared: &Shared,
    handle: &Handle,
    pod: &Pod,
    containers: &[(String, String)],
    sandbox: &str,
) -> Result<(), Failed> {
    let wrong = |message: String| {
        shared.recorder.warning(pod.reference(None), "ResizeError", format!("Pod resize error: {message}"));
        if let Some(progress) = &mut handle.memory.lock().resize.in_progress {
            progress.error = Some(message.clone());
        }
        failed("ResizeError", message)
    };
    let group = resources::cgroup_parent(&shared.config.cgroup_root, pod);
    let limits = resources::pod_limits(pod);
    check_usage(shared, &group, &limits).map_err(&wrong)?;
    shared.volumes.resize(pod, false).map_err(|error| wrong(error.to_string()))?;
    // While containers change, neither what they had nor what they get may be refused by the pod's own limit.
    let open = Limits { cpu_quota: Some(-1), memory: Some(-1), ..limits.clone() };
    // It may be gone, should nothing run and somebody have removed it.
    let made = shared.cgroups("update", shared.cgroups.make(&group, &open)).await;
    made.map_err(|error| wrong(error.to_string()))?;
    for (id, name) in containers {
        let Some(container) = pod.container(name) else { continue };
        let wanted = resources::unbounded(shared.means.container(pod, &container));
        shared
            .runtime
            .update_container(id, wanted)
            .await
            .map_err(|status| wrong(status.message().to_owned()))?;
        let given = resources::given_in(pod, &container);
        handle.memory.lock().resize.actuated.insert(id.clone(), given);
    }
    shared
        .runtime
        .update_sandbox(sandbox, resources::pod(pod))
        .await
        .map_err(|status| wrong(status.message().to_owned()))?;
    let given = shared.means.pod(pod);
    let applied = shared.cgroups("update", shared.cgroups.apply(&group, &given)).await;
    applied.map_err(|error| wrong(error.to_string()))?;
    handle.memory.lock().resize.group = Some(limits);
    shared.volumes.resize(pod, true).map_err(|error| wrong(error.to_string()))
}

/// A limit below what is used already would end in a kill.
fn check_usage(shared: &Shared, group: &str, limits: &Limits) -> Result<(), String> {
    let Some(limit) = limits.memory else { return Ok(()) };
    match shared.cgroups.memory_usage(group) {
        Ok(Some(usage)) if usage >= limit => {
            Err(format!("attempting to set pod memory limit ({limit}) below current usage ({usage})"))
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
