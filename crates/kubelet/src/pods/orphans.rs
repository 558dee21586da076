//! Sandboxes whose pod was deleted while no kubelet ran.

use std::collections::BTreeSet;

use base::failpoint;
use futures::future::join_all;

use super::observed::{Cache, GRACE, POD_UID, State, observe};
use super::resources;
use crate::Shared;
use crate::collect::logs::links;
use crate::counts::table;

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
    failpoint::hit("kubelet.orphan.removed");
    for error in leftovers(shared, uid).await {
        tracing::warn!(uid, %error, "something of an orphaned pod is not removed");
    }
    Ok(())
}

/// Removes what is left of pods that neither the API server nor the runtime knows: a kubelet may have ended between
/// the last sandbox and the last file. Done once, at the start.
pub async fn sweep(shared: &Shared, is_known: impl Fn(&str) -> bool) {
    shared.exclusive.retain(&is_known);
    shared.claims.retain(&is_known);
    let mut found = BTreeSet::new();
    for (folder, uid_of) in [
        (shared.volumes.root(), (|name| Some(name)) as fn(&str) -> Option<&str>),
        (shared.config.log_dir.as_path(), |name| name.rsplit_once('_').map(|(_, uid)| uid)),
    ] {
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                let names =
                    entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
                found.extend(names.filter_map(|name| uid_of(&name).map(str::to_owned)));
            }
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "left-over pods are not looked for")
            }
        }
    }
    found.extend(shared.cgroups.pods(&resources::cgroup_roots(&shared.config.cgroup_root)));
    links::sweep(&shared.config.container_links);
    let (mut cleaned, mut failed) = (0_u32, 0_u32);
    for uid in found.iter().filter(|uid| !uid.is_empty() && !is_known(uid)) {
        tracing::info!(uid, "removing what is left of a pod that is not known any more");
        let errors = leftovers(shared, uid).await;
        for error in &errors {
            tracing::warn!(uid, %error, "something of an orphaned pod is not removed");
        }
        if errors.is_empty() { cleaned += 1 } else { failed += 1 }
    }
    shared.counts.set(&table::ORPHANS_CLEANED, &[], f64::from(cleaned));
    shared.counts.set(&table::ORPHANS_ERRORS, &[], f64::from(failed));
}

/// Removes files, logs and cgroups of a pod of which no more than its uid is known. What could not be removed.
async fn leftovers(shared: &Shared, uid: &str) -> Vec<std::io::Error> {
    let mut failures = Vec::new();
    failures.extend(shared.volumes.remove_pod(uid).err());
    shared.users.release(uid);
    shared.exclusive.release(uid);
    shared.claims.release(uid);
    for group in resources::cgroups_of(&shared.config.cgroup_root, uid) {
        failures.extend(shared.cgroups("destroy", shared.cgroups.remove(&group)).await.err());
    }
    failures.extend(links::remove_all(&shared.config.container_links, uid, "").err());
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
