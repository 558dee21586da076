//! Whether what a node has left is enough (`scheduler.AdmissionCheck`).

use std::collections::BTreeMap;

use super::{Demand, Refusal, refuse};

/// A resource of which too little is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Short {
    pub resource: String,
    pub requested: i64,
    pub used: i64,
    pub capacity: i64,
}

impl Short {
    /// How much of it would have to be freed.
    pub fn missing(&self) -> i64 {
        self.requested - (self.capacity - self.used)
    }

    fn message(&self) -> String {
        let Self { resource, requested, used, capacity } = self;
        format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    }
}

/// Why a pod does not fit a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Room would help.
    Short(Short),
    /// Nothing would; by the scheduler's names and in its words.
    Predicate { name: &'static str, why: &'static str },
}

impl Failure {
    /// As the pod's status says it.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Short(short) => refuse(format!("OutOf{}", short.resource), short.message()),
            Self::Predicate { name, why } => refuse(*name, format!("Predicate {name} failed: {why}")),
        }
    }
}

/// What is missing of `capacity` where `taken` is given away already. What the node does not know of (cluster-level
/// resources) is not its to refuse.
pub fn resources<'d>(
    wanted: &Demand,
    taken: impl Iterator<Item = &'d Demand> + Clone,
    capacity: &BTreeMap<String, i64>,
) -> Vec<Failure> {
    // The order in which upstream looks.
    let first = ["pods", "cpu", "memory", "ephemeral-storage"];
    let others = wanted.amounts.keys().map(String::as_str).filter(|name| !first.contains(name));
    let mut failures = Vec::new();
    for name in first.into_iter().chain(others) {
        let requested = wanted.of(name);
        let Some(capacity) = capacity.get(name).copied().filter(|_| requested > 0) else { continue };
        let used: i64 = taken.clone().map(|demand| demand.of(name)).sum();
        if requested + used > capacity {
            failures.push(Failure::Short(Short { resource: name.to_owned(), requested, used, capacity }));
        }
    }
    failures
}

/// Whether a port of the host is somebody else's.
pub fn ports<'d>(wanted: &Demand, taken: impl Iterator<Item = &'d Demand> + Clone) -> Option<Failure> {
    let mut have = taken.flat_map(|demand| &demand.ports);
    have.any(|port| wanted.ports.iter().any(|wanted| wanted.conflicts(port))).then_some(Failure::Predicate {
        name: "NodePorts",
        why: "node(s) didn't have free ports for the requested pod ports",
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::super::demand;
    use super::*;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    #[test]
    fn a_pod_that_asks_for_too_much_is_refused_by_name() {
        let capacity = BTreeMap::from([("cpu".to_owned(), 2000), ("pods".to_owned(), 2)]);
        let asks = |cpu: &str| {
            demand(&pod(
                json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "example.com/x": "1"}}}]}),
            ))
        };
        let taken = [asks("1500m")];
        assert_eq!(resources(&asks("500m"), taken.iter(), &capacity), []);
        let failures = resources(&asks("600m"), taken.iter(), &capacity);
        let refusal = failures[0].refusal();
        assert_eq!((failures.len(), refusal.reason.as_str()), (1, "OutOfcpu"));
        assert_eq!(
            refusal.message,
            "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
        );
        let Failure::Short(short) = &failures[0] else { panic!("{failures:?}") };
        assert_eq!(short.missing(), 100);
        let full = [asks("0"), asks("0")];
        assert_eq!(resources(&asks("0"), full.iter(), &capacity)[0].refusal().reason, "OutOfpods");
        assert_eq!(resources(&asks("3"), full.iter(), &capacity).len(), 2, "all that is missing is told");
    }

    #[test]
    fn a_port_of_the_host_is_had_once_for_each_address_and_protocol() {
        let asks =
            |port: serde_json::Value| demand(&pod(json!({"containers": [{"name": "c", "ports": [port]}]})));
        let have = [asks(json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.1"}))];
        for (port, free) in [
            (json!({"containerPort": 1, "hostPort": 80}), false),
            (json!({"containerPort": 1, "hostPort": 80, "hostIP": "10.0.0.2"}), true),
            (json!({"containerPort": 1, "hostPort": 80, "protocol": "UDP"}), true),
            (json!({"containerPort": 80}), true),
        ] {
            let result = ports(&asks(port.clone()), have.iter());
            assert_eq!(result.is_none(), free, "{port}: {result:?}");
        }
        let refusal = ports(&have[0], have.iter()).unwrap().refusal();
        assert_eq!(
            refusal.message,
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
        );
    }
}
