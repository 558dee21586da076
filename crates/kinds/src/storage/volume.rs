//! What a volume must be, and what of it may change.

use schema::{Object, Value};

use super::claim::{OLD_CLASS, annotation};
use crate::content;
use crate::field::{At, Errors, Json, Path};
use crate::pod::validate::read::{amounts, has, maybe, sub, text, texts};
use crate::pod::validate::{affinity, claim_template, paths, shown, volume};
use crate::{edit, rules::Part};

/// The sources, in the order in which upstream looks at them, and the field that it names when there is more than one.
const SOURCES: [(&str, &str); 22] = [
    ("hostPath", "hostPath"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("nfs", "nfs"),
    ("rbd", "rbd"),
    ("quobyte", "quobyte"),
    ("cephfs", "cephFS"),
    ("iscsi", "iscsi"),
    ("cinder", "cinder"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO"),
    ("local", "local"),
    ("storageos", "storageos"),
    ("csi", "csi"),
];
const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
const OLD_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// What is wrong with a volume.
pub(super) fn validate(volume: &Object, errors: &mut Errors) {
    specification(volume, errors);
    if let Some(spec) = sub(volume, "spec") {
        mount_options(volume, spec, errors);
    }
}

/// What is wrong with a volume that somebody names within something else.
pub(super) fn inline(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    const NOT_HERE: &str = "may not be specified in the context of inline volumes";
    let mut forbid = |field: &str, given: bool| {
        if given {
            errors.forbidden(&at.child(field), NOT_HERE);
        }
    };
    forbid("claimRef", has(spec, "claimRef"));
    forbid("capacity", amounts(spec, "capacity").next().is_some());
    if !has(spec, "csi") {
        errors.required(&at.child("csi"), "has to be specified in the context of inline volumes");
    }
    modes(spec, at, errors);
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    if !policy.is_empty() && policy != "Retain" {
        let why = "may only be Retain in the context of inline volumes";
        errors.forbidden(&at.child("persistentVolumeReclaimPolicy"), why);
    }
    if has(spec, "nodeAffinity") {
        errors.forbidden(&at.child("nodeAffinity"), NOT_HERE);
    }
    source(spec, at, errors);
    if !text(spec, "storageClassName").is_empty() {
        errors.forbidden(&at.child("storageClassName"), NOT_HERE);
    }
    if maybe(spec, "volumeMode").is_some_and(|mode| mode != "Filesystem") {
        let why = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(&at.child("volumeMode"), why);
    }
}

fn specification(volume: &Object, errors: &mut Errors) {
    let at = At::new("spec");
    let nothing = Object::new(volume.ty().clone());
    let spec = sub(volume, "spec").unwrap_or(&nothing);
    modes(spec, &at, errors);
    capacity(spec, &at.child("capacity"), errors);
    let policy = text(spec, "persistentVolumeReclaimPolicy");
    let policy_at = at.child("persistentVolumeReclaimPolicy");
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        errors.not_supported(&policy_at, policy, &POLICIES);
    }
    if let Some(node) = sub(spec, "nodeAffinity") {
        let at = at.child("nodeAffinity");
        match sub(node, "required") {
            Some(required) => affinity::node_selector(required, &at.child("required"), errors),
            None => errors.required(&at.child("required"), "must specify required node constraints"),
        }
    }
    source(spec, &at, errors);
    if policy == "Recycle" && sub(spec, "hostPath").is_some_and(|host| is_root(text(host, "path"))) {
        errors.forbidden(&policy_at, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = text(spec, "storageClassName");
    if !class.is_empty() {
        errors.each(&at.child("storageClassName"), class, content::subdomain(class));
    }
    if let Some(mode) = maybe(spec, "volumeMode").filter(|mode| !matches!(*mode, "Block" | "Filesystem")) {
        errors.not_supported(&at.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    if let Some(class) = maybe(spec, "volumeAttributesClassName") {
        let class_at = at.child("volumeAttributesClassName");
        match class {
            "" => errors.required(&class_at, "an empty string is disallowed"),
            class => errors.each(&class_at, class, content::subdomain(class)),
        }
        if !has(spec, "csi") {
            errors.required(&at.child("csi"), "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn modes(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let modes_at = at.child("accessModes");
    if texts(spec, "accessModes").next().is_none() {
        errors.required(&modes_at, "");
    }
    claim_template::access_modes(spec, &modes_at, errors);
}

fn capacity(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let all: Vec<_> = amounts(spec, "capacity").collect();
    if all.is_empty() {
        errors.required(at, "");
    }
    if all.len() != 1 || all.iter().all(|(name, _)| *name != "storage") {
        let shown: Vec<String> =
            all.iter().map(|(name, amount)| format!("{name:?}:{:?}", amount.to_string())).collect();
        let shown =
            if !has(spec, "capacity") { "null".to_owned() } else { format!("{{{}}}", shown.join(",")) };
        errors.not_supported(at, Json(shown), &["storage"]);
    }
    for (name, amount) in &all {
        if amount.sign() < 0 {
            errors.invalid(&at.key(name), amount.value(), "must be a valid resource quantity");
        }
        if amount.sign() <= 0 {
            errors.invalid(&at.key(name), &amount.to_string(), "must be greater than zero");
        }
    }
}

fn source(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let mut found = 0;
    for (field, shown) in SOURCES {
        let Some(source) = sub(spec, field) else { continue };
        found += 1;
        if found > 1 && field != "flexVolume" {
            errors.forbidden(&at.child(shown), "may not specify more than 1 volume type");
            continue;
        }
        match field {
            "local" => {
                let path = text(source, "path");
                let local = at.child("local");
                match path {
                    "" => errors.required(&local.child("path"), ""),
                    path => paths::no_backsteps(path, &local.child("path"), errors),
                }
                if !has(spec, "nodeAffinity") {
                    errors.required(&at.child("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "csi" => csi(source, &at.child("csi"), errors),
            field => volume::persistent_source(field, source, at, errors),
        }
    }
    if found == 0 {
        errors.required(at, "must specify a volume type");
    }
}

fn csi(source: &Object, at: &At<'_>, errors: &mut Errors) {
    crate::resource::driver_name(text(source, "driver"), &at.child("driver"), errors);
    if text(source, "volumeHandle").is_empty() {
        errors.required(&at.child("volumeHandle"), "");
    }
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let Some(reference) = sub(source, field) else { continue };
        let at = at.child(field);
        for (field, check) in [("name", content::subdomain as fn(&str) -> _), ("namespace", content::label)] {
            match text(reference, field) {
                "" => errors.required(&at.child(field), ""),
                given => errors.each(&at.child(field), given, check(given)),
            }
        }
    }
}

fn is_root(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| part.is_empty() || part == ".")
}

/// Options by annotation are for the kinds that once had them.
fn mount_options(volume: &Object, spec: &Object, errors: &mut Errors) {
    const WITH_OPTIONS: [&str; 13] = [
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "glusterfs",
        "nfs",
        "rbd",
        "quobyte",
        "iscsi",
        "cinder",
        "cephfs",
        "azureFile",
        "vsphereVolume",
        "azureDisk",
        "photonPersistentDisk",
    ];
    if annotation(volume, OLD_OPTIONS).is_some() && !WITH_OPTIONS.iter().any(|field| has(spec, field)) {
        let at = Path::new("metadata").child("annotations").child(OLD_OPTIONS);
        errors.forbidden(&at, "may not specify mount options for this volume type");
    }
}

/// What is wrong with a change.
pub(super) fn validate_update(new: &Object, old: &Object, part: Part, errors: &mut Errors) {
    if part != Part::Main {
        return;
    }
    // Upstream looks twice, and tells it twice, but for the options.
    specification(new, errors);
    validate(new, errors);
    let (Some(new), Some(old)) = (sub(new, "spec"), sub(old, "spec")) else { return };
    let (had, has) = (sources(old, None), sources(new, Some(old)));
    if !edit::same(&had, &has) {
        let lines =
            |spec: &Object| shown::lines_of(spec, |field| SOURCES.iter().any(|(name, _)| *name == field));
        let diff = crate::pod::diff(&lines(&had), &lines(&has));
        let why = format!("spec.persistentvolumesource is immutable after creation\n{diff}");
        errors.forbidden(&At::new("spec.persistentvolumesource"), why);
    }
    let mode = |spec: &Object| text(spec, "volumeMode").to_owned();
    if mode(new) != mode(old) {
        errors.invalid(&At::new("volumeMode"), mode(new).as_str(), "field is immutable");
    }
    if maybe(old, "volumeAttributesClassName").is_some() && maybe(new, "volumeAttributesClassName").is_none()
    {
        let at = At::new("spec.volumeAttributesClassName");
        errors.forbidden(&at, "update from non-nil value to nil is forbidden");
    }
}

/// A specification of which only the source is left. A driver's secret for growing may be said later than the rest.
fn sources(spec: &Object, before: Option<&Object>) -> Object {
    const SECRET: &str = "controllerExpandSecretRef";
    let mut only = Object::new(spec.ty().clone());
    for (field, _) in SOURCES {
        if let Some(source) = spec.get(field) {
            only.set(field, source.clone());
        }
    }
    if before.and_then(|before| sub(before, "csi")).is_some_and(|csi| !has(csi, SECRET)) {
        edit::within(&mut only, "csi", |csi| {
            csi.remove(SECRET);
        });
    }
    only
}

/// What its author should know.
pub(super) fn warnings(volume: &Object, _: Option<&Object>, part: Part) -> Vec<String> {
    const GONE: [(&str, &str); 6] = [
        ("cephfs", "cephfs: deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "photonPersistentDisk: deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "scaleIO: deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "storageOS: deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs: deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "rbd: deprecated in v1.28, non-functional in v1.31+"),
    ];
    let Some(spec) = sub(volume, "spec").filter(|_| part == Part::Main) else { return Vec::new() };
    let mut told = Vec::new();
    for (name, why) in [
        (OLD_CLASS, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
        (OLD_OPTIONS, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
    ] {
        if annotation(volume, name).is_some() {
            told.push(format!("metadata.annotations[{name}]: {why}"));
        }
    }
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        let why = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        told.push(format!("spec.persistentVolumeReclaimPolicy: {why}"));
    }
    if let Some(required) = spec.struct_at(&["nodeAffinity", "required"]) {
        told.extend(crate::pod::node_selector_warnings(required, "spec.nodeAffinity.required"));
    }
    told.extend(GONE.iter().filter(|(field, _)| has(spec, field)).map(|(_, why)| format!("spec.{why}")));
    told
}

/// Values of an enumeration that is an absent field or a text.
pub(super) fn of(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
