//! The conditions and taints that a node is to have. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The taint of a node that is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node that nobody hears of.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The taint of a node whose `spec.unschedulable` is set.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// How long a node that never reported may take, at least.
const FIRST_REPORT: Duration = Duration::from_secs(60);

/// The conditions that become unknown with a node's silence.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The conditions that forbid new pods while they are true, and their taints.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// When a node was last heard of.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The renewal of its lease and the heartbeat of its condition, as they were written.
    pub signs: (Option<Timestamp>, Option<Timestamp>),
    /// When these were first seen, on the steady clock.
    pub at: Duration,
}

/// What is to be written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Conditions that change.
    pub conditions: Vec<NodeCondition>,
    /// All taints, if any changes.
    pub taints: Option<Vec<Taint>>,
}

/// Notes what is seen of a node at `now`, on the steady clock.
pub fn hear(before: Option<&Heard>, node: &Node, renewed: Option<Timestamp>, now: Duration) -> Heard {
    let heartbeat =
        condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0);
    let signs = (renewed, heartbeat);
    match before {
        Some(before) if before.signs == signs => before.clone(),
        _ => Heard { signs, at: now },
    }
}

/// A node's condition.
pub fn condition<'n>(node: &'n Node, kind: &str) -> Option<&'n NodeCondition> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Looks at a node that was silent for `silent`. A node that is lost gets its conditions first; its taints follow
/// when the change of these comes back.
pub fn plan(node: &Node, silent: Duration, grace: Duration, now: Timestamp) -> Plan {
    let reported = condition(node, "Ready").is_some();
    let grace = if reported { grace } else { grace.max(FIRST_REPORT) };
    let conditions = if silent > grace { unknown(node, now) } else { Vec::new() };
    Plan { conditions, taints: taints(node, now) }
}

fn unknown(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let lost = |kind: &str| {
        let (reason, message, heartbeat) = match condition(node, kind) {
            Some(known) if known.status == "Unknown" => return None,
            Some(known) => {
                let heartbeat = known.last_heartbeat_time.clone();
                ("NodeStatusUnknown", "Kubelet stopped posting node status.", heartbeat)
            }
            None => {
                let made = node.metadata.creation_timestamp.clone();
                ("NodeStatusNeverUpdated", "Kubelet never posted node status.", made)
            }
        };
        Some(NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: heartbeat,
            last_transition_time: Some(Time(now)),
        })
    };
    REPORTED.into_iter().filter_map(lost).collect()
}

/// All taints of a node, if they are not what its conditions ask for.
fn taints(node: &Node, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.as_ref();
    let old = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let (wanted, kept) = wanted(node);
    let ours = |taint: &Taint| {
        let of_condition = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
        let pressure = PRESSURES.iter().any(|(_, key)| *key == taint.key);
        match taint.effect.as_str() {
            "NoExecute" => of_condition && !kept,
            "NoSchedule" => (of_condition && !kept) || pressure || taint.key == UNSCHEDULABLE,
            _ => false,
        }
    };
    let is = |taint: &Taint, (key, effect): &(&str, &str)| taint.key == *key && taint.effect == *effect;
    let mut new: Vec<Taint> =
        old.iter().filter(|taint| !ours(taint) || wanted.iter().any(|one| is(taint, one))).cloned().collect();
    for one in &wanted {
        if !new.iter().any(|taint| is(taint, one)) {
            let (key, effect) = *one;
            new.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    (new != old).then_some(new)
}

/// The taints that a node is to have, and whether those of `Ready` stay as they are: a node that has not reported
/// yet keeps the one it was admitted with.
fn wanted(node: &Node) -> (Vec<(&'static str, &'static str)>, bool) {
    let mut wanted = Vec::new();
    let ready = condition(node, "Ready").map(|ready| ready.status.as_str());
    let by_ready = match ready {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    if let Some(key) = by_ready {
        wanted.extend([(key, "NoSchedule"), (key, "NoExecute")]);
    }
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_true = |kind: &str| condition(node, kind).is_some_and(|condition| condition.status == "True");
    wanted.extend(PRESSURES.iter().filter(|(kind, _)| is_true(kind)).map(|&(_, key)| (key, "NoSchedule")));
    (wanted, ready.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(40);

    fn node(conditions: &[(&str, &str)], taints: &[(&str, &str)], unschedulable: bool) -> Node {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, status)| {
                serde_json::json!({"type": kind, "status": status, "lastHeartbeatTime": "2030-01-01T00:00:00Z"})
            })
            .collect();
        let taints: Vec<_> =
            taints.iter().map(|(key, effect)| serde_json::json!({"key": key, "effect": effect})).collect();
        serde_json::from_value(serde_json::json!({"metadata": {"name": "n"},
            "spec": {"taints": taints, "unschedulable": unschedulable}, "status": {"conditions": conditions}}))
        .unwrap()
    }

    fn planned(node: &Node, silent: u64) -> Plan {
        plan(node, Duration::from_secs(silent), GRACE, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn taints_follow_the_conditions() {
        let other = ("example.org/a", "NoExecute");
        let not_ready = [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")];
        let unreachable = [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")];
        let rows: [(Node, Option<Vec<(&str, &str)>>); 8] = [
            (node(&[("Ready", "True")], &[], false), None),
            (node(&[("Ready", "True")], &[other, not_ready[0]], false), Some(vec![other])),
            (node(&[], &[not_ready[0]], false), None),
            (node(&[("Ready", "False")], &[not_ready[0]], false), Some(not_ready.to_vec())),
            (node(&[("Ready", "Unknown")], &not_ready, false), Some(unreachable.to_vec())),
            (node(&[("Ready", "True")], &unreachable, true), Some(vec![(UNSCHEDULABLE, "NoSchedule")])),
            (node(&[("Ready", "True")], &[(UNSCHEDULABLE, "NoSchedule")], false), Some(vec![])),
            (
                node(&[("Ready", "True"), ("DiskPressure", "True")], &[other], false),
                Some(vec![other, ("node.kubernetes.io/disk-pressure", "NoSchedule")]),
            ),
        ];
        for (node, expected) in rows {
            let taints = planned(&node, 0).taints;
            let taints = taints.as_ref().map(|taints| {
                taints.iter().map(|taint| (taint.key.as_str(), taint.effect.as_str())).collect::<Vec<_>>()
            });
            assert_eq!(taints, expected, "{node:?}");
        }
    }

    #[test]
    fn a_silent_node_is_unknown_once() {
        let heard = node(&[("Ready", "True"), ("MemoryPressure", "False")], &[], false);
        assert!(planned(&heard, 40).conditions.is_empty());
        let lost = planned(&heard, 41).conditions;
        let told: Vec<_> =
            lost.iter().map(|one| (one.type_.as_str(), one.reason.as_deref().unwrap())).collect();
        let (stopped, never) = ("NodeStatusUnknown", "NodeStatusNeverUpdated");
        let expected = [
            ("Ready", stopped),
            ("MemoryPressure", stopped),
            ("DiskPressure", never),
            ("PIDPressure", never),
        ];
        assert_eq!(told, expected);
        assert!(lost.iter().all(|one| one.status == "Unknown" && one.last_transition_time.is_some()));
        let all: Vec<_> = REPORTED.into_iter().map(|kind| (kind, "Unknown")).collect();
        assert!(planned(&node(&all, &[], false), 1000).conditions.is_empty());
    }

    #[test]
    fn a_node_that_never_reported_has_longer() {
        let fresh = node(&[], &[(NOT_READY, "NoSchedule")], false);
        assert_eq!(planned(&fresh, 60), Plan::default());
        assert_eq!(planned(&fresh, 61).conditions.len(), 4);
    }

    #[test]
    fn silence_begins_with_the_last_sign_that_was_new() {
        let node = node(&[("Ready", "True")], &[], false);
        let at = Duration::from_secs;
        let renewed = |second| Timestamp::from_second(second).ok();
        let first = hear(None, &node, renewed(1), at(10));
        let same = hear(Some(&first), &node, renewed(1), at(20));
        assert_eq!((first.at, same.at), (at(10), at(10)));
        assert_eq!(hear(Some(&same), &node, renewed(2), at(30)).at, at(30));
    }
}
