//! Memory that is kept for who asked for it, and who is slowed down before it is short (KEP-2570, `MemoryQoS`): there are
//! files for both in control groups of version 2 alone. Pure.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::resources::{limit, qos, request};
use crate::cgroups::{KeptMemory, Limits};

/// Above so much, whoever uses it has to give pages back first.
const HIGH_FILE: &str = "memory.high";
/// Never taken from whoever has it, and taken last of all.
const MIN_FILE: &str = "memory.min";
const LOW_FILE: &str = "memory.low";

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct MemoryQos {
    /// How far between what is asked for and the limit; nobody is slowed down without one.
    factor: Option<f64>,
    /// Whether memory is kept (`memoryReservationPolicy: TieredReservation`).
    tiered: bool,
    /// Bytes that all pods may have.
    allocatable: i64,
    page: i64,
}

impl MemoryQos {
    /// By a configuration that wants it: its `memoryThrottlingFactor` and `memoryReservationPolicy`.
    pub fn new(factor: Option<f64>, policy: &str, allocatable: i64) -> Self {
        let page = i64::try_from(base::memory::page()).unwrap_or(4096);
        Self { factor, tiered: policy == "TieredReservation", allocatable, page }
    }

    /// The files of a container's group.
    pub fn container(&self, pod: &Pod, container: &Container) -> Vec<(&'static str, String)> {
        let own = container.resources.as_ref();
        let asked = request(own, "memory").unwrap_or(0);
        let most = limit(own, "memory").unwrap_or(0);
        let kept = self.kept(qos(pod), asked);
        let mut files: Vec<_> = [(MIN_FILE, kept.never_taken), (LOW_FILE, kept.taken_last)]
            .into_iter()
            .filter_map(|(file, bytes)| Some((file, bytes?.to_string())))
            .collect();
        if let Some(high) = self.high(asked, most) {
            files.push((HIGH_FILE, high.to_string()));
        }
        files
    }

    /// Whoever may not grow is not slowed down either.
    fn high(&self, asked: i64, most: i64) -> Option<i64> {
        let factor = self.factor.filter(|_| asked != most)?;
        let most = if most == 0 { self.allocatable } else { most };
        let high = asked + ((most - asked) as f64 * factor).floor() as i64;
        let high = high / self.page * self.page;
        (high > asked).then_some(high)
    }

    /// What is kept for a container or a pod. That nothing is has to be said, for it may have been otherwise before.
    fn kept(&self, class: &str, asked: i64) -> KeptMemory {
        match (self.tiered && asked > 0, class) {
            (true, "Guaranteed") => KeptMemory { never_taken: Some(asked), taken_last: None },
            (true, _) => KeptMemory { never_taken: None, taken_last: Some(asked) },
            (false, _) => KeptMemory { never_taken: Some(0), taken_last: Some(0) },
        }
    }

    /// Adds to the limits of a pod of a class what is kept for it.
    pub fn pod(&self, class: &str, asked: i64, limits: &mut Limits) {
        if self.tiered && asked > 0 {
            limits.kept = self.kept(class, asked);
        }
    }

    /// What is kept for all pods of the classes Guaranteed and Burstable, by what they ask for.
    pub fn asked(&self, guaranteed: i64, burstable: i64) -> (i64, i64) {
        if self.tiered { (guaranteed, burstable) } else { (0, 0) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::spec::PodExt;

    const MI: i64 = 1 << 20;

    fn files(policy: &str, factor: impl Into<Option<f64>>, resources: serde_json::Value) -> String {
        let qos = MemoryQos { page: 4096, ..MemoryQos::new(factor.into(), policy, 1000 * MI) };
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"},
            "spec": {"containers": [{"name": "c", "resources": resources}]}}))
        .unwrap();
        let files = qos.container(&pod, &pod.container("c").unwrap());
        files.iter().map(|(file, value)| format!("{file}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn who_may_grow_is_slowed_down_before_the_limit() {
        let grows = json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}});
        let none = "memory.min=0 memory.low=0";
        assert_eq!(files("None", 0.9, grows.clone()), format!("{none} memory.high={}", 190 * MI));
        assert_eq!(files("None", None, grows.clone()), none, "nothing is said");
        let half = files("None", 0.50001, grows);
        assert_eq!(half, format!("{none} memory.high={}", 150 * MI), "whole pages");
        let without = json!({"requests": {"memory": "100Mi"}});
        assert_eq!(files("None", 0.9, without), format!("{none} memory.high={}", 910 * MI), "the node's");
        assert_eq!(files("None", 0.9, json!({})), none, "who asks for nothing and has no limit");
        let fixed = json!({"limits": {"memory": "100Mi", "cpu": "1"}});
        assert_eq!(files("None", 0.9, fixed), none);
    }

    #[test]
    fn what_is_asked_for_is_kept_by_the_pods_class() {
        let fixed = json!({"limits": {"memory": "100Mi", "cpu": "1"}});
        assert_eq!(files("TieredReservation", 0.9, fixed), format!("memory.min={}", 100 * MI));
        let grows = json!({"requests": {"memory": "100Mi"}, "limits": {"memory": "200Mi"}});
        let kept = files("TieredReservation", 0.9, grows);
        assert_eq!(kept, format!("memory.low={} memory.high={}", 100 * MI, 190 * MI));
        assert_eq!(files("TieredReservation", 0.9, json!({})), "memory.min=0 memory.low=0");

        let (tiered, none) = (MemoryQos::new(None, "TieredReservation", 0), MemoryQos::new(None, "None", 0));
        let of_pod = |qos: &MemoryQos, class, asked| {
            let mut limits = Limits::default();
            qos.pod(class, asked, &mut limits);
            (limits.kept.never_taken, limits.kept.taken_last)
        };
        assert_eq!(of_pod(&tiered, "Guaranteed", 5), (Some(5), None));
        assert_eq!(of_pod(&tiered, "Burstable", 5), (None, Some(5)));
        assert_eq!(of_pod(&tiered, "Burstable", 0), (None, None));
        assert_eq!(of_pod(&none, "Burstable", 5), (None, None));
        assert_eq!((tiered.asked(1, 2), none.asked(1, 2)), ((1, 2), (0, 0)));
    }
}
