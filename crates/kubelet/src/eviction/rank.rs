//! Whom it meets, and what is said of it: upstream's order and words. Pure.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use schema::quantity::{Format, Quantity};

use super::plan::{Observation, Observations};
use super::settings::{Amount, Threshold};
use super::signal::{Parts, Signal};

/// Bytes and files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    pub bytes: i64,
    pub inodes: i64,
}

impl std::ops::Add for Space {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, inodes: self.inodes + other.inodes }
    }
}

/// What one container uses, and what it asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerUse {
    pub name: String,
    /// Bytes; absent when nobody knows.
    pub memory: Option<i64>,
    pub memory_request: Option<Quantity>,
    /// Its writable layer.
    pub layer: Option<Space>,
    pub logs: Space,
    pub disk_request: Option<Quantity>,
}

/// What one pod uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PodUse {
    pub uid: String,
    pub name: String,
    pub priority: i32,
    /// The runtime tells of it.
    pub known: bool,
    pub memory: i64,
    pub memory_request: i64,
    /// What the pod as a whole asks for.
    pub own_memory_request: Option<Quantity>,
    /// Volumes on the node's disk.
    pub volumes: Space,
    pub disk_request: i64,
    pub pids: i64,
    pub containers: Vec<ContainerUse>,
}

impl PodUse {
    /// What it uses of a disk on which these parts are.
    pub fn space(&self, parts: Parts) -> Space {
        let of = |container: &ContainerUse| {
            let layer = container.layer.filter(|_| parts.layers).unwrap_or_default();
            layer + if parts.logs { container.logs } else { Space::default() }
        };
        let containers = self.containers.iter().map(of).fold(Space::default(), |sum, one| sum + one);
        containers + if parts.volumes { self.volumes } else { Space::default() }
    }
}

/// Sorts pods: the first to go comes first. Of whom nothing is known goes before all others, except where process ids
/// are short.
pub fn rank(signal: Signal, parts: Parts, pods: &mut [PodUse]) {
    pods.sort_by_key(|pod| {
        let space = pod.space(parts);
        // Upstream takes the bytes that are asked for off the number of files, too.
        let (beyond, exceeds) = match signal {
            Signal::Pid => (pod.pids, true),
            _ if signal.is_memory() => (pod.memory - pod.memory_request, pod.memory > pod.memory_request),
            _ if signal.is_inodes() => (space.inodes - pod.disk_request, space.inodes > 0),
            _ => (space.bytes - pod.disk_request, space.bytes > pod.disk_request),
        };
        let unknown_first = signal != Signal::Pid && !pod.known;
        (Reverse(unknown_first), Reverse(exceeds), pod.priority, Reverse(!pod.known), Reverse(beyond))
    });
}

fn bytes(amount: i64) -> Quantity {
    Quantity::from_int(amount, Format::BinarySi)
}

/// The message of an eviction, and the annotations of its event.
pub fn message(
    threshold: &Threshold,
    observations: &Observations,
    pod: &PodUse,
) -> (String, BTreeMap<String, String>) {
    let resource = threshold.signal.resource();
    let mut annotations = BTreeMap::new();
    let mut note = |key: &str, value: String| drop(annotations.insert(key.to_owned(), value));
    let mut message = format!("The node was low on resource: {resource}. ");
    if let Some(Observation { available, capacity }) = observations.get(&threshold.signal) {
        let least = match &threshold.least {
            Amount::Quantity(quantity) => quantity.clone(),
            share @ Amount::Share(_) => bytes(share.of(*capacity)),
        };
        let format = match resource {
            "memory" | "ephemeral-storage" => Format::BinarySi,
            _ => Format::DecimalSi,
        };
        let available = Quantity::from_int(*available, format);
        message += &format!("Threshold quantity: {least}, available: {available}. ");
    }
    if !pod.known {
        return (message, annotations);
    }
    let larger = |what: &str, name: &str, usage: &Quantity, request: &str| {
        format!(
            "{what} {name} was using {usage}, request is {request}, has larger consumption of {resource}. "
        )
    };
    if let Some(request) = pod.own_memory_request.as_ref().filter(|_| threshold.signal.is_memory()) {
        let usage = bytes(pod.memory);
        message += &larger("Pod", &pod.name, &usage, &request.to_string());
        note("offending_pod", pod.name.clone());
        note("offending_pod_usage", usage.to_string());
    }
    let (mut names, mut usages) = (Vec::new(), Vec::new());
    for container in &pod.containers {
        let (usage, request) = match resource {
            "memory" => (container.memory, &container.memory_request),
            "ephemeral-storage" => {
                let usage = container.layer.map(|layer| layer.bytes + container.logs.bytes);
                (usage, &container.disk_request)
            }
            _ => continue,
        };
        let asked = request.as_ref().map_or(0, Quantity::value);
        if let Some(usage) = usage.filter(|usage| *usage > asked).map(bytes) {
            let request = request.as_ref().map_or_else(|| "0".to_owned(), ToString::to_string);
            message += &larger("Container", &container.name, &usage, &request);
            names.push(container.name.clone());
            usages.push(usage.to_string());
        }
    }
    note("offending_containers", names.join(","));
    note("offending_containers_usage", usages.join(","));
    note("starved_resource", resource.to_owned());
    (message, annotations)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, priority: i32, memory: Option<i64>, memory_request: i64) -> PodUse {
        PodUse {
            uid: uid.to_owned(),
            name: uid.to_owned(),
            priority,
            known: memory.is_some(),
            memory: memory.unwrap_or(0),
            memory_request,
            ..PodUse::default()
        }
    }

    fn order(signal: Signal, parts: Parts, mut pods: Vec<PodUse>) -> Vec<String> {
        rank(signal, parts, &mut pods);
        pods.into_iter().map(|pod| pod.uid).collect()
    }

    #[test]
    fn who_uses_more_than_asked_goes_first_then_the_unimportant_then_the_greedy() {
        let pods = vec![
            pod("modest", 0, Some(10), 100),
            pod("greedy", 5, Some(300), 100),
            pod("greedier", 5, Some(900), 100),
            pod("unimportant", 1, Some(101), 100),
            pod("unknown", 9, None, 0),
        ];
        let wanted = ["unknown", "unimportant", "greedier", "greedy", "modest"];
        assert_eq!(order(Signal::Memory, Parts::default(), pods.clone()), wanted);
        assert_eq!(order(Signal::PodsMemory, Parts::default(), pods), wanted);
    }

    #[test]
    fn where_process_ids_are_short_the_unimportant_goes_first_whatever_is_known() {
        let mut pods =
            vec![pod("unknown", 9, None, 0), pod("few", 5, Some(1), 0), pod("many", 5, Some(1), 0)];
        pods[2].pids = 100;
        assert_eq!(order(Signal::Pid, Parts::default(), pods), ["many", "few", "unknown"]);
    }

    #[test]
    fn only_what_is_on_the_disk_counts() {
        let with = |uid: &str, layer: i64, logs: i64, volumes: i64| {
            let mut pod = pod(uid, 0, Some(0), 0);
            pod.disk_request = 10;
            pod.volumes = Space { bytes: volumes, inodes: 1 };
            pod.containers = vec![ContainerUse {
                layer: Some(Space { bytes: layer, inodes: 100 - layer }),
                logs: Space { bytes: logs, inodes: 1 },
                ..ContainerUse::default()
            }];
            pod
        };
        let pods = vec![with("layer", 90, 0, 0), with("logs", 0, 50, 0), with("volumes", 0, 0, 30)];
        let all = Parts { layers: true, logs: true, volumes: true };
        let layers = Parts { layers: true, ..Parts::default() };
        let others = Parts { layers: false, ..all };
        assert_eq!(order(Signal::NodeDisk, all, pods.clone()), ["layer", "logs", "volumes"]);
        assert_eq!(order(Signal::ImageDisk, layers, pods.clone())[0], "layer");
        assert_eq!(order(Signal::NodeDisk, others, pods.clone()), ["logs", "volumes", "layer"]);
        assert_eq!(order(Signal::NodeInodes, all, pods), ["logs", "volumes", "layer"]);
    }

    fn threshold(signal: Signal, least: &str) -> Threshold {
        Threshold { signal, least: Amount::Quantity(least.parse().unwrap()), grace: None, reclaim: None }
    }

    #[test]
    fn the_message_is_upstreams() {
        let threshold = threshold(Signal::Memory, "100Mi");
        let observed = Observation { available: 50 << 20, capacity: 1 << 30 };
        let observations = BTreeMap::from([(Signal::Memory, observed)]);
        let mut used = pod("a", 0, Some(64 << 20), 0);
        used.containers.push(ContainerUse {
            name: "c".to_owned(),
            memory: Some(64 << 20),
            memory_request: Some("32Mi".parse().unwrap()),
            ..ContainerUse::default()
        });
        let (text, annotations) = message(&threshold, &observations, &used);
        assert_eq!(
            text,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container c was using 64Mi, request is 32Mi, has larger consumption of memory. "
        );
        let of = |key: &str| annotations[key].as_str();
        assert_eq!(
            (of("offending_containers"), of("offending_containers_usage"), of("starved_resource")),
            ("c", "64Mi", "memory")
        );
        used.own_memory_request = Some("16Mi".parse().unwrap());
        let (text, annotations) = message(&threshold, &observations, &used);
        assert!(
            text.contains(
                "Pod a was using 64Mi, request is 16Mi, has larger consumption of memory. Container c"
            ),
            "{text}"
        );
        assert_eq!(annotations["offending_pod_usage"], "64Mi");
        used.known = false;
        let (text, annotations) = message(&threshold, &observations, &used);
        assert!(text.ends_with("available: 50Mi. ") && annotations.is_empty(), "{text}");
    }

    #[test]
    fn numbers_are_told_as_numbers() {
        let threshold = threshold(Signal::Pid, "1000");
        let observed = Observation { available: 500, capacity: 32768 };
        let observations = BTreeMap::from([(Signal::Pid, observed)]);
        let (text, _) = message(&threshold, &observations, &pod("a", 0, Some(0), 0));
        assert_eq!(text, "The node was low on resource: pids. Threshold quantity: 1k, available: 500. ");
    }
}
