use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::{Value, json};

use super::claim::{self, Around};
use super::protection::{Wanted, uses, wanted};
use super::{run, volume};
use crate::view::PodView;

/// Puts values where dotted paths say.
fn with(mut object: Value, set: &[(&str, Value)]) -> Value {
    for (path, value) in set {
        let place = path.split('.').fold(&mut object, |place, part| &mut place[part]);
        *place = value.clone();
    }
    object
}

fn claim(set: &[(&str, Value)]) -> PersistentVolumeClaim {
    let claim = json!({
        "metadata": {"name": "c", "namespace": "n", "uid": "u", "annotations": {}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    });
    serde_json::from_value(with(claim, set)).unwrap()
}

fn volume(name: &str, set: &[(&str, Value)]) -> Arc<PersistentVolume> {
    let volume = json!({
        "metadata": {"name": name, "annotations": {}},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
        "status": {"phase": "Available"},
    });
    Arc::new(serde_json::from_value(with(volume, set)).unwrap())
}

fn class(name: &str, provisioner: &str, mode: &str, is_default: bool) -> Arc<StorageClass> {
    let annotations = json!({"storageclass.kubernetes.io/is-default-class": is_default.to_string()});
    let class = json!({
        "metadata": {"name": name, "annotations": annotations},
        "provisioner": provisioner,
        "volumeBindingMode": mode,
    });
    Arc::new(serde_json::from_value(class).unwrap())
}

fn owner(name: &str, uid: &str) -> (&'static str, Value) {
    ("spec.claimRef", json!({"namespace": "n", "name": name, "uid": uid}))
}

fn bound() -> (&'static str, Value) {
    ("metadata.annotations", json!({"pv.kubernetes.io/bind-completed": "yes"}))
}

fn planned(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]) -> claim::Action {
    let classes = [
        class("now", "example.com/disks", "Immediate", false),
        class("later", "example.com/disks", "WaitForFirstConsumer", false),
        class("local", "kubernetes.io/no-provisioner", "Immediate", false),
    ];
    claim::plan(claim, &Around { volumes, classes: &classes, waiting: &[] })
}

fn told(action: claim::Action) -> (&'static str, String) {
    match action {
        claim::Action::Wait { tell: Some((_, reason, message)) } => (reason, message),
        other => panic!("{other:?}"),
    }
}

fn named(class: &str) -> (&'static str, Value) {
    ("spec.storageClassName", json!(class))
}

#[test]
fn a_claim_gets_a_volume_or_waits_for_one() {
    let bind = claim::Action::Bind("v".to_owned());
    assert_eq!(planned(&claim(&[]), &[volume("v", &[])]), bind);
    let (reason, message) =
        told(planned(&claim(&[]), &[volume("v", &[("status.phase", json!("Released"))])]));
    assert_eq!(reason, "FailedBinding");
    assert_eq!(message, "no persistent volumes available for this claim and no storage class is set");

    let local = [volume("v", &[named("local")])];
    assert_eq!(planned(&claim(&[named("local")]), &local), bind);
    assert_eq!(told(planned(&claim(&[named("local")]), &[])).0, "ProvisioningFailed");
    let provision = claim::Action::Provision("example.com/disks".to_owned());
    assert_eq!(planned(&claim(&[named("now")]), &[]), provision);
    let (reason, message) = told(planned(&claim(&[named("none")]), &[]));
    assert_eq!(
        (reason, message.as_str()),
        ("ProvisioningFailed", "storageclass.storage.k8s.io \"none\" not found")
    );
}

#[test]
fn a_claim_that_waits_for_its_pod_gets_only_what_is_reserved_for_it() {
    let later = claim(&[named("later")]);
    assert_eq!(told(planned(&later, &[volume("v", &[named("later")])])).0, "WaitForFirstConsumer");
    let reserved = volume("v", &[named("later"), owner("c", "u")]);
    assert_eq!(planned(&later, &[reserved]), claim::Action::Bind("v".to_owned()));
    let node = ("metadata.annotations", json!({"volume.kubernetes.io/selected-node": "a"}));
    let provision = claim::Action::Provision("example.com/disks".to_owned());
    assert_eq!(planned(&claim(&[named("later"), node]), &[]), provision);

    let classes = [class("later", "example.com/disks", "WaitForFirstConsumer", false)];
    let around = |waiting| Around { volumes: &[], classes: &classes, waiting };
    let pods = ["p".to_owned(), "q".to_owned()];
    let (reason, message) = told(claim::plan(&later, &around(&pods[..1])));
    assert_eq!((reason, message.as_str()), ("WaitForPodScheduled", "waiting for pod p to be scheduled"));
    assert_eq!(told(claim::plan(&later, &around(&pods))).1, "waiting for pods p,q to be scheduled");
}

#[test]
fn a_claim_without_a_class_gets_the_default_once_there_is_one() {
    let classes = [class("plain", "example.com/disks", "Immediate", true)];
    let around = Around { volumes: &[], classes: &classes, waiting: &[] };
    assert_eq!(claim::plan(&claim(&[]), &around), claim::Action::Classify("plain".to_owned()));
    // An empty name is one: that of no class.
    assert_eq!(told(claim::plan(&claim(&[named("")]), &around)).0, "FailedBinding");
}

#[test]
fn a_claim_may_ask_for_one_volume() {
    let asks = claim(&[("spec.volumeName", json!("v"))]);
    assert_eq!(planned(&asks, &[]), claim::Action::Wait { tell: None });
    assert_eq!(planned(&asks, &[volume("v", &[])]), claim::Action::Bind("v".to_owned()));
    let small = volume("v", &[("spec.capacity.storage", json!("1Mi"))]);
    let (reason, message) = told(planned(&asks, &[small]));
    assert_eq!(reason, "VolumeMismatch");
    assert_eq!(message, "Cannot bind to requested volume \"v\": requested PV is too small");
    let taken = volume("v", &[owner("d", "x")]);
    assert_eq!(told(planned(&asks, &[taken])).1, "volume \"v\" already bound to a different claim.");
}

#[test]
fn a_claim_whose_volume_is_gone_or_anothers_is_lost() {
    let had = claim(&[bound(), ("spec.volumeName", json!("v"))]);
    let lost = |action| match action {
        claim::Action::Lose(reason, _) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(lost(planned(&had, &[])), "ClaimLost");
    assert_eq!(lost(planned(&had, &[volume("v", &[owner("c", "later")])])), "ClaimMisbound");
    assert_eq!(lost(planned(&claim(&[bound()]), &[])), "ClaimLost");
    assert_eq!(planned(&had, &[volume("v", &[owner("c", "u")])]), claim::Action::Bind("v".to_owned()));
}

#[test]
fn a_volume_follows_its_claim() {
    let ours = volume("v", &[owner("c", "u")]);
    let has = |name: &str| claim(&[("spec.volumeName", json!(name))]);
    for (what, volume, claim, action) in [
        ("free", volume("v", &[]), None, volume::Action::Phase("Available")),
        ("reserved", volume("v", &[owner("c", "")]), Some(claim(&[])), volume::Action::Phase("Available")),
        ("its claim is gone", ours.clone(), None, volume::Action::Release),
        ("another of its name", volume("v", &[owner("c", "old")]), Some(has("v")), volume::Action::Release),
        ("half bound", ours.clone(), Some(claim(&[])), volume::Action::Claim),
        ("bound", ours.clone(), Some(has("v")), volume::Action::Phase("Bound")),
        ("its claim has another", ours.clone(), Some(has("w")), volume::Action::Unbind { reserved: true }),
        (
            "one that was chosen for it",
            volume(
                "v",
                &[
                    owner("c", "u"),
                    ("metadata.annotations", json!({"pv.kubernetes.io/bound-by-controller": "yes"})),
                ],
            ),
            Some(has("w")),
            volume::Action::Unbind { reserved: false },
        ),
        (
            "a device",
            volume("v", &[owner("c", "u"), ("spec.volumeMode", json!("Block"))]),
            Some(claim(&[])),
            volume::Action::Mismatch,
        ),
    ] {
        assert_eq!(volume::plan(&volume, claim.as_ref()), action, "{what}");
    }
}

#[test]
fn what_nobody_can_remove_fails() {
    let policy = |policy: &str| ("spec.persistentVolumeReclaimPolicy", json!(policy));
    assert_eq!(volume::failure(&volume("v", &[policy("Retain")])), None);
    let (reason, message) = volume::failure(&volume("v", &[policy("Delete")])).unwrap();
    assert_eq!(reason, "VolumeFailedDelete");
    let why = "error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched";
    assert_eq!(message, why);
    let csi = ("spec.csi", json!({"driver": "d", "volumeHandle": "h"}));
    assert_eq!(volume::failure(&volume("v", &[policy("Delete"), csi])), None);
    let made = ("metadata.annotations", json!({"pv.kubernetes.io/provisioned-by": "example.com/disks"}));
    assert_eq!(volume::failure(&volume("v", &[policy("Delete"), made])), None);
    assert_eq!(volume::failure(&volume("v", &[policy("Recycle")])).unwrap().0, "VolumeFailedRecycle");
}

#[test]
fn a_claims_status_tells_of_its_volume() {
    let volume = volume("v", &[("spec.capacity.storage", json!("5Gi"))]);
    let pending = claim(&[]).status.unwrap();
    let status = run::status(pending, "Bound", Some(&volume));
    let capacity = |status: &k8s_openapi::api::core::v1::PersistentVolumeClaimStatus| {
        status.capacity.as_ref().map(|all| all["storage"].0.clone())
    };
    assert_eq!((status.phase.as_deref(), capacity(&status).as_deref()), (Some("Bound"), Some("5Gi")));
    assert_eq!(status.access_modes.as_deref(), Some(&["ReadWriteOnce".to_owned()][..]));
    // It was told smaller since.
    let mut smaller = status.clone();
    smaller.capacity.as_mut().unwrap().get_mut("storage").unwrap().0 = "4Gi".to_owned();
    assert_eq!(capacity(&run::status(smaller, "Bound", Some(&volume))).as_deref(), Some("4Gi"));
    let lost = run::status(status, "Lost", None);
    assert_eq!((lost.access_modes, lost.capacity), (None, None));
}

#[test]
fn a_finalizer_goes_when_the_last_pod_does() {
    let pod = |set: &[(&str, Value)]| -> PodView {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "pod"},
            "spec": {"nodeName": "a", "volumes": [
                {"name": "x", "persistentVolumeClaim": {"claimName": "c"}},
                {"name": "made", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            ]},
        });
        serde_json::from_value(with(pod, set)).unwrap()
    };
    assert_eq!(pod(&[]).claims(), ["n/c", "n/p-made"]);
    assert!(uses(&pod(&[]), &claim(&[])) && !uses(&pod(&[]), &claim(&[("metadata.name", json!("d"))])));
    assert!(!uses(&pod(&[("spec.nodeName", json!(""))]), &claim(&[])), "no node has it yet");

    let owners = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pod", "controller": true}]);
    let its = claim(&[("metadata.name", json!("p-made")), ("metadata.ownerReferences", owners)]);
    let gone = [
        ("metadata.deletionTimestamp", json!("2026-01-01T00:00:00Z")),
        ("metadata.deletionGracePeriodSeconds", json!(0)),
    ];
    assert!(uses(&pod(&[]), &its) && !uses(&pod(&gone), &its));
    assert!(uses(&pod(&gone), &claim(&[])), "what it did not make is its until it is gone");

    let going = ("metadata.deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    let held = ("metadata.finalizers", json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(wanted(&claim(&[]).metadata), Some(Wanted::Add));
    assert_eq!(wanted(&claim(std::slice::from_ref(&held)).metadata), None);
    assert_eq!(wanted(&claim(&[held, going.clone()]).metadata), Some(Wanted::Remove));
    assert_eq!(wanted(&claim(&[going]).metadata), None);
}
