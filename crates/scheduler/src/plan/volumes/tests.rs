pub(super) mod world;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::progress::are_bound;
use super::*;
use crate::plan::{Decision, Relief, Wants, place};
use crate::snapshot::Snapshot;
use world::{World, merge, pod, read};

fn why(world: &World, claims: &[&str]) -> String {
    match wanted(&pod(claims), world) {
        Err(Hindrance::Unschedulable(why) | Hindrance::Failed(why)) => why,
        Ok(wanted) => format!("{}", wanted.is_some()),
    }
}

/// What a pod gets on node `a` and on node `b`: volumes by claims, and claims for which one is made.
fn gets(world: &World, claims: &[&str]) -> [String; 2] {
    let wanted = wanted(&pod(claims), world).unwrap().unwrap();
    ["a", "b"].map(|node| {
        let labels = labels(node);
        match on_node(&wanted, Site { name: node, labels: &labels }) {
            Err(reasons) => reasons.join("; "),
            Ok(found) => {
                let bound = found.bindings.iter().map(|binding| {
                    format!("{}={}", binding.claim.metadata.name, binding.volume.metadata.name)
                });
                let made = found.provisions.iter().map(|claim| claim.metadata.name.clone());
                bound.chain(made).collect::<Vec<_>>().join(" ")
            }
        }
    })
}

fn labels(node: &str) -> BTreeMap<String, String> {
    [("host".to_owned(), node.to_owned())].into()
}

#[test]
fn a_pod_without_claims_needs_nothing() {
    assert!(pod(&[]).spec.volumes.is_empty());
    assert_eq!(why(&World::new(), &[]), "false");
}

#[test]
fn a_pod_waits_until_its_claims_can_be_used() {
    let world = World::new()
        .claim("lost", json!({"status": {"phase": "Lost"}, "spec": {"volumeName": "v"}}))
        .claim("going", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))
        .claim("prompt", json!({"spec": {"storageClassName": ""}}))
        .claim("unknown", json!({"spec": {"storageClassName": "x"}}))
        .claim("chosen", json!({"spec": {"volumeName": "v"}}))
        .claim("p-own", json!({}))
        .bound("stray", "v");
    for (claims, expected) in [
        (&["x"][..], "persistentvolumeclaim \"x\" not found"),
        (&["prompt", "x"], "persistentvolumeclaim \"x\" not found"),
        (&["lost"], "persistentvolumeclaim \"lost\" bound to non-existent persistentvolume \"v\""),
        (&["going"], "persistentvolumeclaim \"going\" is being deleted"),
        (&["prompt"], "pod has unbound immediate PersistentVolumeClaims"),
        (&["unknown"], "pod has unbound immediate PersistentVolumeClaims"),
        (&["chosen"], "pod has unbound immediate PersistentVolumeClaims"),
        (&["own"], "PVC n/p-own was not created for pod n/p (pod is not owner)"),
        (&["stray"], "persistentvolume \"v\" not found"),
        (&["stray", "prompt"], "pod has unbound immediate PersistentVolumeClaims"),
    ] {
        assert_eq!(why(&world, claims), expected, "{claims:?}");
    }
    let waits = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-own\"";
    assert_eq!(why(&World::new(), &["own"]), waits);
    let mut unclear = World::new().claim("c", json!({"spec": {"storageClassName": "odd"}}));
    unclear.classes.insert("odd".to_owned(), Arc::default());
    let wrong =
        "running PreFilter plugin \"VolumeBinding\": VolumeBindingMode not set for StorageClass \"odd\"";
    assert_eq!(why(&unclear, &["c"]), wrong);
}

#[test]
fn a_pod_goes_where_its_volumes_are() {
    let anywhere = json!({"spec": {"nodeAffinity": null}});
    let world = World::new()
        .bound("c", "on-a")
        .bound("d", "anywhere")
        .bound("e", "on-b")
        .volume("on-a", "1Gi", "a", json!({}))
        .volume("on-b", "1Gi", "b", json!({}))
        .volume("anywhere", "1Gi", "", anywhere);
    assert_eq!(gets(&world, &["c"]), ["", NODE_CONFLICT]);
    assert_eq!(gets(&world, &["d"]), ["", ""]);
    assert_eq!(gets(&world, &["c", "e"]), [NODE_CONFLICT, NODE_CONFLICT]);
    let owner = json!({"metadata": {"ownerReferences": [{"uid": "u", "controller": true}],
        "annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": "none"}});
    assert_eq!(gets(&world.claim("p-own", owner), &["own"]), [NO_VOLUME, NO_VOLUME]);
}

#[test]
fn a_claim_that_waits_gets_the_smallest_volume_that_will_do() {
    let selector = json!({"spec": {"selector": {"matchLabels": {"kind": "fast"}}}});
    let of = |spec: Value| json!({"spec": spec});
    let world = World::new()
        .claim("c", json!({}))
        .claim("large", of(json!({"resources": {"requests": {"storage": "3Gi"}}})))
        .claim("picky", selector)
        .claim("raw", of(json!({"volumeMode": "Block"})))
        .claim("many", of(json!({"accessModes": ["ReadWriteMany"]})))
        .claim("gold", of(json!({"volumeAttributesClassName": "gold"})))
        .claim("kept", json!({}))
        .volume("a4", "4Gi", "a", json!({}))
        .volume("a2", "2Gi", "a", json!({}))
        .volume("a0", "512Mi", "a", json!({}))
        .volume("a1-other", "1Gi", "a", of(json!({"storageClassName": "other"})))
        .volume("a1-pending", "1Gi", "a", json!({"status": {"phase": "Pending"}}))
        .volume("a1-going", "1Gi", "a", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))
        .volume("a1-taken", "1Gi", "a", of(json!({"claimRef": {"namespace": "n", "name": "else"}})))
        .volume("b-fast", "9Gi", "b", json!({"metadata": {"labels": {"kind": "fast"}}}))
        .volume("b-raw", "2Gi", "b", of(json!({"volumeMode": "Block"})))
        .volume("b-gold", "2Gi", "b", of(json!({"volumeAttributesClassName": "gold"})))
        .volume("b-kept", "5Gi", "b", of(json!({"claimRef": {"namespace": "n", "name": "kept"}})));
    assert_eq!(gets(&world, &["c"]), ["c=a2", "c=b-fast"]);
    assert_eq!(gets(&world, &["large"]), ["large=a4", "large=b-fast"]);
    assert_eq!(gets(&world, &["picky"]), [BIND_CONFLICT, "picky=b-fast"]);
    assert_eq!(gets(&world, &["raw"]), [BIND_CONFLICT, "raw=b-raw"]);
    assert_eq!(gets(&world, &["many"]), [BIND_CONFLICT, BIND_CONFLICT]);
    assert_eq!(gets(&world, &["gold"]), [BIND_CONFLICT, "gold=b-gold"]);
    assert_eq!(gets(&world, &["kept"]), [BIND_CONFLICT, "kept=b-kept"]);
    // The smaller claim chooses first, and no volume is given twice; a claim that is named twice gets one.
    assert_eq!(gets(&world, &["large", "c"]), ["c=a2 large=a4", BIND_CONFLICT]);
    assert_eq!(gets(&world, &["c", "c"]), ["c=a2", "c=b-fast"]);
}

#[test]
fn a_volume_is_made_where_its_class_allows_and_room_is_left() {
    let made = |more: Value| {
        let mut spec = json!({"spec": {"storageClassName": "made"}});
        merge(&mut spec, more);
        spec
    };
    let promised = json!({"metadata": {"annotations": {SELECTED_NODE: "b"}}});
    let mut world = World::new().claim("c", made(json!({}))).claim("promised", made(promised)).volume(
        "v",
        "1Gi",
        "a",
        json!({"spec": {"storageClassName": "made"}}),
    );
    assert_eq!(gets(&world, &["c"]), ["c=v", "c"]);
    assert_eq!(gets(&world, &["promised", "c"]), [BIND_CONFLICT, "promised c"]);
    // Where storage is told, there must be enough of it; nothing is asked of a driver that tells nothing.
    let left = json!({"storageClassName": "made", "capacity": "10Gi", "maximumVolumeSize": "512Mi",
        "nodeTopology": {"matchLabels": {"host": "b"}}});
    world.capacities.push(read(left));
    world.drivers.insert("d".to_owned(), read(json!({"spec": {"storageCapacity": false}})));
    assert_eq!(gets(&world, &["c"]), ["c=v", "c"]);
    world.drivers.insert("d".to_owned(), read(json!({"spec": {"storageCapacity": true}})));
    assert_eq!(gets(&world, &["c"]), ["c=v", NOT_ENOUGH_SPACE]);
    let more = json!({"storageClassName": "made", "capacity": "10Gi", "nodeTopology": {}});
    world.capacities.push(read(more));
    assert_eq!(gets(&world, &["c"]), ["c=v", "c"]);
    // Somewhere else only.
    let topology = json!({"metadata": {"name": "made"}, "provisioner": "d", "volumeBindingMode":
        "WaitForFirstConsumer", "allowedTopologies": [
            {"matchLabelExpressions": []},
            {"matchLabelExpressions": [{"key": "host", "values": ["a", "z"]}]}]});
    world.classes.insert("made".to_owned(), read(topology));
    assert_eq!(gets(&world, &["c"]), ["c=v", BIND_CONFLICT]);
    world.volumes.clear();
    assert_eq!(gets(&world, &["c"]), ["c", BIND_CONFLICT]);
}

fn cluster(nodes: &[Value]) -> Snapshot {
    let mut snapshot = Snapshot::default();
    nodes.iter().for_each(|node| snapshot.set_node(read(node.clone())));
    snapshot
}

fn decision(snapshot: &Snapshot, world: &World, pod: &PodView) -> (Decision, bool, usize) {
    let wanted = wanted(pod, world).unwrap();
    let placement = place(snapshot, pod, Wants { volumes: wanted.as_ref(), ..Wants::default() }, 0);
    (placement.decision, placement.by_volumes, placement.crowded.len())
}

fn refused(why: &str) -> Decision {
    Decision::Unschedulable(why.to_owned(), Relief::Unknown)
}

#[test]
fn nodes_elsewhere_are_refused() {
    let mut world = World::new().bound("c", "v").volume(
        "v",
        "1Gi",
        "",
        json!({"metadata": {"labels": {"failure-domain.beta.kubernetes.io/zone": "z0__z1"}},
            "spec": {"nodeAffinity": null}}),
    );
    let nodes = [
        json!({"metadata": {"name": "a", "labels": {"topology.kubernetes.io/zone": "z2"}}}),
        json!({"metadata": {"name": "b", "labels": {"topology.kubernetes.io/region": "r"}}}),
    ];
    let why = "0/2 nodes are available: 2 node(s) had no available volume zone.";
    let (pod, mut snapshot) = (pod(&["c"]), cluster(&nodes));
    assert_eq!(decision(&snapshot, &world, &pod), (refused(why), true, 0));
    snapshot
        .set_node(read(json!({"metadata": {"name": "c", "labels": {"topology.kubernetes.io/zone": "z1"}}})));
    assert_eq!(decision(&snapshot, &world, &pod).0, Decision::Node("c".to_owned()));
    let nowhere = cluster(&[json!({"metadata": {"name": "d"}})]);
    assert_eq!(decision(&nowhere, &world, &pod).0, Decision::Node("d".to_owned()));
    world = world.volume("v", "1Gi", "a", json!({}));
    let why = "0/1 nodes are available: 1 node(s) didn't match PersistentVolume's node affinity.";
    assert_eq!(decision(&nowhere, &world, &pod).0, refused(why));
}

#[test]
fn a_claim_for_one_pod_is_for_one_pod() {
    let one = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v", "accessModes": ["ReadWriteOncePod"]}});
    let world = World::new().claim("c", one).volume("v", "1Gi", "a", json!({"spec": {"nodeAffinity": null}}));
    let mut snapshot = cluster(&[json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "b"}})]);
    let mut other = pod(&["c"]);
    "other".clone_into(&mut other.metadata.uid);
    "a".clone_into(&mut other.spec.node_name);
    snapshot.set_pod(Arc::new(other));
    let why = "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access \
               mode already in-use by another pod.";
    let mut important = pod(&["c"]);
    assert_eq!(decision(&snapshot, &world, &important), (refused(why), true, 2));
    // Who matters more may have it.
    important.spec.priority = 1;
    let wanted = wanted(&important, &world).unwrap();
    let wants = Wants { volumes: wanted.as_ref(), ..Wants::default() };
    let crowded = place(&snapshot, &important, wants, 0).crowded;
    let found = crate::plan::preempt::search(&snapshot, &important, wants, (&crowded, &[]), 0);
    let crate::plan::preempt::Preemption::Victims { node, victims } = found else { panic!("{found:?}") };
    assert_eq!((node.as_str(), victims[0].metadata.uid.as_str()), ("a", "other"));
    snapshot.remove_pod("other");
    assert!(matches!(decision(&snapshot, &world, &important).0, Decision::Node(_)));
}

#[test]
fn it_is_told_when_claims_have_what_they_were_given() {
    let world = World::new().claim("c", json!({})).volume("v", "1Gi", "a", json!({}));
    let labels = labels("a");
    let site = Site { name: "a", labels: &labels };
    let mut found = on_node(&wanted(&pod(&["c"]), &world).unwrap().unwrap(), site).unwrap();
    assert_eq!(are_bound(&found, site, &world), Err("ClaimRef got reset for pv \"v\"".to_owned()));
    // What was written has not been heard of yet.
    let mut written = (*found.bindings[0].volume).clone();
    "2".clone_into(&mut written.metadata.resource_version);
    found.bindings[0].volume = Arc::new(written);
    assert_eq!(are_bound(&found, site, &world), Ok(false));
    let told = json!({"metadata": {"resourceVersion": "2"},
        "spec": {"claimRef": {"namespace": "n", "name": "c", "uid": "c"}}});
    let world = world.volume("v", "1Gi", "a", told.clone());
    assert_eq!(are_bound(&found, site, &world), Ok(false));
    let world = world.bound("c", "v");
    assert_eq!(are_bound(&found, site, &world), Ok(true));
    let moved = "pv \"v\" node affinity doesn't match node \"a\": no matching NodeSelectorTerms";
    let mut world = world.volume("v", "1Gi", "b", told);
    assert_eq!(are_bound(&found, site, &world), Err(moved.to_owned()));
    world.volumes.clear();
    let gone = Err("failed to check binding: persistentvolumes \"v\" not found".to_owned());
    assert_eq!(are_bound(&found, site, &world), gone);
}

#[test]
fn who_makes_volumes_may_give_up() {
    let made = json!({"spec": {"storageClassName": "made"}});
    let mut world = World::new().claim("c", made);
    let labels = labels("a");
    let site = Site { name: "a", labels: &labels };
    let found = on_node(&wanted(&pod(&["c"]), &world).unwrap().unwrap(), site).unwrap();
    assert_eq!(
        are_bound(&found, site, &world),
        Err("selectedNode annotation reset for PVC \"c\"".to_owned())
    );
    let of = |node: &str| json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
    world = world.claim("c", of("b"));
    assert_eq!(are_bound(&found, site, &world), Err("provisioning failed for PVC \"c\"".to_owned()));
    let mut bound = of("a");
    world = world.claim("c", bound.clone());
    assert_eq!(are_bound(&found, site, &world), Ok(false));
    merge(
        &mut bound,
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": ""}}, "spec": {"volumeName": "v"}}),
    );
    world = world.claim("c", bound);
    assert_eq!(are_bound(&found, site, &world), Ok(false));
    world = world.volume("v", "1Gi", "a", json!({}));
    assert_eq!(are_bound(&found, site, &world), Ok(true));
    world.claims.clear();
    let gone = "failed to check provisioning pvc: persistentvolumeclaims \"n/c\" not found";
    assert_eq!(are_bound(&found, site, &world), Err(gone.to_owned()));
}
