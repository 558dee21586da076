//! Whom it meets, and what is said of it: upstream's order and words. Pure.

use std::cmp::Reverse;

use schema::quantity::{Format, Quantity};

use super::plan::{Observation, Observations};
use super::settings::{Signal, Threshold};

/// What one container uses, and what it asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerUse {
    pub name: String,
    /// Bytes; absent when nobody knows.
    pub memory: Option<i64>,
    pub memory_request: Option<Quantity>,
    /// Its writable layer and its logs.
    pub disk: Option<i64>,
    pub disk_request: Option<Quantity>,
}

/// What one pod uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodUse {
    pub uid: String,
    pub priority: i32,
    /// Never evicted.
    pub critical: bool,
    pub memory: Option<i64>,
    pub memory_request: i64,
    pub disk: Option<i64>,
    pub disk_request: i64,
    pub inodes: Option<i64>,
    pub pids: Option<i64>,
    pub containers: Vec<ContainerUse>,
}

/// Sorts pods: the first to go comes first. Of whom nothing is known goes before all others.
pub fn rank(signal: Signal, pods: &mut [PodUse]) {
    let key = |pod: &PodUse| {
        let (usage, request) = match signal {
            Signal::Memory => (pod.memory, pod.memory_request),
            Signal::NodeDisk | Signal::ImageDisk => (pod.disk, pod.disk_request),
            Signal::NodeInodes | Signal::ImageInodes => (pod.inodes, 0),
            Signal::Pid => (pod.pids, 0),
        };
        let beyond = usage.map_or(i64::MAX, |usage| usage - request);
        // Nobody asks for process ids: all of them are beyond.
        let is_beyond = signal == Signal::Pid || beyond > 0;
        (Reverse(usage.is_none()), Reverse(is_beyond), pod.priority, Reverse(beyond))
    };
    pods.sort_by_key(key);
}

fn bytes(amount: i64) -> Quantity {
    Quantity::from_int(amount, Format::BinarySi)
}

/// The message of an eviction.
pub fn message(threshold: &Threshold, observations: &Observations, pod: &PodUse) -> String {
    let (signal, resource) = (threshold.signal, threshold.signal.resource());
    let mut message = format!("The node was low on resource: {resource}. ");
    if let Some(Observation { available, capacity }) = observations.get(&signal) {
        let least = threshold.least.of(*capacity);
        let (least, available) = match resource {
            "memory" | "ephemeral-storage" => (bytes(least), bytes(*available)),
            _ => (
                Quantity::from_int(least, Format::DecimalSi),
                Quantity::from_int(*available, Format::DecimalSi),
            ),
        };
        message += &format!("Threshold quantity: {least}, available: {available}. ");
    }
    for container in &pod.containers {
        let (usage, request) = match resource {
            "memory" => (container.memory, &container.memory_request),
            "ephemeral-storage" => (container.disk, &container.disk_request),
            _ => continue,
        };
        let asked = request.as_ref().map_or(0, Quantity::value);
        if let Some(usage) = usage.filter(|usage| *usage > asked) {
            let request = request.as_ref().map_or_else(|| "0".to_owned(), ToString::to_string);
            message += &format!(
                "Container {} was using {}, request is {request}, has larger consumption of {resource}. ",
                container.name,
                bytes(usage)
            );
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::eviction::settings::Amount;

    fn pod(uid: &str, priority: i32, memory: Option<i64>, memory_request: i64) -> PodUse {
        PodUse { uid: uid.to_owned(), priority, memory, memory_request, ..PodUse::default() }
    }

    #[test]
    fn who_uses_more_than_asked_goes_first_then_the_unimportant_then_the_greedy() {
        let mut pods = [
            pod("modest", 0, Some(10), 100),
            pod("greedy", 5, Some(300), 100),
            pod("greedier", 5, Some(900), 100),
            pod("unimportant", 1, Some(101), 100),
            pod("unknown", 9, None, 0),
        ];
        rank(Signal::Memory, &mut pods);
        let order: Vec<_> = pods.iter().map(|pod| pod.uid.as_str()).collect();
        assert_eq!(order, ["unknown", "unimportant", "greedier", "greedy", "modest"]);
    }

    #[test]
    fn the_message_is_upstreams() {
        let threshold = Threshold {
            signal: Signal::Memory,
            least: Amount::Quantity("100Mi".parse().unwrap()),
            grace: None,
            reclaim: None,
        };
        let observations =
            BTreeMap::from([(Signal::Memory, Observation { available: 50 << 20, capacity: 1 << 30 })]);
        let mut used = pod("a", 0, Some(0), 0);
        used.containers.push(ContainerUse {
            name: "c".to_owned(),
            memory: Some(64 << 20),
            memory_request: Some("32Mi".parse().unwrap()),
            ..ContainerUse::default()
        });
        assert_eq!(
            message(&threshold, &observations, &used),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container c was using 64Mi, request is 32Mi, has larger consumption of memory. "
        );
    }
}
