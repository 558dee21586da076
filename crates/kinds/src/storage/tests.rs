use schema::Object;
use serde_json::{Value, json};

use crate::field::Errors;
use crate::{Part, rules};

fn object(group: &str, kind: &str, rest: Value) -> Object {
    let version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
    let mut whole = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}});
    let fields = rest.as_object().cloned().unwrap();
    whole.as_object_mut().unwrap().extend(fields);
    let known = schema::catalogue::builtin().kind(group, "v1", kind).unwrap();
    let mut object = schema::json::decode(&known.ty, whole.to_string().as_bytes()).unwrap().object;
    (rules(group, kind).defaults)(&mut object);
    object
}

fn group(kind: &str) -> &'static str {
    if kind == "StorageClass" { "storage.k8s.io" } else { "" }
}

/// What is wrong with a new object.
fn new(kind: &str, rest: Value) -> Vec<String> {
    let mut errors = Errors::new();
    (rules(group(kind), kind).validate_create)(&object(group(kind), kind, rest), &mut errors);
    told(&errors)
}

/// What is wrong with a change.
fn changed(kind: &str, from: Value, to: Value) -> Vec<String> {
    let mut errors = Errors::new();
    let of = |rest| object(group(kind), kind, rest);
    (rules(group(kind), kind).validate_update)(&of(to), &of(from), Part::Main, &mut errors);
    told(&errors)
}

fn told(errors: &Errors) -> Vec<String> {
    errors.0.iter().map(|error| error.to_string().lines().next().unwrap().to_owned()).collect()
}

fn volume(more: Value) -> Value {
    let mut spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
    spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    json!({"spec": spec})
}

fn claim(more: Value) -> Value {
    let mut spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    json!({"spec": spec, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}})
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_volume_has_a_size_a_mode_and_one_source() {
    let host = json!({"hostPath": {"path": "/data"}});
    assert_eq!(new("PersistentVolume", volume(host)), NOTHING);
    assert_eq!(
        new("PersistentVolume", json!({"spec": {}})),
        [
            "spec.accessModes: Required value",
            "spec.capacity: Required value",
            "spec.capacity: Unsupported value: null: supported values: \"storage\"",
            "spec: Required value: must specify a volume type",
        ]
    );
    let two = json!({"hostPath": {"path": "/a"}, "nfs": {"server": "s", "path": "/b"}});
    assert_eq!(
        new("PersistentVolume", volume(two)),
        ["spec.nfs: Forbidden: may not specify more than 1 volume type"]
    );
    assert_eq!(
        new("PersistentVolume", volume(json!({"local": {"path": "/a/../b"}}))),
        [
            "spec.local.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
        ]
    );
    let root = json!({"hostPath": {"path": "//"}, "persistentVolumeReclaimPolicy": "Recycle"});
    assert_eq!(
        new("PersistentVolume", volume(root)),
        ["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"]
    );
}

#[test]
fn a_volumes_source_stays() {
    let host = |path: &str, policy: &str| {
        volume(json!({"hostPath": {"path": path}, "persistentVolumeReclaimPolicy": policy}))
    };
    assert_eq!(changed("PersistentVolume", host("/a", "Retain"), host("/a", "Delete")), NOTHING);
    assert_eq!(
        changed("PersistentVolume", host("/a", "Retain"), host("/b", "Retain")),
        ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
    );
    let csi = |secret: Value| {
        let mut source = json!({"driver": "d", "volumeHandle": "h"});
        source.as_object_mut().unwrap().extend(secret.as_object().cloned().unwrap());
        volume(json!({"csi": source}))
    };
    let secret = json!({"controllerExpandSecretRef": {"name": "s", "namespace": "n"}});
    assert_eq!(changed("PersistentVolume", csi(json!({})), csi(secret)), NOTHING);
}

#[test]
fn a_claim_changes_in_its_size_alone() {
    let size = |size: &str| claim(json!({"resources": {"requests": {"storage": size}}}));
    let kind = "PersistentVolumeClaim";
    assert_eq!(new(kind, size("1Gi")), NOTHING);
    assert_eq!(changed(kind, size("1Gi"), size("2Gi")), NOTHING);
    assert_eq!(
        changed(kind, size("2Gi"), size("1Gi")),
        ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"]
    );
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                     volumeAttributesClassName for bound claims";
    let of = |class: &str| claim(json!({"storageClassName": class}));
    assert_eq!(changed(kind, of("a"), of("b")), [immutable]);
    // One without a class may get one, and one without a volume, once.
    assert_eq!(changed(kind, claim(json!({})), of("b")), NOTHING);
    let bound = |volume: &str| claim(json!({"volumeName": volume}));
    assert_eq!(changed(kind, claim(json!({})), bound("v")), NOTHING);
    assert_eq!(changed(kind, bound("v"), bound("w")), [immutable]);
}

#[test]
fn a_class_moves_from_the_annotation_to_the_field() {
    let kind = "PersistentVolumeClaim";
    let mut noted = claim(json!({}));
    noted["metadata"] = json!({"name": "x", "annotations": {"volume.beta.kubernetes.io/storage-class": "a"}});
    let named = |class: &str| claim(json!({"storageClassName": class}));
    assert_eq!(changed(kind, noted.clone(), named("a")), NOTHING);
    let [annotation, spec] = &changed(kind, noted, named("b"))[..] else { panic!() };
    assert!(
        annotation.ends_with("field is immutable") && spec.starts_with("spec: Forbidden"),
        "{annotation} {spec}"
    );
}

#[test]
fn the_two_names_of_a_claims_source_say_the_same() {
    let mut new = object(
        "",
        "PersistentVolumeClaim",
        claim(json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"}})),
    );
    (rules("", "PersistentVolumeClaim").prepare_create)(&mut new);
    assert_eq!(new.str_at(&["spec", "dataSourceRef", "name"]), Some("a"));
    assert_eq!(new.str_at(&["status", "phase"]), Some("Pending"));
}

#[test]
fn a_class_stays_as_it_is() {
    let class =
        |provisioner: &str, mode: &str| json!({"provisioner": provisioner, "volumeBindingMode": mode});
    assert_eq!(new("StorageClass", class("example.com/disks", "Immediate")), NOTHING);
    assert_eq!(new("StorageClass", json!({})), ["provisioner: Required value"]);
    let wrong = new("StorageClass", class("a/b", "Sometimes"));
    let why = "volumeBindingMode: Unsupported value: \"Sometimes\": supported values: \"Immediate\", \"WaitForFirstConsumer\"";
    assert_eq!(wrong, [why]);
    assert_eq!(
        changed("StorageClass", class("a/b", "Immediate"), class("a/c", "WaitForFirstConsumer")),
        [
            "provisioner: Invalid value: \"a/c\": field is immutable",
            "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ]
    );
}

#[test]
fn a_volume_says_since_when_it_is_in_its_phase() {
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let (first, later) = (at("2026-01-01T00:00:00Z"), at("2026-01-02T00:00:00Z"));
    let dated = rules("", "PersistentVolume").dated;
    let since =
        |volume: &Object| volume.at(&["status", "lastPhaseTransitionTime"]).and_then(schema::Value::as_time);
    let in_phase = |phase: &str| object("", "PersistentVolume", json!({"status": {"phase": phase}}));
    let mut old = in_phase("Pending");
    dated(&mut old, None, first);
    assert_eq!(since(&old), Some(first));
    for (phase, expected) in [("Pending", first), ("Bound", later)] {
        let mut new = in_phase(phase);
        dated(&mut new, Some(&old), later);
        assert_eq!(since(&new), Some(expected), "{phase}");
    }
}
