//! Which pods are to go. Pure.

use std::cmp::Reverse;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;

use crate::node_lifecycle::plan::condition;
use crate::view::PodView;

/// The taint by which an administrator says that a node has lost its power for good (KEP-2268).
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// How long a node has to be missing.
pub const QUARANTINE: Duration = Duration::from_secs(40);

/// What happens to a node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Stay,
    /// Those that are being deleted go at once: nobody will say that they have ended.
    Going,
    /// Nothing yet: it is to be looked at after so long.
    Wait(Duration),
    /// All go.
    Orphaned,
}

/// The fate of the pods of a node that has been missing since `missing` at `now`, on the steady clock.
pub fn fate(node: Option<&Node>, missing: Option<Duration>, now: Duration) -> Fate {
    match node {
        Some(node) if is_out_of_service(node) => Fate::Going,
        Some(_) => Fate::Stay,
        None => {
            let left = QUARANTINE.saturating_sub(now.saturating_sub(missing.unwrap_or(now)));
            if left.is_zero() { Fate::Orphaned } else { Fate::Wait(left) }
        }
    }
}

/// Whether a node is not ready and was said to be out of service.
pub fn is_out_of_service(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.any(|taint| taint.key == OUT_OF_SERVICE)
        && condition(node, "Ready").is_none_or(|ready| ready.status != "True")
}

/// The pods that are too many among those that have ended; none when `threshold` is 0. Those that were evicted go
/// first, then the oldest.
pub fn excess<P: AsRef<PodView>>(pods: impl IntoIterator<Item = P>, threshold: usize) -> Vec<P> {
    let mut ended: Vec<P> = pods.into_iter().filter(|pod| pod.as_ref().is_finished()).collect();
    if threshold == 0 || ended.len() <= threshold {
        return Vec::new();
    }
    ended.sort_by_cached_key(|pod| {
        let PodView { metadata, status, .. } = pod.as_ref();
        let is_evicted = status.phase == "Failed" && status.reason == "Evicted";
        let made = metadata.creation_timestamp.as_ref().map(|time| time.0);
        (Reverse(is_evicted), made, metadata.name.clone())
    });
    ended.truncate(ended.len() - threshold);
    ended
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_node_is_waited_for() {
        let at = Duration::from_secs;
        assert_eq!(fate(None, None, at(100)), Fate::Wait(QUARANTINE));
        assert_eq!(fate(None, Some(at(100)), at(139)), Fate::Wait(at(1)));
        assert_eq!(fate(None, Some(at(100)), at(140)), Fate::Orphaned);
    }

    #[test]
    fn pods_of_a_node_stay_unless_it_is_out_of_service_and_not_ready() {
        for (ready, taint, expected) in [
            ("True", OUT_OF_SERVICE, Fate::Stay),
            ("Unknown", "example.org/other", Fate::Stay),
            ("Unknown", OUT_OF_SERVICE, Fate::Going),
            ("False", OUT_OF_SERVICE, Fate::Going),
        ] {
            let node = json!({"metadata": {"name": "n"},
                "spec": {"taints": [{"key": taint, "value": "nodeshutdown", "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            let node: Node = serde_json::from_value(node).unwrap();
            assert_eq!(fate(Some(&node), Some(Duration::ZERO), Duration::MAX), expected, "{ready} {taint}");
        }
    }

    #[test]
    fn of_too_many_ended_pods_the_evicted_and_the_oldest_go() {
        let pod = |name: &str, second: i64, phase: &str, reason: &str| -> Arc<PodView> {
            let made = jiff::Timestamp::from_second(second).unwrap().to_string();
            let pod = json!({"metadata": {"name": name, "creationTimestamp": made},
                "status": {"phase": phase, "reason": reason}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let pods = [
            pod("runs", 0, "Running", ""),
            pod("old", 1, "Succeeded", ""),
            pod("b", 2, "Failed", ""),
            pod("a", 2, "Failed", "Error"),
            pod("evicted", 3, "Failed", "Evicted"),
        ];
        let gone = |threshold| {
            let gone = excess(pods.iter().cloned(), threshold);
            gone.iter().map(|pod| pod.metadata.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(gone(1), ["evicted", "old", "a"]);
        assert_eq!(gone(3), ["evicted"]);
        assert!(gone(4).is_empty(), "as many as may be");
        assert!(gone(0).is_empty(), "no bound");
    }
}
