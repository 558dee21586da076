//! What a replica set needs. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};

use crate::view::PodView;
use kinds::selector;

/// The most pods that one round makes or deletes, as upstream.
const BURST: usize = 500;

/// What is to be done for a replica set.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Pods that match and that nobody controls: they are taken over.
    pub adopt: Vec<Arc<PodView>>,
    /// Pods that it controls and that no longer match: they are let go.
    pub release: Vec<Arc<PodView>>,
    /// How many pods to make.
    pub create: usize,
    /// Which pods to delete.
    pub delete: Vec<Arc<PodView>>,
    /// The status that is true now.
    pub status: ReplicaSetStatus,
    /// Seconds until another pod may have been ready for long enough.
    pub again_in: Option<u64>,
}

/// Looks at a replica set and the pods of its namespace.
pub fn plan(set: &ReplicaSet, pods: &[Arc<PodView>], now: Timestamp) -> Plan {
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let going = set.metadata.deletion_timestamp.is_some();
    let wanted_selector = Some(&set.spec.selector);
    let (mut mine, mut adopt, mut release) = (Vec::new(), Vec::new(), Vec::new());
    for pod in pods {
        let fits = selector::matches(wanted_selector, &pod.metadata.labels);
        match pod.metadata.controller() {
            Some(owner) if owner.uid == uid && fits => mine.push(pod.clone()),
            Some(owner) if owner.uid == uid => release.push(pod.clone()),
            Some(_) => {}
            None if fits && pod.is_active() && !going => {
                adopt.push(pod.clone());
                mine.push(pod.clone());
            }
            None => {}
        }
    }
    let active: Vec<_> = mine.iter().filter(|pod| pod.is_active()).cloned().collect();
    let wanted = usize::try_from(set.spec.replicas.unwrap_or(1)).unwrap_or_default();
    let (create, delete) = match (going, active.len()) {
        (true, _) => (0, Vec::new()),
        (false, have) if have < wanted => ((wanted - have).min(BURST), Vec::new()),
        (false, have) => (0, surplus(&active, (have - wanted).min(BURST), now)),
    };
    let (status, again_in) = status(set, &mine, &active, now);
    Plan { adopt, release, create, delete, status, again_in }
}

/// The pods that are missed least (`controller.ActivePodsWithRanks`): unscheduled before scheduled, pending before
/// running, not ready before ready, then those on crowded nodes, ready for a short time, young.
fn surplus(active: &[Arc<PodView>], count: usize, now: Timestamp) -> Vec<Arc<PodView>> {
    let rank =
        |pod: &PodView| active.iter().filter(|other| other.spec.node_name == pod.spec.node_name).count();
    let phase = |pod: &PodView| match pod.status.phase.as_str() {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let ready_for = |pod: &PodView| {
        let since = pod.ready().and_then(|ready| ready.last_transition_time.as_ref());
        since.map_or(0, |since| now.as_second() - since.0.as_second())
    };
    let age = |pod: &PodView| {
        pod.metadata.creation_timestamp.as_ref().map_or(0, |made| now.as_second() - made.0.as_second())
    };
    let mut sorted: Vec<_> = active.to_vec();
    sorted.sort_by_cached_key(|pod| {
        (
            !pod.spec.node_name.is_empty(),
            phase(pod),
            pod.ready().is_some(),
            std::cmp::Reverse(rank(pod)),
            ready_for(pod),
            age(pod),
            pod.metadata.name.clone(),
        )
    });
    sorted.truncate(count);
    sorted
}

fn status(
    set: &ReplicaSet,
    mine: &[Arc<PodView>],
    active: &[Arc<PodView>],
    now: Timestamp,
) -> (ReplicaSetStatus, Option<u64>) {
    let old = set.status.clone().unwrap_or_default();
    let spec = Some(&set.spec);
    let min_ready = i64::from(spec.and_then(|spec| spec.min_ready_seconds).unwrap_or_default());
    let template =
        spec.and_then(|spec| spec.template.as_ref()).and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let (mut fully, mut ready, mut available, mut again) = (0, 0, 0, None);
    for pod in active {
        fully += i32::from(labels.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value)));
        let Some(condition) = pod.ready() else { continue };
        ready += 1;
        let since = condition.last_transition_time.as_ref().map_or(now, |time| time.0);
        let missing = min_ready - (now.as_second() - since.as_second());
        if min_ready == 0 || missing <= 0 {
            available += 1;
        } else {
            let missing = missing.unsigned_abs();
            again = Some(again.map_or(missing, |soonest: u64| soonest.min(missing)));
        }
    }
    let terminating =
        mine.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() && !pod.is_finished()).count();
    let status = ReplicaSetStatus {
        replicas: i32::try_from(active.len()).unwrap_or(i32::MAX),
        fully_labeled_replicas: Some(fully),
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        terminating_replicas: i32::try_from(terminating).ok(),
        observed_generation: set.metadata.generation,
        conditions: old.conditions,
    };
    (status, again)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i32) -> ReplicaSet {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "rs"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "a"}},
                     "template": {"metadata": {"labels": {"app": "a"}}}},
        }))
        .unwrap()
    }

    fn pod(name: &str, owner: Option<&str>, app: &str, node: &str, phase: &str) -> Arc<PodView> {
        let owners = owner.map(|uid| {
            serde_json::json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": uid, "controller": true}])
        });
        let pod = serde_json::json!({
            "metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": app},
                         "ownerReferences": owners.unwrap_or(serde_json::json!([]))},
            "spec": {"nodeName": node}, "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn names(pods: &[Arc<PodView>]) -> Vec<&str> {
        pods.iter().map(|pod| pod.metadata.name.as_str()).collect()
    }

    #[test]
    fn missing_pods_are_made_and_those_of_others_left_alone() {
        let pods =
            [pod("mine", Some("rs"), "a", "x", "Running"), pod("other", Some("zz"), "a", "x", "Running")];
        let plan = plan(&set(3), &pods, Timestamp::UNIX_EPOCH);
        assert_eq!((plan.create, plan.delete.len(), plan.status.replicas), (2, 0, 1));
    }

    #[test]
    fn orphans_are_adopted_and_strays_released() {
        let pods = [pod("orphan", None, "a", "x", "Running"), pod("stray", Some("rs"), "b", "x", "Running")];
        let plan = plan(&set(1), &pods, Timestamp::UNIX_EPOCH);
        assert_eq!(names(&plan.adopt), ["orphan"]);
        assert_eq!(names(&plan.release), ["stray"]);
        assert_eq!(plan.create, 0);
    }

    #[test]
    fn the_unscheduled_and_pending_go_first() {
        let pods = [
            pod("running", Some("rs"), "a", "x", "Running"),
            pod("pending", Some("rs"), "a", "x", "Pending"),
            pod("unscheduled", Some("rs"), "a", "", "Pending"),
        ];
        let plan = plan(&set(1), &pods, Timestamp::UNIX_EPOCH);
        assert_eq!(names(&plan.delete), ["unscheduled", "pending"]);
    }

    #[test]
    fn an_ended_pod_is_replaced() {
        let pods = [pod("done", Some("rs"), "a", "x", "Failed")];
        assert_eq!(plan(&set(1), &pods, Timestamp::UNIX_EPOCH).create, 1);
    }
}
