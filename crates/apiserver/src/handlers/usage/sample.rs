//! What a kubelet says of its node and pods at one time.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// A look at a node.
#[derive(Debug)]
pub struct Sample {
    /// When, by the monotonic clock.
    pub at: Duration,
    /// When.
    pub time: Timestamp,
    /// The node as a whole.
    pub node: Usage,
    /// By namespace and name of the pod, then by name.
    pods: BTreeMap<(String, String), BTreeMap<String, Usage>>,
}

/// Processor time and memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds so far, or in each second.
    pub cpu: Option<u64>,
    /// Bytes of the working set.
    pub memory: Option<u64>,
}

/// As much of `stats.Summary` (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`) as is looked at.
#[derive(Deserialize)]
struct Summary {
    node: Measured,
    #[serde(default)]
    pods: Vec<Pod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    pod_ref: PodRef,
    #[serde(default)]
    containers: Vec<Measured>,
}

#[derive(Deserialize)]
struct PodRef {
    name: String,
    namespace: String,
}

#[derive(Deserialize)]
struct Measured {
    #[serde(default)]
    name: String,
    #[serde(default)]
    cpu: Cpu,
    #[serde(default)]
    memory: Memory,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Cpu {
    usage_core_nano_seconds: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Memory {
    working_set_bytes: Option<u64>,
}

impl Measured {
    fn usage(&self) -> Usage {
        Usage { cpu: self.cpu.usage_core_nano_seconds, memory: self.memory.working_set_bytes }
    }
}

impl Sample {
    /// Reads a kubelet's `/stats/summary`.
    ///
    /// # Errors
    /// For what is none.
    pub fn read(json: &[u8], at: Duration, time: Timestamp) -> serde_json::Result<Self> {
        let summary: Summary = serde_json::from_slice(json)?;
        let pods = summary.pods.into_iter().map(|pod| {
            let containers =
                pod.containers.into_iter().map(|measured| (measured.name.clone(), measured.usage()));
            ((pod.pod_ref.namespace, pod.pod_ref.name), containers.collect())
        });
        Ok(Self { at, time, node: summary.node.usage(), pods: pods.collect() })
    }

    /// A pod's containers.
    pub fn containers(&self, namespace: &str, pod: &str) -> impl Iterator<Item = (&str, Usage)> {
        let found = self.pods.get(&(namespace.to_owned(), pod.to_owned()));
        found.into_iter().flatten().map(|(name, usage)| (name.as_str(), *usage))
    }

    /// One of them.
    pub fn container(&self, namespace: &str, pod: &str, name: &str) -> Option<Usage> {
        self.pods.get(&(namespace.to_owned(), pod.to_owned()))?.get(name).copied()
    }
}

impl Usage {
    /// What is used in each second since an earlier look; nothing where it is not known. Whoever began anew since begins
    /// with nothing.
    pub fn since(&self, before: &Self, window: Duration) -> Option<Self> {
        let (now, memory) = (self.cpu?, self.memory?);
        let spent = now.checked_sub(before.cpu.unwrap_or(0)).unwrap_or(now);
        let rate = u128::from(spent) * 1_000_000_000 / window.as_nanos().max(1);
        Some(Self { cpu: Some(u64::try_from(rate).unwrap_or(u64::MAX)), memory: Some(memory) })
    }

    /// As quantities: `123n` and `456Ki`.
    pub fn to_json(self) -> Value {
        let (cpu, memory) = (self.cpu.unwrap_or(0), self.memory.unwrap_or(0) >> 10);
        json!({"cpu": format!("{cpu}n"), "memory": format!("{memory}Ki")})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu: u64, at: u64) -> Sample {
        let used = json!({"cpu": {"usageCoreNanoSeconds": cpu}, "memory": {"workingSetBytes": 4096}});
        let mut container = used.clone();
        container["name"] = json!("c");
        let summary = json!({"node": used, "pods": [
            {"podRef": {"name": "p", "namespace": "n", "uid": "u"}, "containers": [container, {"name": "new"}]}]});
        let at = Duration::from_secs(at);
        Sample::read(summary.to_string().as_bytes(), at, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn processor_time_is_what_was_spent_in_each_second_between_two_looks() {
        let (before, now) = (sample(1_000_000_000, 10), sample(4_000_000_000, 12));
        let used = now.node.since(&before.node, now.at - before.at).unwrap();
        assert_eq!(used.to_json(), json!({"cpu": "1500000000n", "memory": "4Ki"}));
        let earlier = before.container("n", "p", "c").unwrap();
        let containers: Vec<_> = now.containers("n", "p").collect();
        assert_eq!(containers[0].0, "c");
        assert_eq!(containers[0].1.since(&earlier, Duration::from_secs(2)).unwrap().cpu, Some(1_500_000_000));
        // One that was started again has used less than before.
        assert_eq!(earlier.since(&containers[0].1, Duration::from_secs(1)).unwrap().cpu, Some(1_000_000_000));
        assert_eq!(
            containers[1].1.since(&earlier, Duration::from_secs(1)),
            None,
            "nothing is known of it yet"
        );
        assert_eq!(now.containers("n", "other").count(), 0);
    }
}
