//! Looks at the node every ten seconds, and gives up what has to be given up: at most one pod each time, and those
//! that use more of the disk than they said.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};
use schema::quantity::Quantity;

use super::plan::{Observations, State, is_enough};
use super::rank::{PodUse, message, rank};
use super::settings::Threshold;
use super::signal::{Disks, Parts};
use super::usage;
use crate::Shared;
use crate::collect;
use crate::counts::table;
use crate::node::reference;
use crate::pods::spec::{PodExt, is_sidecar};
use crate::pods::{Ending, Handle, Pods, limits};

/// Upstream's housekeeping interval.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long containers have at a hard threshold; upstream's `immediateEvictionGracePeriodSeconds`.
const AT_ONCE: i64 = 1;
/// How long is waited until nothing is left of those that were given up, and how often that is looked at.
const CLEAN_UP: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(1));

/// What stays as it is while the kubelet runs.
struct Node {
    disks: Disks,
    thresholds: Vec<Threshold>,
}

/// Looks and acts, for ever.
pub async fn run(shared: Arc<Shared>, pods: Pods) {
    let mut state = State::default();
    let mut node = None;
    loop {
        let evicted = match round(&shared, &pods, &mut state, &mut node).await {
            Ok(evicted) => evicted,
            Err(status) => {
                tracing::warn!(%status, "the runtime does not tell what containers use");
                Vec::new()
            }
        };
        if evicted.is_empty() {
            tokio::time::sleep(INTERVAL).await;
            continue;
        }
        if tokio::time::timeout(CLEAN_UP.0, cleaned(&evicted)).await.is_err() {
            tracing::warn!("evicted pods are not cleaned up yet");
        }
    }
}

async fn cleaned(evicted: &[Arc<Handle>]) {
    loop {
        tokio::time::sleep(CLEAN_UP.1).await;
        let is_clean = |handle: &Arc<Handle>| {
            let memory = handle.memory.lock();
            handle.is_removed() || memory.retired || memory.cleaned
        };
        if evicted.iter().all(is_clean) {
            return;
        }
    }
}

/// Looks once; who was evicted.
async fn round(
    shared: &Shared,
    pods: &Pods,
    state: &mut State,
    node: &mut Option<Node>,
) -> Result<Vec<Arc<Handle>>, tonic::Status> {
    let settings = &shared.config.eviction;
    let isolated = shared.config.configuration.fields.local_storage_capacity_isolation;
    if settings.thresholds.is_empty() && !isolated {
        return Ok(Vec::new());
    }
    let Node { disks, thresholds } = match node {
        Some(node) => node,
        None => node.insert(divide(shared).await?),
    };
    let at = shared.config.clock.now();
    let observations = usage::observe(shared).await;
    let verdict = state.look(thresholds, settings.transition, &observations, shared.config.clock.steady());
    shared.pressure.set(verdict.conditions);
    let active: Vec<Arc<Handle>> = pods.list().into_iter().filter(|handle| handle.is_active()).collect();
    let limited: Vec<&Arc<Handle>> =
        active.iter().filter(|handle| isolated && has_local_limits(&handle.pod())).collect();
    if verdict.due.is_empty() && limited.is_empty() {
        return Ok(Vec::new());
    }
    let stats = shared.runtime.stats().await?;
    let mut evicted = Vec::new();
    for handle in limited {
        let used = usage::pod(shared, handle, &stats, true);
        let over = used.known.then(|| over_local_limit(shared, &handle.allocated(), &used, *disks)).flatten();
        if let Some((signal, why)) = over
            && evict(shared, handle, Eviction { signal, why, grace: AT_ONCE, ..Eviction::default() })
        {
            evicted.push(handle.clone());
        }
    }
    let Some(threshold) = verdict.due.first().filter(|_| evicted.is_empty()) else { return Ok(evicted) };
    let resource = threshold.signal.resource();
    let told = format!("Attempting to reclaim {resource}");
    shared.recorder.warning(reference(shared), "EvictionThresholdMet", told);
    if free(shared, pods, *disks, threshold).await && is_enough(thresholds, &usage::observe(shared).await) {
        tracing::info!(resource, "there is enough again without an eviction");
        return Ok(Vec::new());
    }
    let parts = disks.parts(threshold.signal);
    let ranked = ranked(shared, &active, &stats, threshold, parts);
    for threshold in verdict.due.iter().filter(|one| observations.contains_key(&one.signal)) {
        let age = shared.config.clock.now().duration_since(at);
        shared.counts.took(&table::EVICTION_AGE, &[threshold.signal.name()], age.unsigned_abs());
    }
    Ok(give_up_one(shared, &active, &ranked, threshold, &observations).into_iter().collect())
}

/// On which file systems things are.
async fn divide(shared: &Shared) -> Result<Node, tonic::Status> {
    let (images, containers) = shared.runtime.filesystems().await?;
    let device = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).map(|metadata| metadata.dev()).ok()
    };
    let root = device(&shared.config.root_dir);
    let of = |mountpoint: &Option<String>| mountpoint.as_ref().and_then(|path| device(Path::new(path)));
    let images = of(&images);
    // A runtime that tells of none keeps containers where images are.
    let containers = of(&containers).or(images);
    let split = images != containers;
    let disks = Disks { images: images.is_some() && images != root || split, split };
    let (thresholds, told) = disks.complete(&shared.config.eviction.thresholds);
    for told in told {
        tracing::warn!("{told}");
    }
    tracing::debug!(?disks, "the node's disks");
    Ok(Node { disks, thresholds })
}

/// Frees what nobody uses. Whether there was anything to look for.
async fn free(shared: &Shared, pods: &Pods, disks: Disks, threshold: &Threshold) -> bool {
    let free = disks.free(threshold.signal);
    if free.containers {
        let over = pods.strip();
        let clean = |handle: &Arc<Handle>| handle.memory.lock().stripped || handle.is_removed();
        let all = async {
            while !over.iter().all(clean) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(CLEAN_UP.0, all).await.is_err() {
            tracing::warn!("containers that have ended are not all removed yet");
        }
    }
    if free.images {
        let awaited = |handle: Arc<Handle>| {
            let memory = handle.memory.lock();
            memory.images.values().map(|fetched| fetched.reference.clone()).collect::<Vec<_>>()
        };
        let awaited = pods.list().into_iter().flat_map(awaited).collect();
        collect::images::free_all(shared, &awaited).await;
    }
    free.containers || free.images
}

fn ranked(
    shared: &Shared,
    active: &[Arc<Handle>],
    stats: &[cri::v1::ContainerStats],
    threshold: &Threshold,
    parts: Parts,
) -> Vec<PodUse> {
    let with_disk = parts != Parts::default();
    let mut ranked: Vec<PodUse> =
        active.iter().map(|handle| usage::pod(shared, handle, stats, with_disk)).collect();
    rank(threshold.signal, parts, &mut ranked);
    ranked
}

fn give_up_one(
    shared: &Shared,
    active: &[Arc<Handle>],
    ranked: &[PodUse],
    threshold: &Threshold,
    observations: &Observations,
) -> Option<Arc<Handle>> {
    for used in ranked {
        let Some(handle) = active.iter().find(|handle| handle.uid == used.uid) else { continue };
        let grace = if threshold.grace.is_some() { shared.config.eviction.max_grace } else { AT_ONCE };
        let (why, annotations) = message(threshold, observations, used);
        let condition = Some(PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("TerminationByKubelet".to_owned()),
            message: Some(why.clone()),
            ..PodCondition::default()
        });
        let eviction = Eviction { signal: threshold.signal.name(), why, annotations, grace, condition };
        if evict(shared, handle, eviction) {
            return Some(handle.clone());
        }
    }
    tracing::warn!(resource = threshold.signal.resource(), "there is no pod that could be evicted");
    None
}

fn has_local_limits(pod: &Pod) -> bool {
    let volumes = pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().any(|volume| volume.empty_dir.as_ref().is_some_and(|empty| empty.size_limit.is_some()))
        || lasting(pod).any(|container| storage_limit(container).is_some())
}

/// The containers that stay: those that only prepare are over before they are looked at.
fn lasting(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.containers().iter().chain(pod.init_containers().iter().filter(|container| is_sidecar(container)))
}

fn storage_limit(container: &Container) -> Option<(String, i64)> {
    let text = &container.resources.as_ref()?.limits.as_ref()?.get("ephemeral-storage")?.0;
    let limit = text.parse::<Quantity>().ok()?.value();
    (limit > 0).then(|| (text.clone(), limit))
}

/// Whether a pod uses more of the node's disk than it said, and in which words.
fn over_local_limit(
    shared: &Shared,
    pod: &Pod,
    used: &PodUse,
    disks: Disks,
) -> Option<(&'static str, String)> {
    for volume in pod.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default() {
        let Some(limit) = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref()) else {
            continue;
        };
        let Some(folder) = shared.volumes.empty_dir(pod, &volume.name) else { continue };
        let most = limit.0.parse::<Quantity>().map_or(0, |quantity| quantity.value());
        if most > 0 && usage::tree(&folder).0 > most {
            return Some((
                "emptydirfs.limit",
                format!("Usage of EmptyDir volume {:?} exceeds the limit {:?}. ", volume.name, limit.0),
            ));
        }
    }
    let all = Parts { layers: true, logs: true, volumes: true };
    if let Some(limit) = limits(pod).storage.filter(|limit| used.space(all).bytes > *limit) {
        let limit = Quantity::from_int(limit, schema::quantity::Format::BinarySi);
        return Some((
            "ephemeralpodfs.limit",
            format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "),
        ));
    }
    for container in lasting(pod) {
        let Some((text, limit)) = storage_limit(container) else { continue };
        let Some(used) = used.containers.iter().find(|used| used.name == container.name) else { continue };
        // A layer on a disk of its own is not the node's.
        let layer = used.layer.filter(|_| !disks.images).unwrap_or_default();
        if (layer + used.logs).bytes > limit {
            return Some((
                "ephemeralcontainerfs.limit",
                format!("Container {} exceeded its local ephemeral storage limit {text:?}. ", container.name),
            ));
        }
    }
    None
}

/// How a pod is given up.
#[derive(Default)]
struct Eviction {
    signal: &'static str,
    why: String,
    annotations: BTreeMap<String, String>,
    grace: i64,
    condition: Option<PodCondition>,
}

/// Whether it was: a critical pod is not.
fn evict(shared: &Shared, handle: &Handle, eviction: Eviction) -> bool {
    let pod = handle.pod();
    let Eviction { signal, why, annotations, grace, condition } = eviction;
    if handle.is_critical() {
        tracing::error!(pod = %pod.described(), "a critical pod is not evicted");
        return false;
    }
    tracing::warn!(pod = %pod.described(), %why, "evicting");
    shared.counts.count(&table::EVICTIONS, &[signal]);
    shared.recorder.annotated(pod.reference(None), annotations, "Evicted", why.clone());
    handle.fail(Ending {
        reason: "Evicted".to_owned(),
        message: why,
        grace_seconds: Some(grace),
        condition,
        refused: false,
    });
    true
}
