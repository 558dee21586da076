//! Looks at the node every ten seconds, and gives up what has to be given up: at most one pod each time.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::PodCondition;
use schema::quantity::Quantity;

use super::plan::{Observations, State};
use super::rank::{PodUse, message, rank};
use super::settings::{Signal, Threshold};
use super::usage;
use crate::Shared;
use crate::collect;
use crate::node::reference;
use crate::pods::spec::PodExt;
use crate::pods::{Ending, Handle, Pods, limits};

/// Upstream's housekeeping interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long containers have at a hard threshold; upstream's `immediateEvictionGracePeriodSeconds`.
const AT_ONCE: i64 = 1;

/// Looks and acts, for ever.
pub async fn run(shared: Arc<Shared>, pods: Pods) {
    let mut state = State::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(status) = round(&shared, &pods, &mut state).await {
            tracing::warn!(%status, "the runtime does not tell what containers use");
        }
    }
}

async fn round(shared: &Shared, pods: &Pods, state: &mut State) -> Result<(), tonic::Status> {
    let settings = &shared.config.eviction;
    let observations = usage::observe(shared).await;
    let verdict = state.look(settings, &observations, shared.config.clock.steady());
    shared.pressure.set(verdict.conditions);
    let active: Vec<Arc<Handle>> = pods.list().into_iter().filter(|handle| is_active(handle)).collect();
    let limited = active.iter().any(|handle| has_local_limits(handle));
    if verdict.reclaim.is_none() && !limited {
        return Ok(());
    }
    let stats = shared.runtime.stats().await?;
    for handle in active.iter().filter(|handle| has_local_limits(handle)) {
        let used = usage::pod(shared, handle, &stats, true);
        if let Some(why) = over_local_limit(shared, handle, &used) {
            evict(shared, handle, &used, why, AT_ONCE, None);
            return Ok(());
        }
    }
    let Some(threshold) = verdict.reclaim else { return Ok(()) };
    let resource = threshold.signal.resource();
    shared.recorder.warning(
        reference(shared),
        "EvictionThresholdMet",
        format!("Attempting to reclaim {resource}"),
    );
    if matches!(
        threshold.signal,
        Signal::NodeDisk | Signal::NodeInodes | Signal::ImageDisk | Signal::ImageInodes
    ) && collect::images::free_all(shared).await
        && is_enough(&threshold, &usage::observe(shared).await)
    {
        return Ok(());
    }
    give_up_one(shared, &active, &stats, &threshold, &observations);
    Ok(())
}

fn is_enough(threshold: &Threshold, observations: &Observations) -> bool {
    observations
        .get(&threshold.signal)
        .is_some_and(|observed| observed.available >= threshold.least.of(observed.capacity))
}

fn give_up_one(
    shared: &Shared,
    active: &[Arc<Handle>],
    stats: &[cri::v1::ContainerStats],
    threshold: &Threshold,
    observations: &Observations,
) {
    let with_disk = !matches!(threshold.signal, Signal::Memory | Signal::Pid);
    let mut ranked: Vec<PodUse> =
        active.iter().map(|handle| usage::pod(shared, handle, stats, with_disk)).collect();
    rank(threshold.signal, &mut ranked);
    for used in ranked.iter().filter(|used| !used.critical) {
        let Some(handle) = active.iter().find(|handle| handle.uid == used.uid) else { continue };
        let grace = if threshold.grace.is_some() { shared.config.eviction.max_grace } else { AT_ONCE };
        let why = message(threshold, observations, used);
        let condition = PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("TerminationByKubelet".to_owned()),
            message: Some(why.clone()),
            ..PodCondition::default()
        };
        evict(shared, handle, used, (threshold.signal.name(), why), grace, Some(condition));
        return;
    }
    tracing::warn!(resource = threshold.signal.resource(), "there is no pod that could be evicted");
}

/// Whether a pod has anything that could be given up.
fn is_active(handle: &Handle) -> bool {
    let pod = handle.pod();
    let ending = handle.memory.lock().ending.is_some();
    !handle.is_removed() && !pod.is_terminal() && !pod.is_deleting() && !ending
}

fn has_local_limits(handle: &Handle) -> bool {
    let pod = handle.pod();
    let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().any(|volume| volume.empty_dir.as_ref().is_some_and(|empty| empty.size_limit.is_some()))
        || pod.containers().iter().any(|container| storage_limit(container).is_some())
}

fn storage_limit(container: &k8s_openapi::api::core::v1::Container) -> Option<(String, i64)> {
    let text = &container.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")?.0;
    let limit = text.parse::<Quantity>().ok()?.value();
    (limit > 0).then(|| (text.clone(), limit))
}

/// Whether a pod uses more of the node's disk than it said, and in which words.
fn over_local_limit(shared: &Shared, handle: &Handle, used: &PodUse) -> Option<(&'static str, String)> {
    let pod = handle.pod();
    for volume in pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
        let Some(limit) = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref()) else {
            continue;
        };
        let Some(folder) = shared.volumes.empty_dir(&pod, &volume.name) else { continue };
        let most = limit.0.parse::<Quantity>().map_or(0, |quantity| quantity.value());
        if most > 0 && usage::tree(&folder).0 > most {
            return Some((
                "emptydirfs.limit",
                format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.0),
            ));
        }
    }
    if let Some(limit) = limits(&pod).storage.filter(|limit| *limit > 0) {
        if used.disk.is_some_and(|disk| disk > limit) {
            let limit = Quantity::from_int(limit, schema::quantity::Format::BinarySi);
            return Some((
                "ephemeralpodfs.limit",
                format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "),
            ));
        }
    }
    for container in pod.containers() {
        let Some((text, limit)) = storage_limit(container) else { continue };
        let disk = used.containers.iter().find(|used| used.name == container.name).and_then(|used| used.disk);
        if disk.is_some_and(|disk| disk > limit) {
            return Some((
                "ephemeralcontainerfs.limit",
                format!("Container {} exceeded its local ephemeral storage limit {text:?}. ", container.name),
            ));
        }
    }
    None
}

fn evict(
    shared: &Shared,
    handle: &Handle,
    used: &PodUse,
    (signal, why): (&str, String),
    grace: i64,
    condition: Option<PodCondition>,
) {
    if used.critical {
        return tracing::error!(uid = %handle.uid, "a critical pod is not evicted");
    }
    let pod = handle.pod();
    tracing::warn!(pod = %pod.described(), %why, "evicting");
    shared.counts.evicted(signal);
    shared.recorder.warning(pod.reference(None), "Evicted", why.clone());
    handle.fail(Ending {
        reason: "Evicted".to_owned(),
        message: why,
        grace_seconds: Some(grace),
        condition,
        refused: false,
    });
}
