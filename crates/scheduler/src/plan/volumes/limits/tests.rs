use serde_json::json;

use super::super::tests::world::{World, pod, read};
use super::super::wanted;
use crate::plan::preempt::{self, Preemption};
use crate::plan::{Decision, Relief, Wants, place};
use crate::snapshot::Snapshot;

fn of_driver(handle: &str) -> serde_json::Value {
    json!({"spec": {"nodeAffinity": null, "csi": {"driver": "d", "volumeHandle": handle}}})
}

fn world() -> World {
    let mut world = World::new()
        .bound("x", "x")
        .bound("y", "y")
        .bound("z", "z")
        .claim("new", json!({"spec": {"storageClassName": "made"}}))
        .volume("x", "1Gi", "", of_driver("x"))
        .volume("y", "1Gi", "", of_driver("y"))
        .volume("z", "1Gi", "", json!({"spec": {"nodeAffinity": null}}));
    let limit = json!({"spec": {"drivers": [{"name": "d", "allocatable": {"count": 1}}]}});
    world.csi_nodes.insert("a".to_owned(), read(limit));
    world
}

fn cluster(claims: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(read(json!({"metadata": {"name": "a"}})));
    let mut other = pod(claims);
    "other".clone_into(&mut other.metadata.uid);
    "a".clone_into(&mut other.spec.node_name);
    snapshot.set_pod(std::sync::Arc::new(other));
    snapshot
}

fn decision(world: &World, there: &[&str], claims: &[&str]) -> Decision {
    let pod = pod(claims);
    let wanted = wanted(&pod, world).unwrap();
    place(&cluster(there), &pod, Wants { volumes: wanted.as_ref(), ..Wants::default() }, 0).decision
}

#[test]
fn a_node_takes_only_so_many_volumes_of_a_driver() {
    let mut world = world();
    let goes = Decision::Node("a".to_owned());
    let why = "0/1 nodes are available: 1 node(s) exceed max volume count.";
    let full = Decision::Unschedulable(why.to_owned(), Relief::Unknown);
    assert_eq!(decision(&world, &["z"], &["x"]), goes);
    assert_eq!(decision(&world, &["z"], &["x", "y"]), full);
    assert_eq!(decision(&world, &["x"], &["y"]), full);
    assert_eq!(decision(&world, &["x"], &["new"]), full);
    // The same volume counts once, others not at all.
    assert_eq!(decision(&world, &["x"], &["x"]), goes);
    assert_eq!(decision(&world, &["x"], &["z"]), goes);
    let attached =
        json!({"spec": {"attacher": "d", "nodeName": "a", "source": {"persistentVolumeName": "y"}}});
    world.attachments.push(read(attached));
    assert_eq!(decision(&world, &["z"], &["x"]), full);
    world.csi_nodes.clear();
    assert_eq!(decision(&world, &["x"], &["y"]), goes);
}

#[test]
fn pods_with_volumes_make_way() {
    let (world, snapshot, mut important) = (world(), cluster(&["x"]), pod(&["y"]));
    important.spec.priority = 1;
    let wanted = wanted(&important, &world).unwrap();
    let wants = Wants { volumes: wanted.as_ref(), ..Wants::default() };
    let crowded = place(&snapshot, &important, wants, 0).crowded;
    let found = preempt::search(&snapshot, &important, wants, (&crowded, &[]), 0);
    assert!(matches!(found, Preemption::Victims { .. }), "{found:?}");
}
