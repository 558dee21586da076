//! Which pods bear a node's `NoExecute` taints, and for how long. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Taint, Toleration};
use kinds::matching::tolerates;

/// How long a pod may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stay {
    /// Until then.
    Until(Timestamp),
    /// As long as it likes.
    Forever,
}

/// How long a pod that came at `came` may stay on a node with `taints`; `since` tells since when one is there.
pub fn stay(
    tolerations: &[Toleration],
    taints: &[Taint],
    came: Timestamp,
    since: impl Fn(&Taint) -> Timestamp,
) -> Stay {
    let one = |taint: &Taint| {
        let start = since(taint).max(came);
        let Some(toleration) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Stay::Until(start);
        };
        let Some(seconds) = toleration.toleration_seconds else { return Stay::Forever };
        let end = start.checked_add(SignedDuration::from_secs(seconds.max(0)));
        end.map_or(Stay::Forever, Stay::Until)
    };
    taints.iter().filter(|taint| taint.effect == "NoExecute").map(one).min().unwrap_or(Stay::Forever)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_stay_as_long_as_they_tolerate() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let until = |end| Stay::Until(second(end));
        let taints = serde_json::json!([
            {"key": "a", "value": "x", "effect": "NoExecute"}, {"key": "b", "effect": "NoSchedule"},
        ]);
        let taints: Vec<Taint> = serde_json::from_value(taints).unwrap();
        let rows = [
            (serde_json::json!([]), until(100)),
            (serde_json::json!([{"operator": "Exists"}]), Stay::Forever),
            (serde_json::json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]), until(100)),
            (serde_json::json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 300}]), until(400)),
            (serde_json::json!([{"key": "a", "operator": "Exists", "tolerationSeconds": -1}]), until(100)),
            (serde_json::json!([{"key": "a", "value": "x", "effect": "NoExecute"}]), Stay::Forever),
            (serde_json::json!([{"key": "a", "value": "y"}]), until(100)),
        ];
        for (tolerations, expected) in rows {
            let parsed: Vec<Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
            assert_eq!(stay(&parsed, &taints, second(50), |_| second(100)), expected, "{tolerations}");
        }
        assert_eq!(stay(&[], &taints, second(200), |_| second(100)), until(200));
        assert_eq!(stay(&[], &[], second(0), |_| second(0)), Stay::Forever);
    }
}
