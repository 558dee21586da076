//! A machine of two NUMA nodes with two cores each; a plugin whose devices are at the second one.

use std::collections::BTreeMap;

use cri::device_plugin as wire;
use serde_json::json;

use super::*;
use crate::Configuration;
use crate::cpus::{Cpu, Layout};
use crate::devices::tests::{Fake, Node, RESOURCE};

fn machine() -> topology::Machine {
    let cpu = |id: u32| Cpu { node: i64::from(id / 2), socket: id / 2, core: id, uncore: id / 2 };
    let node =
        |id| topology::Node { id, memory: 1 << 30, distances: vec![10, 20], ..topology::Node::default() };
    topology::Machine {
        nodes: vec![node(0), node(1)],
        cpus: Layout::new((0..4).map(|id| (id, cpu(id))).collect()),
    }
}

fn device(id: &str) -> wire::Device {
    let topology = Some(wire::TopologyInfo { nodes: vec![wire::NumaNode { id: 1 }] });
    wire::Device { id: id.to_owned(), health: "Healthy".to_owned(), topology }
}

fn pod(uid: &str, containers: &[(&str, u32, u32)]) -> Pod {
    let container = |(name, cpu, things): &(&str, u32, u32)| {
        let amounts = json!({"cpu": cpu.to_string(), "memory": "1Mi", RESOURCE: things.to_string()});
        json!({"name": name, "resources": {"limits": amounts, "requests": amounts}})
    };
    let containers: Vec<_> = containers.iter().map(container).collect();
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": uid}, "spec": {"containers": containers}}))
        .unwrap()
}

async fn begin(root: &Path, policy: &str, scope: &str) -> (Exclusive, Node) {
    begin_with(root, policy, scope, &serde_json::Map::new()).await
}

async fn begin_with(
    root: &Path,
    policy: &str,
    scope: &str,
    flags: &serde_json::Map<String, serde_json::Value>,
) -> (Exclusive, Node) {
    let node = Node::begin(root);
    let mut fields = Configuration::merge(&[], flags.clone()).unwrap().0.fields;
    fields.cpu_manager_policy = "static".to_owned();
    fields.topology_manager_policy = policy.to_owned();
    fields.topology_manager_scope = scope.to_owned();
    let reserved = BTreeMap::from([("cpu".to_owned(), 1000)]);
    let exclusive = Exclusive::of(root, &fields, &machine(), &reserved, node.devices.clone()).unwrap();
    (exclusive, node)
}

#[tokio::test]
async fn what_a_container_has_is_near_together_or_refused() {
    let root = tempfile::tempdir().unwrap();
    let (exclusive, node) = begin(root.path(), "restricted", "container").await;
    let fake = Fake::of(vec![device("x"), device("y")], &[]);
    let _plugin = node.plug(&fake).await;
    node.shows(2, 2).await;
    // By itself it would have got the first node's processor.
    exclusive.admit(&pod("a", &[("c", 1, 1)])).await.unwrap();
    assert_eq!(exclusive.cpus.exclusive("a", "c").unwrap().to_string(), "2");
    assert_eq!(node.ids("a", "c"), "x");
    assert_eq!(exclusive.cpus.allowed("other", "c").unwrap().to_string(), "0-1,3");
    // Two processors are not left where the device is.
    let refusal = exclusive.admit(&pod("b", &[("c", 2, 1)])).await.unwrap_err();
    assert_eq!(refusal.reason, "TopologyAffinityError");
    assert_eq!(refusal.message, "Resources cannot be allocated with Topology locality");
    assert_eq!((exclusive.cpus.exclusive("b", "c"), node.ids("b", "c")), (None, String::new()));
    exclusive.release("a");
    exclusive.admit(&pod("b", &[("c", 2, 1)])).await.unwrap();
    assert_eq!(exclusive.cpus.exclusive("b", "c").unwrap().to_string(), "2-3");
}

#[tokio::test]
async fn a_pod_gets_all_or_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (exclusive, node) = begin(root.path(), "none", "container").await;
    let _plugin = node.plug(&Fake::of(vec![device("x"), device("y")], &[])).await;
    node.shows(2, 2).await;
    let refusal = exclusive.admit(&pod("a", &[("c", 1, 1), ("d", 3, 1)])).await.unwrap_err();
    assert_eq!(
        (refusal.reason.as_str(), refusal.message.as_str()),
        (
            "UnexpectedAdmissionError",
            "Allocate failed due to not enough cpus available to satisfy request: requested=3, available=2, which is unexpected"
        )
    );
    assert_eq!((exclusive.cpus.exclusive("a", "c"), node.ids("a", "c")), (None, String::new()));
    exclusive.admit(&pod("b", &[("c", 1, 1), ("d", 1, 1)])).await.unwrap();
    assert_eq!((node.ids("b", "c"), node.ids("b", "d")), ("x".to_owned(), "y".to_owned()));
}

#[tokio::test]
async fn a_whole_pod_is_placed_together() {
    let root = tempfile::tempdir().unwrap();
    let (exclusive, node) = begin(root.path(), "single-numa-node", "pod").await;
    let _plugin = node.plug(&Fake::of(vec![device("x"), device("y")], &[])).await;
    node.shows(2, 2).await;
    let refusal = exclusive.admit(&pod("a", &[("c", 2, 1), ("d", 1, 0)])).await.unwrap_err();
    assert_eq!(refusal.reason, "TopologyAffinityError");
    exclusive.admit(&pod("b", &[("c", 1, 1), ("d", 1, 0)])).await.unwrap();
    let cpus = |name| exclusive.cpus.exclusive("b", name).unwrap().to_string();
    assert_eq!((cpus("c"), cpus("d")), ("2".to_owned(), "3".to_owned()));
}

#[tokio::test]
async fn a_pod_with_resources_of_its_own_gets_them_once() {
    let gate = json!({"featureGates": {"PodLevelResourceManagers": true}});
    let whole = |uid: &str, cpu: u32, containers: &[(&str, u32, u32)]| {
        let mut pod = pod(uid, containers);
        let spec = pod.spec.as_mut().unwrap();
        let amounts = json!({"cpu": cpu.to_string(), "memory": "8Mi"});
        spec.resources = serde_json::from_value(json!({"limits": amounts, "requests": amounts})).unwrap();
        // Whoever has none for itself shares.
        for container in spec.containers.iter_mut().filter(|container| container.name.starts_with('s')) {
            container.resources.as_mut().unwrap().limits.as_mut().unwrap().remove("cpu");
            container.resources.as_mut().unwrap().requests.as_mut().unwrap().remove("cpu");
        }
        pod
    };
    let root = tempfile::tempdir().unwrap();
    let (exclusive, node) =
        begin_with(root.path(), "single-numa-node", "pod", gate.as_object().unwrap()).await;
    let _plugin = node.plug(&Fake::of(vec![device("x"), device("y")], &[])).await;
    node.shows(2, 2).await;
    let one = whole("a", 2, &[("c", 1, 1), ("s", 0, 1)]);
    exclusive.admit(&one).await.unwrap();
    let cpus = |uid, name| exclusive.cpus.allowed(uid, name).unwrap().to_string();
    assert_eq!((cpus("a", "c"), cpus("a", "s"), cpus("b", "c")), ("2".into(), "3".into(), "0-1".into()));
    assert_eq!((node.ids("a", "c"), node.ids("a", "s")), ("x".to_owned(), "y".to_owned()));
    let own = |name| exclusive.cpus.has_own(&one, one.containers().iter().find(|c| c.name == name).unwrap());
    assert!(own("c") && !own("s") && !exclusive.has_cpus(&one), "one is bounded by the pod's limit");
    exclusive.release("a");
    // A pod that is known gets what it has again.
    exclusive.admit_again(&one).await;
    assert_eq!(exclusive.cpus.allowed("a", "s").unwrap().len(), 1);
    exclusive.release("a");
    let refused = |error: Refusal| (error.reason, error.message);
    let full = exclusive.admit(&whole("b", 1, &[("c", 1, 0), ("s", 0, 0)])).await.unwrap_err();
    let why = "Pod Scope pod with pod-level resources failed admission under pod-scope topology manager";
    assert_eq!(refused(full), ("TopologyAffinityError".to_owned(), why.to_owned()));

    // Where nothing has to be near, the pod is refused by what it lacks.
    let root = tempfile::tempdir().unwrap();
    let (exclusive, _node) = begin_with(root.path(), "best-effort", "pod", gate.as_object().unwrap()).await;
    let full = exclusive.admit(&whole("b", 1, &[("c", 1, 0), ("s", 0, 0)])).await.unwrap_err();
    let why = "pod rejected, sum of exclusive container cpu requests equals pod budget, leaving no cpus for shared containers";
    assert_eq!(refused(full), ("EmptyPodSharedPoolError".to_owned(), why.to_owned()));
    let root = tempfile::tempdir().unwrap();
    let (exclusive, _node) = begin_with(root.path(), "none", "pod", gate.as_object().unwrap()).await;
    let each = whole("c", 3, &[("c", 1, 0), ("s", 0, 0)]);
    exclusive.admit(&each).await.unwrap();
    assert_eq!(exclusive.cpus.allowed("c", "s").unwrap().len(), 3, "as anybody else");
    assert!(!exclusive.has_cpus(&each));
}
