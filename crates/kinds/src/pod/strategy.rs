//! What the server decides about a new or changed pod (`pkg/registry/core/pod/strategy.go`).

use schema::{Map, Object, Value};

use super::defaults::settle;
use super::validate::annotations::APP_ARMOR;
use super::validate::read::{has, items, maybe, sub, text};
use crate::edit;
use crate::field::{At, Errors};
use crate::gates::{Gate, Gates};
use crate::rules::Part;

/// A pod loses the fields of features that are off.
pub(super) fn gated(new: &mut Object, old: Option<&Object>, part: Part, gates: Gates) {
    match part {
        Part::Status => {
            let old = old.and_then(|old| sub(old, "status"));
            edit::within(new, "status", |status| super::unserved::drop_status(status, old, gates));
        }
        Part::Other("binding" | "deletion") => {}
        Part::Main | Part::Other(_) => super::unserved::drop(new, old, gates),
    }
    if let (Part::Other("resize"), Some(old), false) =
        (part, old, gates.has(Gate::InPlacePodVerticalScalingMemoryBackedVolumes))
    {
        let had = old.at(&["spec", "volumes"]).cloned();
        edit::made(new, "spec", |spec| put(spec, "volumes", had));
    }
}

/// A new pod has no status but its phase and class, and says whole what it says in short.
pub(super) fn prepare_create(pod: &mut Object) {
    pod.remove("status");
    pod.set_generation(1);
    edit::made(pod, "status", |status| {
        status.set("phase", "Pending");
    });
    if sub(pod, "spec").is_some_and(|spec| items(spec, "schedulingGates").next().is_some()) {
        gated_condition(pod);
    }
    merge_label_keys(pod);
    app_armor_fields(pod);
    settle(pod);
}

/// Why nobody schedules the pod, until its gates are gone (KEP-3521).
fn gated_condition(pod: &mut Object) {
    let now = pod.creation_timestamp();
    let Some(status) = pod.struct_mut("status") else { return };
    let Some(ty) = status.item_type("conditions") else { return };
    let mut condition = Object::new(ty);
    condition.set("type", "PodScheduled");
    condition.set("status", "False");
    if let Some(now) = now {
        condition.set("lastTransitionTime", now);
    }
    condition.set("reason", "SchedulingGated");
    condition.set("message", "Scheduling is blocked due to non-empty scheduling gates");
    if let Some(conditions) = status.list_mut("conditions") {
        conditions.push(Value::Struct(condition));
    }
}

/// Selectors get what `matchLabelKeys` and `mismatchLabelKeys` mean for this pod's labels (KEP-3633, KEP-3243).
fn merge_label_keys(pod: &mut Object) {
    let wanted =
        sub(pod, "spec").is_some_and(|spec| has(spec, "affinity") || has(spec, "topologySpreadConstraints"));
    if !wanted {
        return;
    }
    let labels = pod.labels().cloned().unwrap_or_default();
    edit::within(pod, "spec", |spec| {
        edit::within(spec, "affinity", |affinity| {
            for field in ["podAffinity", "podAntiAffinity"] {
                edit::within(affinity, field, |pods| {
                    edit::each(pods, "preferredDuringSchedulingIgnoredDuringExecution", |weighted| {
                        edit::within(weighted, "podAffinityTerm", |term| merge_keys(term, &labels));
                    });
                    edit::each(pods, "requiredDuringSchedulingIgnoredDuringExecution", |term| {
                        merge_keys(term, &labels);
                    });
                });
            }
        });
        edit::each(spec, "topologySpreadConstraints", |constraint| merge_keys(constraint, &labels));
    });
}

fn merge_keys(term: &mut Object, labels: &Map) {
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys: Vec<(String, String)> = super::validate::read::texts(term, field)
            .filter_map(|key| Some((key.to_owned(), labels.get_str(key)?.to_owned())))
            .collect();
        if keys.is_empty() {
            continue;
        }
        // A selector that is not there selects nothing, and is left so.
        edit::within(term, "labelSelector", |selector| {
            let Some(ty) = selector.item_type("matchExpressions") else { return };
            let Some(list) = selector.list_mut("matchExpressions") else { return };
            for (key, value) in keys {
                let mut requirement = Object::new(ty.clone());
                requirement.set("key", key);
                requirement.set("operator", operator);
                requirement.set("values", Value::List(vec![Value::Str(value)]));
                list.push(Value::Struct(requirement));
            }
        });
    }
}

/// A profile in the annotation of old becomes the field (KEP-24).
fn app_armor_fields(pod: &mut Object) {
    let Some(annotations) = pod.annotations() else { return };
    if !annotations.keys().any(|key| key.starts_with(APP_ARMOR)) {
        return;
    }
    let annotations = annotations.clone();
    if pod.str_at(&["spec", "os", "name"]) == Some("windows") {
        return;
    }
    let of_pod = pod.struct_at(&["spec", "securityContext", "appArmorProfile"]).cloned();
    edit::within(pod, "spec", |spec| {
        for list in super::validate::read::CONTAINER_LISTS {
            edit::each(spec, list, |container| app_armor_field(container, &annotations, of_pod.as_ref()));
        }
    });
}

fn app_armor_field(container: &mut Object, annotations: &Map, of_pod: Option<&Object>) {
    let key = format!("{APP_ARMOR}{}", text(container, "name"));
    let Some(annotation) = annotations.get_str(&key) else { return };
    if container.at(&["securityContext", "appArmorProfile"]).is_some() {
        return;
    }
    let context_type = container.item_type("securityContext");
    let Some(ty) = context_type.and_then(|ty| Object::new(ty).item_type("appArmorProfile")) else { return };
    if let Some(profile) = app_armor_profile(annotation, &ty).filter(|profile| Some(profile) != of_pod) {
        edit::made(container, "securityContext", |context| {
            context.set("appArmorProfile", Value::Struct(profile));
        });
    }
}

/// The field that an annotation stands for, where it is a valid one.
pub(super) fn app_armor_profile(annotation: &str, ty: &schema::StructRef) -> Option<Object> {
    let mut profile = Object::new(ty.clone());
    match annotation {
        "unconfined" => profile.set("type", "Unconfined"),
        "runtime/default" => profile.set("type", "RuntimeDefault"),
        other => {
            let path = other.strip_prefix("localhost/").filter(|path| !path.is_empty())?;
            profile.set("type", "Localhost") && profile.set("localhostProfile", path)
        }
    };
    let mut errors = Errors::new();
    super::validate::security::app_armor(Some(&profile), &At::new(""), &mut errors);
    errors.is_empty().then_some(profile)
}

/// Keeps of a change what the request is about, and counts up the generation when the specification changed.
pub(super) fn prepare_update(new: &mut Object, old: &Object, part: Part) {
    match part {
        Part::Status => status(new, old),
        Part::Other("ephemeralcontainers") => {
            let given = new.struct_at(&["spec"]).and_then(|spec| spec.get("ephemeralContainers")).cloned();
            keep_all_but_metadata(new, old);
            edit::made(new, "spec", |spec| put(spec, "ephemeralContainers", given));
            generation(new, old);
        }
        Part::Other("resize") => resize(new, old),
        // Binding does not change what the pod is, and what a deletion changes it has counted.
        Part::Other("binding") => new.set_generation(old.generation()),
        Part::Other("deletion") => {}
        Part::Main | Part::Other(_) => {
            put(new, "status", old.get("status").cloned());
            keep_resources(new, old);
            generation(new, old);
        }
    }
}

/// A client that does not know of a pod's resources as a whole does not take them away.
fn keep_resources(new: &mut Object, old: &Object) {
    if let Some(had) = old.at(&["spec", "resources"]) {
        edit::made(new, "spec", |spec| {
            if !has(spec, "resources") {
                spec.set("resources", had.clone());
            }
        });
    }
}

pub(super) fn put(object: &mut Object, field: &str, value: Option<Value>) {
    match value {
        Some(value) => {
            object.set(field, value);
        }
        None => {
            object.remove(field);
        }
    }
}

fn generation(new: &mut Object, old: &Object) {
    let changed = match (sub(new, "spec"), sub(old, "spec")) {
        (Some(new), Some(old)) => !edit::same(new, old),
        _ => new.get("spec") != old.get("spec"),
    };
    new.set_generation(old.generation() + i64::from(changed));
}

/// The old object with what a write of a part may say in the metadata (`ResetObjectMetaForStatus`).
fn keep_all_but_metadata(new: &mut Object, old: &Object) {
    put(new, "spec", old.get("spec").cloned());
    put(new, "status", old.get("status").cloned());
    reset_metadata(new, old);
}

fn reset_metadata(new: &mut Object, old: &Object) {
    let version = new.resource_version().to_owned();
    let managed = new.metadata().get("managedFields").cloned();
    if let Some(metadata) = old.get("metadata") {
        new.set("metadata", metadata.clone());
    }
    new.set_resource_version(&version);
    put(new.metadata_mut(), "managedFields", managed);
}

fn status(new: &mut Object, old: &Object) {
    put(new, "spec", old.get("spec").cloned());
    // Labels, annotations and finalizers may change with the status; owners may not.
    put(new.metadata_mut(), "ownerReferences", old.metadata().get("ownerReferences").cloned());
    new.set_generation(old.generation());
    // That it is going is not said here.
    let grace = new.int_at(&["metadata", "deletionGracePeriodSeconds"]);
    new.set_deletion(old.deletion_timestamp(), grace);
    let old_status = sub(old, "status");
    edit::made(new, "status", |status| {
        let Some(old) = old_status else { return };
        if text(status, "qosClass").is_empty() {
            put(status, "qosClass", old.get("qosClass").cloned());
        }
        // Clients that do not know of these leave them out; an empty list takes them away.
        const CLAIMS: [&str; 3] =
            ["resourceClaimStatuses", "extendedResourceClaimStatus", "nodeAllocatableResourceClaimStatuses"];
        for field in CLAIMS {
            if !has(status, field) {
                put(status, field, old.get(field).cloned());
            }
        }
        if !has(status, "observedGeneration") {
            put(status, "observedGeneration", old.get("observedGeneration").cloned());
        }
        keep_observed_generations(status, old);
    });
}

/// A condition that does not say which generation it is of keeps the one it had; there may be several of a type.
fn keep_observed_generations(status: &mut Object, old: &Object) {
    let mut had: Vec<(String, Option<Value>)> = items(old, "conditions")
        .map(|condition| (text(condition, "type").to_owned(), condition.get("observedGeneration").cloned()))
        .collect();
    edit::each(status, "conditions", |condition| {
        let kind = text(condition, "type").to_owned();
        let Some(at) = had.iter().position(|(of, _)| *of == kind) else { return };
        let (_, generation) = had.remove(at);
        if !has(condition, "observedGeneration") {
            put(condition, "observedGeneration", generation);
        }
    });
}

/// Keeps the resources and resize policies of a resize, the sizes of its volumes in memory, and nothing else (KEP-1287,
/// KEP-6030).
fn resize(new: &mut Object, old: &Object) {
    let empty = Vec::new();
    let lists = |pod: &Object, list: &str| {
        pod.list_at(&["spec", list]).map_or_else(|| empty.clone(), <[Value]>::to_vec)
    };
    let mut containers = Vec::new();
    for list in ["containers", "initContainers"] {
        let (given, had) = (lists(new, list), lists(old, list));
        if given.len() != had.len() {
            // What adds or removes containers is left to validation to refuse.
            return;
        }
        containers.push((list, resized(given, had)));
    }
    let volumes = resized_volumes(lists(new, "volumes"), lists(old, "volumes"));
    let resources = new.at(&["spec", "resources"]).cloned();
    keep_all_but_metadata(new, old);
    edit::made(new, "spec", |spec| {
        put(spec, "resources", resources);
        for (list, containers) in containers.into_iter().filter(|(_, list)| !list.is_empty()) {
            spec.set(list, Value::List(containers));
        }
        put(spec, "volumes", Some(volumes).filter(|volumes| !volumes.is_empty()).map(Value::List));
    });
    keep_resources(new, old);
    edit::within(new, "spec", super::defaults::pod_level);
    generation(new, old);
}

fn resized(given: Vec<Value>, had: Vec<Value>) -> Vec<Value> {
    let name = |value: &Value| value.as_struct().map(|c| text(c, "name").to_owned());
    if given.iter().map(name).ne(had.iter().map(name)) {
        return given;
    }
    let mut merged = had;
    for (container, given) in merged.iter_mut().zip(&given) {
        if let (Some(container), Some(given)) = (container.as_struct_mut(), given.as_struct()) {
            put(container, "resources", given.get("resources").cloned());
            put(container, "resizePolicy", given.get("resizePolicy").cloned());
        }
    }
    merged
}

/// What adds, removes or renames volumes is left to validation to refuse.
fn resized_volumes(given: Vec<Value>, had: Vec<Value>) -> Vec<Value> {
    let name = |value: &Value| value.as_struct().map(|volume| text(volume, "name").to_owned());
    if given.iter().map(name).ne(had.iter().map(name)) {
        return given;
    }
    let mut merged = had;
    for (volume, given) in merged.iter_mut().zip(&given) {
        let (Some(volume), Some(given)) = (volume.as_struct_mut(), given.as_struct()) else { continue };
        if let (true, Some(given)) = (is_in_memory(volume), sub(given, "emptyDir")) {
            let size = given.get("sizeLimit").cloned();
            edit::within(volume, "emptyDir", |empty| put(empty, "sizeLimit", size));
        }
    }
    merged
}

/// Whether a volume is a directory in memory.
pub(super) fn is_in_memory(volume: &Object) -> bool {
    volume.str_at(&["emptyDir", "medium"]) == Some("Memory")
}

/// Whether an init container runs on beside the others.
pub(super) fn is_sidecar(container: &Object) -> bool {
    maybe(container, "restartPolicy") == Some("Always")
}
