//! Sandboxes whose pod was deleted while no kubelet ran.

use futures::future::join_all;

use super::observed::{Cache, GRACE, POD_UID, State, observe};
use super::resources;
use crate::Shared;

/// Ends and removes all that the runtime has of a pod. What fails is tried again at the next look.
pub async fn clear(shared: &Shared, uid: &str) {
    if let Err(status) = try_clear(shared, uid).await {
        tracing::warn!(uid, %status, "an orphaned pod is not cleared away yet");
    }
}

async fn try_clear(shared: &Shared, uid: &str) -> Result<(), tonic::Status> {
    let runtime = &shared.runtime;
    let observed = observe(runtime, uid, &mut Cache::default()).await?;
    tracing::info!(
        uid,
        sandboxes = observed.sandboxes.len(),
        "clearing away a pod that is not known any more"
    );
    let listed = runtime.containers(Some((POD_UID, uid))).await?;
    let running = observed.containers.iter().filter(|container| container.state == State::Running);
    let stops = running.map(|container| {
        let listed = listed.iter().find(|listed| listed.id == container.id);
        let grace =
            listed.and_then(|listed| listed.annotations.get(GRACE)).and_then(|text| text.parse().ok());
        runtime.stop_container(&container.id, grace.unwrap_or(30).min(30))
    });
    join_all(stops).await.into_iter().collect::<Result<Vec<()>, _>>()?;
    for sandbox in &observed.sandboxes {
        runtime.stop_sandbox(&sandbox.id).await?;
        runtime.remove_sandbox(&sandbox.id).await?;
    }
    for error in leftovers(shared, uid) {
        tracing::warn!(uid, %error, "something of an orphaned pod is not removed");
    }
    Ok(())
}

/// Removes files, logs and cgroups of a pod of which no more than its uid is known. What could not be removed.
fn leftovers(shared: &Shared, uid: &str) -> Vec<std::io::Error> {
    let mut failures = Vec::new();
    failures.extend(shared.volumes.remove_pod(uid).err());
    shared.users.release(uid);
    for group in resources::cgroups_of(&shared.config.cgroup_root, uid) {
        failures.extend(shared.cgroups.remove(&group).err());
    }
    match std::fs::read_dir(&shared.config.log_dir) {
        Ok(entries) => {
            for entry in entries.filter_map(Result::ok) {
                if entry.file_name().to_string_lossy().ends_with(&format!("_{uid}")) {
                    failures.extend(std::fs::remove_dir_all(entry.path()).err());
                }
            }
        }
        Err(error) => failures.push(error),
    }
    failures
}
