//! Sandboxes whose pod was deleted while no kubelet ran.

use futures::future::join_all;

use super::observed::{Cache, GRACE, POD_UID, State, observe};
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
    if let Err(error) = shared.volumes.remove_pod(uid) {
        tracing::warn!(uid, %error, "an orphaned pod's files are not removed");
    }
    Ok(())
}
