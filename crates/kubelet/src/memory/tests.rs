//! Memory by example: nodes of 100 bytes.

use serde_json::json;

use super::state::Table;
use super::*;
use crate::pods::spec::PodExt;

fn nodes(sizes: &[u64]) -> BTreeMap<i64, NodeState> {
    let node = |(id, size): (usize, &u64)| {
        let id = i64::try_from(id).unwrap();
        let table = Table { total: *size, allocatable: *size, free: *size, ..Table::default() };
        let memory_map = [("memory".to_owned(), table)].into();
        (id, NodeState { number_of_assignments: 0, memory_map, cells: vec![id] })
    };
    sizes.iter().enumerate().map(node).collect()
}

fn empty(sizes: &[u64]) -> State {
    begin(State::default(), nodes(sizes)).unwrap()
}

fn pod(uid: &str, containers: &[(&str, u64)]) -> Pod {
    let container = |(name, bytes): &(&str, u64)| {
        let amounts = json!({"cpu": "1", "memory": bytes.to_string()});
        json!({"name": name, "resources": {"limits": amounts, "requests": amounts}})
    };
    let (init, main): (Vec<_>, Vec<_>) = containers.iter().partition(|(name, _)| name.starts_with('i'));
    let list = |of: Vec<&(&str, u64)>| of.into_iter().map(container).collect::<Vec<_>>();
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": uid},
        "spec": {"initContainers": list(init), "containers": list(main)}}))
    .unwrap()
}

const ANYWHERE: Hint = Hint { affinity: None, preferred: false };

fn admit(state: &mut State, pod: &Pod, place: Hint) -> Result<(), String> {
    for container in pod.init_containers().iter().chain(pod.containers()) {
        state.allocate(pod, container, place).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn free(state: &State) -> Vec<u64> {
    state.nodes.values().map(|node| node.memory_map["memory"].free).collect()
}

fn at(nodes: &[i64], preferred: bool) -> Hint {
    Hint { affinity: Some(Mask::of(nodes.iter().copied())), preferred }
}

#[test]
fn memory_is_of_as_few_nodes_as_can_be_and_given_back() {
    let mut state = empty(&[100, 100]);
    admit(&mut state, &pod("a", &[("c", 60)]), ANYWHERE).unwrap();
    admit(&mut state, &pod("b", &[("c", 60)]), ANYWHERE).unwrap();
    assert_eq!(free(&state), [40, 40]);
    let error = admit(&mut state, &pod("c", &[("c", 60)]), ANYWHERE).unwrap_err();
    assert!(error.contains("no NUMA nodes with enough memory is available"), "{error}");
    assert!(state.release("a") && state.release("b"));
    assert_eq!(state, empty(&[100, 100]));
    // More than one node has: of both, and then of nothing else.
    admit(&mut state, &pod("d", &[("c", 150)]), ANYWHERE).unwrap();
    assert_eq!((free(&state), state.nodes[&1].cells.clone()), (vec![0, 50], vec![0, 1]));
    assert!(admit(&mut state, &pod("e", &[("c", 10)]), ANYWHERE).is_ok(), "in the same company");
    assert_eq!(state.of("e", "c").unwrap()[0].numa_affinity, [0, 1]);
}

#[test]
fn a_place_that_is_too_small_is_extended_or_refused() {
    let mut state = empty(&[100, 100, 100]);
    admit(&mut state, &pod("a", &[("c", 120)]), at(&[1], false)).unwrap();
    assert_eq!(state.of("a", "c").unwrap()[0].numa_affinity, [0, 1]);
    let error = admit(&mut state, &pod("b", &[("c", 120)]), at(&[2], false)).unwrap_err();
    assert!(error.contains("failed to find NUMA nodes to extend"), "{error}");
    let error = admit(&mut state, &pod("b", &[("c", 20)]), at(&[1, 2], true)).unwrap_err();
    assert!(error.contains("preferred hint violates NUMA node allocation"), "{error}");
    admit(&mut state, &pod("b", &[("c", 20)]), at(&[2], true)).unwrap();
    assert_eq!(free(&state), [0, 80, 80]);
}

#[test]
fn init_containers_hand_their_memory_on() {
    let mut state = empty(&[100]);
    admit(&mut state, &pod("a", &[("i", 60), ("ii", 70), ("c", 50)]), ANYWHERE).unwrap();
    assert_eq!(free(&state), [30]);
    let sizes: u64 = state.given["a"].values().flatten().map(|block| block.size).sum();
    assert_eq!(sizes, 70);
    assert_eq!(begin(state.clone(), nodes(&[100])), Ok(state.clone()), "known again");
    state.release("a");
    assert_eq!(free(&state), [100]);
}

#[test]
fn places_are_told_before_and_after() {
    let mut state = empty(&[100, 100]);
    let one = pod("a", &[("c", 60)]);
    let places = |state: &State, pod: &Pod| state.hints(pod, &pod.containers()[0]).remove("memory").flatten();
    assert_eq!(places(&state, &one).unwrap(), [at(&[0], true), at(&[1], true), at(&[0, 1], false)]);
    admit(&mut state, &one, at(&[1], true)).unwrap();
    assert_eq!(places(&state, &one).unwrap(), [at(&[1], true)]);
    assert_eq!(places(&state, &pod("b", &[("c", 60)])).unwrap(), [at(&[0], true)]);
    assert_eq!(places(&state, &pod("b", &[("c", 500)])), None);
    let two = pod("b", &[("c", 30), ("d", 40)]);
    assert_eq!(state.pod_hints(&two)["memory"], Some(vec![at(&[0], true)]));
    let careless: Pod = serde_json::from_value(json!({"spec": {"containers": [{"name": "c"}]}})).unwrap();
    assert!(state.pod_hints(&careless).is_empty());
}

#[test]
fn a_pods_memory_is_divided_and_what_is_left_is_shared() {
    let mut state = State { by_pod: true, ..empty(&[100, 100]) };
    let whole = |uid: &str, bytes: u64, containers: &[(&str, u64)]| {
        let mut pod = pod(uid, containers);
        let spec = pod.spec.as_mut().unwrap();
        // Who asks for nothing shares.
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            if !crate::pods::is_fixed(container) {
                container.resources = None;
            }
        }
        let amounts = json!({"cpu": "4", "memory": bytes.to_string()});
        spec.resources = serde_json::from_value(json!({"limits": amounts, "requests": amounts})).unwrap();
        pod
    };
    let one = whole("a", 90, &[("i", 80), ("ii", 0), ("c", 30), ("d", 0), ("e", 0)]);
    assert_eq!(
        state.pod_hints(&one)["memory"],
        Some(vec![at(&[0], true), at(&[1], true), at(&[0, 1], false)])
    );
    assert!(state.allocate_whole(&one, at(&[1], true)).unwrap());
    assert!(!state.allocate_whole(&one, ANYWHERE).unwrap(), "it has it");
    let sizes = |name: &str| state.of("a", name).unwrap().iter().map(|block| block.size).collect::<Vec<_>>();
    assert_eq!([sizes("i"), sizes("ii"), sizes("c"), sizes("d"), sizes("e")], [[80], [90], [30], [60], [60]]);
    assert_eq!((free(&state), state.pods["a"][0].size), (vec![100, 10], 90));
    assert_eq!(state.pod_hints(&one)["memory"], Some(vec![at(&[1], true)]));
    assert_eq!(begin(state.clone(), nodes(&[100, 100])), Ok(state.clone()), "known again");

    let full = whole("b", 50, &[("c", 50), ("d", 0)]);
    assert_eq!(state.pod_hints(&full)["memory"], Some(Vec::new()));
    let error = state.allocate_whole(&full, ANYWHERE).unwrap_err().to_string();
    let why = "pod rejected, sum of exclusive container memory requests equals pod budget, leaving no memory for shared containers";
    assert_eq!(error, why);
    // By itself, a container that has no more than it asks for has its own.
    admit(&mut state, &full, ANYWHERE).unwrap();
    assert_eq!((state.of("b", "c").unwrap()[0].size, state.of("b", "d")), (50, None));
    assert!(state.release("a") && state.release("b"));
    assert_eq!(state, State { by_pod: true, ..empty(&[100, 100]) });
    state.by_pod = false;
    assert!(state.pod_hints(&one).is_empty() && !state.allocate_whole(&one, ANYWHERE).unwrap());
}

#[test]
fn a_state_of_another_machine_is_refused() {
    let mut state = empty(&[100, 100]);
    admit(&mut state, &pod("a", &[("c", 60)]), ANYWHERE).unwrap();
    assert!(begin(state.clone(), nodes(&[100, 100])).is_ok());
    assert!(begin(state.clone(), nodes(&[100, 90])).unwrap_err().contains("is different from the real one"));
    state.nodes.clear();
    assert!(begin(state, nodes(&[100])).unwrap_err().contains("can not be empty"));
}
