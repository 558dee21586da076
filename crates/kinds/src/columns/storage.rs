//! Volumes, claims, storage classes and what CSI adds.

use schema::Object;

use super::{AGE, NAME, PLAIN, Printed, age_cell, column, count, joined, name, text, text_or, wide};
use crate::edit;
use crate::rules::{Cell, Column};

pub(super) fn printed(group: &str, kind: &str) -> Option<Printed> {
    Some(match (group, kind) {
        ("", "PersistentVolume") => (VOLUME, volume),
        ("", "PersistentVolumeClaim") => (CLAIM, claim),
        ("storage.k8s.io", "StorageClass") => (CLASS, class),
        ("storage.k8s.io", "VolumeAttributesClass") => {
            (const { &[NAME, text("DriverName"), AGE] }, |class, now| {
                vec![name(class), text_or(class, &["driverName"], ""), age_cell(class, now)]
            })
        }
        ("storage.k8s.io", "VolumeAttachment") => (ATTACHMENT, attachment),
        ("storage.k8s.io", "CSINode") => {
            (const { &[NAME, column("Drivers", "integer"), AGE] }, |node, now| {
                vec![name(node), count(node, &["spec", "drivers"]), age_cell(node, now)]
            })
        }
        ("storage.k8s.io", "CSIDriver") => (DRIVER, driver),
        ("storage.k8s.io", "CSIStorageCapacity") => PLAIN,
        ("resource.k8s.io", "ResourceClaim") => (const { &[NAME, text("State"), AGE] }, |claim, now| {
            vec![name(claim), Cell::Text(state(claim)), age_cell(claim, now)]
        }),
        ("resource.k8s.io", "ResourceSlice") => {
            (const { &[NAME, text("Node"), text("Driver"), text("Pool"), AGE] }, |slice, now| {
                let of = |path: &[&str]| text_or(slice, path, "");
                let (node, driver) = (of(&["spec", "nodeName"]), of(&["spec", "driver"]));
                vec![name(slice), node, driver, of(&["spec", "pool", "name"]), age_cell(slice, now)]
            })
        }
        _ => return None,
    })
}

fn access_modes(object: &Object, path: &[&str]) -> Cell {
    let has = |mode: &str| {
        let modes = object.list_at(path).unwrap_or_default();
        modes.iter().any(|found| found.as_str() == Some(mode))
    };
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown: Vec<&str> = short.into_iter().filter(|(mode, _)| has(mode)).map(|(_, short)| short).collect();
    Cell::Text(shown.join(","))
}

fn class_of(object: &Object) -> Cell {
    let annotation = object.annotation("volume.beta.kubernetes.io/storage-class");
    let class = annotation.or_else(|| object.str_at(&["spec", "storageClassName"]));
    Cell::Text(class.unwrap_or_default().to_owned())
}

fn phase(object: &Object) -> Cell {
    match object.deletion_timestamp() {
        Some(_) => Cell::Text("Terminating".to_owned()),
        None => text_or(object, &["status", "phase"], ""),
    }
}

fn quantity(object: &Object, path: &[&str]) -> Cell {
    let map = path.split_last().and_then(|(key, map)| Some((object.map_at(map)?, key)));
    let found = map.and_then(|(map, key)| map.get(key)).and_then(schema::Value::as_str);
    Cell::Text(found.unwrap_or("0").to_owned())
}

const VOLUME: &[Column] = &[
    NAME,
    text("Capacity"),
    text("Access Modes"),
    text("Reclaim Policy"),
    text("Status"),
    text("Claim"),
    text("StorageClass"),
    text("VolumeAttributesClass"),
    text("Reason"),
    AGE,
    wide("VolumeMode"),
];

fn volume(volume: &Object, now: i64) -> Vec<Cell> {
    let claim = volume.struct_at(&["spec", "claimRef"]);
    let claim =
        claim.map(|claim| format!("{}/{}", edit::get(claim, &["namespace"]), edit::get(claim, &["name"])));
    vec![
        name(volume),
        quantity(volume, &["spec", "capacity", "storage"]),
        access_modes(volume, &["spec", "accessModes"]),
        text_or(volume, &["spec", "persistentVolumeReclaimPolicy"], ""),
        phase(volume),
        Cell::Text(claim.unwrap_or_default()),
        class_of(volume),
        text_or(volume, &["spec", "volumeAttributesClassName"], "<unset>"),
        text_or(volume, &["status", "reason"], ""),
        age_cell(volume, now),
        text_or(volume, &["spec", "volumeMode"], "<unset>"),
    ]
}

const CLAIM: &[Column] = &[
    NAME,
    text("Status"),
    text("Volume"),
    text("Capacity"),
    text("Access Modes"),
    text("StorageClass"),
    text("VolumeAttributesClass"),
    AGE,
    wide("VolumeMode"),
];

fn claim(claim: &Object, now: i64) -> Vec<Cell> {
    let bound = !edit::get(claim, &["spec", "volumeName"]).is_empty();
    let [capacity, modes] = match bound {
        true => [
            quantity(claim, &["status", "capacity", "storage"]),
            access_modes(claim, &["status", "accessModes"]),
        ],
        false => [Cell::Text(String::new()), Cell::Text(String::new())],
    };
    vec![
        name(claim),
        phase(claim),
        text_or(claim, &["spec", "volumeName"], ""),
        capacity,
        modes,
        class_of(claim),
        text_or(claim, &["spec", "volumeAttributesClassName"], "<unset>"),
        age_cell(claim, now),
        text_or(claim, &["spec", "volumeMode"], "<unset>"),
    ]
}

const CLASS: &[Column] = &[
    NAME,
    text("Provisioner"),
    text("ReclaimPolicy"),
    text("VolumeBindingMode"),
    text("AllowVolumeExpansion"),
    AGE,
];

fn class(class: &Object, now: i64) -> Vec<Cell> {
    let default =
        ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
            .iter()
            .any(|key| class.annotation(key) == Some("true"));
    let shown = if default { format!("{} (default)", class.name()) } else { class.name().to_owned() };
    vec![
        Cell::Text(shown),
        text_or(class, &["provisioner"], ""),
        text_or(class, &["reclaimPolicy"], "Delete"),
        text_or(class, &["volumeBindingMode"], "Immediate"),
        Cell::Bool(class.bool_at(&["allowVolumeExpansion"]).unwrap_or_default()),
        age_cell(class, now),
    ]
}

const ATTACHMENT: &[Column] = &[
    NAME,
    Column { name: "Attacher", ty: "string", format: "name", priority: 0 },
    text("PV"),
    text("Node"),
    column("Attached", "boolean"),
    AGE,
];

fn attachment(attachment: &Object, now: i64) -> Vec<Cell> {
    vec![
        name(attachment),
        text_or(attachment, &["spec", "attacher"], ""),
        text_or(attachment, &["spec", "source", "persistentVolumeName"], ""),
        text_or(attachment, &["spec", "nodeName"], ""),
        Cell::Bool(attachment.bool_at(&["status", "attached"]).unwrap_or_default()),
        age_cell(attachment, now),
    ]
}

const DRIVER: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean"),
    column("PodInfoOnMount", "boolean"),
    column("StorageCapacity", "boolean"),
    text("TokenRequests"),
    column("RequiresRepublish", "boolean"),
    text("Modes"),
    AGE,
];

fn driver(driver: &Object, now: i64) -> Vec<Cell> {
    let flag = |field: &str, default: bool| Cell::Bool(driver.bool_at(&["spec", field]).unwrap_or(default));
    let audiences: Vec<&str> = edit::structs(driver, &["spec", "tokenRequests"])
        .map(|request| edit::get(request, &["audience"]))
        .collect();
    let tokens = match driver.list_at(&["spec", "tokenRequests"]) {
        Some(_) => audiences.join(","),
        None => "<unset>".to_owned(),
    };
    let modes = joined(driver, &["spec", "volumeLifecycleModes"]);
    vec![
        name(driver),
        flag("attachRequired", true),
        flag("podInfoOnMount", false),
        flag("storageCapacity", false),
        Cell::Text(tokens),
        flag("requiresRepublish", false),
        Cell::Text(if modes.is_empty() { "<none>".to_owned() } else { modes }),
        age_cell(driver, now),
    ]
}

/// What has become of a claim of devices.
fn state(claim: &Object) -> String {
    let mut states = Vec::new();
    let (is_gone, is_given) =
        (claim.deletion_timestamp().is_some(), claim.at(&["status", "allocation"]).is_some());
    if is_gone {
        states.push("deleted");
    }
    if is_given {
        states.push("allocated");
        if claim.list_at(&["status", "reservedFor"]).is_some_and(|list| !list.is_empty()) {
            states.push("reserved");
        }
    } else if !is_gone {
        states.push("pending");
    }
    states.join(",")
}
