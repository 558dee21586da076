//! A node that is short of something (`eviction.managerImpl.Admit`).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Taint};
use kinds::matching::tolerates;

use super::{Refusal, refuse};
use crate::eviction::Condition;
use crate::pods::resources;
use crate::pods::spec::PodExt;

/// Takes no more pods, but critical ones, and those that a lack of memory does not concern.
///
/// # Errors
/// [`Refusal`].
pub fn under_pressure(pod: &Pod, critical: bool, pressure: &BTreeSet<Condition>) -> Result<(), Refusal> {
    if pressure.is_empty() || critical {
        return Ok(());
    }
    if *pressure == BTreeSet::from([Condition::Memory]) {
        let taint = Taint {
            key: "node.kubernetes.io/memory-pressure".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        let tolerations = pod.spec().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        if resources::qos(pod) != "BestEffort" || tolerations.iter().any(|t| tolerates(t, &taint)) {
            return Ok(());
        }
    }
    let names: Vec<&str> = pressure.iter().map(|condition| condition.name()).collect();
    Err(refuse("Evicted", format!("The node had condition: [{}]. ", names.join(" "))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_node_without_memory_takes_whoever_asked_for_some() {
        let careless = pod(json!({"containers": [{"name": "c"}]}));
        let careful =
            pod(json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]}));
        let memory = BTreeSet::from([Condition::Memory]);
        let refusal = under_pressure(&careless, false, &memory).unwrap_err();
        assert_eq!(refusal.message, "The node had condition: [MemoryPressure]. ");
        assert_eq!(under_pressure(&careful, false, &memory), Ok(()));
        assert_eq!(under_pressure(&careless, true, &memory), Ok(()), "critical pods are taken");
        assert!(under_pressure(&careful, false, &BTreeSet::from([Condition::Disk])).is_err());
        assert_eq!(under_pressure(&careless, false, &BTreeSet::new()), Ok(()));
        for (toleration, taken) in [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}), true),
            (json!({"key": "node.kubernetes.io/memory-pressure", "value": "x"}), false),
            (json!({"key": "node.kubernetes.io/disk-pressure", "operator": "Exists"}), false),
            (json!({"operator": "Exists", "effect": "NoExecute"}), false),
        ] {
            let tolerant = pod(json!({"containers": [{"name": "c"}], "tolerations": [toleration]}));
            assert_eq!(under_pressure(&tolerant, false, &memory).is_ok(), taken, "{toleration}");
        }
    }
}
