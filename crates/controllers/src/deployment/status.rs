//! The status of a deployment, and whether it progresses.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::plan::limits;

fn sum(sets: &[Arc<ReplicaSet>], of: impl Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32) -> i32 {
    sets.iter().filter_map(|set| set.status.as_ref()).map(of).sum()
}

/// The status that is true now, and when it has to be looked at again for the progress deadline.
pub(super) fn status(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    sets: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> (DeploymentStatus, Option<u64>) {
    let old = deployment.status.clone().unwrap_or_default();
    let limits = limits(deployment);
    let total = sum(sets, |status| status.replicas);
    let available = sum(sets, |status| status.available_replicas.unwrap_or_default());
    let updated = current.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    let wanted: i32 = sets.iter().map(|set| set.spec.replicas.unwrap_or(1)).sum();
    let mut status = DeploymentStatus {
        replicas: Some(total),
        updated_replicas: Some(updated),
        ready_replicas: Some(sum(sets, |status| status.ready_replicas.unwrap_or_default())),
        available_replicas: Some(available),
        unavailable_replicas: Some((wanted - available).max(0)),
        terminating_replicas: Some(sum(sets, |status| status.terminating_replicas.unwrap_or_default())),
        observed_generation: deployment.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    let enough = available >= limits.replicas - limits.unavailable;
    let (value, reason, message) = match enough {
        true => ("True", "MinimumReplicasAvailable", "Deployment has minimum availability."),
        false => ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
    };
    set(&mut status, "Available", value, reason, message, now, false);
    let again = progress(deployment, current, &old, &mut status, now);
    (status, again)
}

fn progress(
    deployment: &Deployment,
    current: Option<&ReplicaSet>,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    now: Timestamp,
) -> Option<u64> {
    let spec = &deployment.spec;
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    if spec.paused == Some(true) {
        set(status, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", now, true);
        return None;
    }
    let wanted = spec.replicas.unwrap_or(1);
    let number = |value: Option<i32>| value.unwrap_or_default();
    let subject = match current.and_then(|set| set.metadata.name.as_deref()) {
        Some(set) => format!("ReplicaSet {set:?}"),
        None => format!("Deployment {name:?}"),
    };
    let complete = number(status.updated_replicas) == wanted
        && number(status.replicas) == wanted
        && number(status.available_replicas) == wanted;
    if complete {
        let message = format!("{subject} has successfully progressed.");
        set(status, "Progressing", "True", "NewReplicaSetAvailable", &message, now, false);
        return None;
    }
    let progressed = number(status.updated_replicas) > number(old.updated_replicas)
        || number(status.ready_replicas) > number(old.ready_replicas)
        || number(status.available_replicas) > number(old.available_replicas)
        || number(status.replicas) < number(old.replicas)
        || old.observed_generation != status.observed_generation;
    let condition = find(status, "Progressing").cloned();
    if progressed || condition.is_none() {
        let reason = if current.is_some() { "ReplicaSetUpdated" } else { "NewReplicaSetCreated" };
        let message = format!("{subject} is progressing.");
        set(status, "Progressing", "True", reason, &message, now, true);
    }
    let deadline = i64::from(spec.progress_deadline_seconds?);
    let since = find(status, "Progressing")?.last_update_time.as_ref()?.0.as_second();
    let left = deadline - (now.as_second() - since);
    if left > 0 {
        return Some(left.unsigned_abs());
    }
    let message = format!("{subject} has timed out progressing.");
    set(status, "Progressing", "False", "ProgressDeadlineExceeded", &message, now, false);
    None
}

fn find<'s>(status: &'s DeploymentStatus, kind: &str) -> Option<&'s DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_.as_deref() == Some(kind))
}

/// Sets a condition. `refresh` renews its time although nothing else changed.
fn set(
    status: &mut DeploymentStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
    refresh: bool,
) {
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let conditions = status.conditions.get_or_insert_default();
    let new = DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(value.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    };
    match conditions.iter_mut().find(|condition| condition.type_.as_deref() == Some(kind)) {
        None => conditions.push(new),
        Some(old) => {
            let same = old.status == new.status && old.reason == new.reason;
            if same && !refresh {
                return;
            }
            let transition =
                if old.status == new.status { old.last_transition_time.clone() } else { Some(now) };
            *old = DeploymentCondition { last_transition_time: transition, ..new };
        }
    }
}
