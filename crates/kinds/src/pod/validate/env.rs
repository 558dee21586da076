//! Environment variables and what they are taken from.

use schema::Object;

use super::paths::no_backsteps;
use super::read::{has, int, items, maybe, sub, text};
use crate::content;
use crate::field::{At, Errors};

const FIELD_PATHS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a downward API volume may show of its pod.
pub(super) const VOLUME_FIELD_PATHS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks `env`.
pub(super) fn env(container: &Object, at: &At<'_>, errors: &mut Errors) {
    for (index, variable) in items(container, "env").enumerate() {
        let at = at.index(index);
        let name = text(variable, "name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else {
            errors.each(&at.child("name"), name, content::env_name(name));
        }
        if let Some(source) = sub(variable, "valueFrom") {
            value_from(variable, source, &at.child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Object, source: &Object, at: &At<'_>, errors: &mut Errors) {
    let mut sources = 0;
    if let Some(field) = sub(source, "fieldRef") {
        sources += 1;
        field_ref(field, &FIELD_PATHS, &at.child("fieldRef"), errors);
    }
    if let Some(resource) = sub(source, "resourceFieldRef") {
        sources += 1;
        resource_ref(resource, &at.child("resourceFieldRef"), false, errors);
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = sub(source, field) {
            sources += 1;
            key_ref(key, &at.child(field), errors);
        }
    }
    if let Some(file) = sub(source, "fileKeyRef") {
        sources += 1;
        file_ref(file, &at.child("fileKeyRef"), errors);
    }
    if sources == 0 {
        errors.invalid(at, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`");
    } else if !text(variable, "value").is_empty() {
        errors.invalid(at, "", "may not be specified when `value` is not empty");
    } else if sources > 1 {
        errors.invalid(at, "", "may not have more than one field specified at a time");
    }
}

fn key_ref(key: &Object, at: &At<'_>, errors: &mut Errors) {
    let name = text(key, "name");
    errors.each(&at.child("name"), name, content::subdomain(name));
    match text(key, "key") {
        "" => errors.required(&at.child("key"), ""),
        key => errors.each(&at.child("key"), key, content::config_key(key)),
    }
}

fn file_ref(file: &Object, at: &At<'_>, errors: &mut Errors) {
    match text(file, "key") {
        "" => errors.required(&at.child("key"), ""),
        key => errors.each(&at.child("key"), key, content::env_name(key)),
    }
    match text(file, "volumeName") {
        "" => errors.required(&at.child("volumeName"), ""),
        name => errors.each(&at.child("volumeName"), name, content::label(name)),
    }
    match text(file, "path") {
        "" => errors.required(&at.child("path"), ""),
        path => no_backsteps(path, &at.child("path"), errors),
    }
}

/// Where the subscript of a field path begins and ends: `metadata.labels['app']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (field, rest) = path.split_once("['")?;
    Some((field, rest.strip_suffix("']")?)).filter(|(field, _)| !field.is_empty())
}

/// What the path of a field of a pod is called inside, for those that a pod has.
fn converted(path: &str) -> Option<&str> {
    if let Some((field, _)) = subscript(path) {
        return matches!(field, "metadata.annotations" | "metadata.labels").then_some(path);
    }
    match path {
        "metadata.annotations"
        | "metadata.labels"
        | "metadata.name"
        | "metadata.namespace"
        | "metadata.uid"
        | "spec.nodeName"
        | "spec.restartPolicy"
        | "spec.serviceAccountName"
        | "spec.schedulerName"
        | "status.phase"
        | "status.hostIP"
        | "status.hostIPs"
        | "status.podIP"
        | "status.podIPs" => Some(path),
        // As `spec.host` was called until v1beta1.
        "spec.host" => Some("spec.nodeName"),
        _ => None,
    }
}

/// Checks a reference to a field of the pod.
pub(super) fn field_ref(field: &Object, allowed: &[&str], at: &At<'_>, errors: &mut Errors) {
    let version = text(field, "apiVersion");
    if version.is_empty() {
        errors.required(&at.child("apiVersion"), "");
        return;
    }
    let path = text(field, "fieldPath");
    if path.is_empty() {
        errors.required(&at.child("fieldPath"), "");
        return;
    }
    if version != "v1" {
        let why = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.invalid(&at.child("fieldPath"), path, why);
        return;
    }
    let Some(inside) = converted(path) else {
        let why = match subscript(path) {
            Some(_) => format!("error converting fieldPath: field label does not support subscript: {path}"),
            None => format!("error converting fieldPath: field label not supported: {path}"),
        };
        errors.invalid(&at.child("fieldPath"), path, why);
        return;
    };
    match subscript(inside) {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            errors.each(at, &key, content::qualified_name(&key));
        }
        Some((_, key)) => errors.each(at, key, content::qualified_name(key)),
        None if !allowed.contains(&inside) => {
            errors.not_supported(&at.child("fieldPath"), inside, allowed);
        }
        None => {}
    }
}

/// Checks a reference to a resource of a container.
pub(super) fn resource_ref(resource: &Object, at: &At<'_>, volume: bool, errors: &mut Errors) {
    let name = text(resource, "resource");
    let huge = name.starts_with("requests.hugepages-") || name.starts_with("limits.hugepages-");
    if volume && text(resource, "containerName").is_empty() {
        errors.required(&at.child("containerName"), "");
    } else if name.is_empty() {
        errors.required(&at.child("resource"), "");
    } else if !RESOURCES.contains(&name) && !huge {
        errors.not_supported(&at.child("resource"), name, &RESOURCES);
    }
    let divisor = maybe(resource, "divisor").unwrap_or("0");
    if divisor == "0" {
        return;
    }
    const SIZES: [&str; 13] =
        ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let what = match name {
        "limits.cpu" | "requests.cpu" => {
            if !matches!(divisor, "1m" | "1") {
                let why = "only divisor's values 1m and 1 are supported with the cpu resource";
                errors.invalid(&at.child("divisor"), name, why);
            }
            return;
        }
        "limits.memory" | "requests.memory" => "memory",
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => "local ephemeral storage",
        _ if huge => "hugepages",
        _ => return,
    };
    if !SIZES.contains(&divisor) {
        let sizes = SIZES.join(", ");
        let why = format!("only divisor's values {sizes} are supported with the {what} resource");
        errors.invalid(&at.child("divisor"), name, why);
    }
}

/// Checks `envFrom`.
pub(super) fn env_from(container: &Object, at: &At<'_>, errors: &mut Errors) {
    for (index, source) in items(container, "envFrom").enumerate() {
        let here = at.index(index);
        let prefix = text(source, "prefix");
        if !prefix.is_empty() {
            errors.each(&here.child("prefix"), prefix, content::env_name(prefix));
        }
        let mut sources = 0;
        for field in ["configMapRef", "secretRef"] {
            let Some(object) = sub(source, field) else { continue };
            sources += 1;
            let at = here.child(field);
            match text(object, "name") {
                "" => errors.required(&at.child("name"), ""),
                // The name may be the beginning of one here, as upstream has it.
                name => {
                    let shown = name.strip_suffix('-').map(|rest| format!("{rest}a"));
                    let problems = content::subdomain(shown.as_deref().unwrap_or(name));
                    errors.each(&at.child("name"), name, problems);
                }
            }
        }
        match sources {
            0 => errors.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(at, "", "may not have more than one field specified at a time"),
        }
    }
}

/// A file that variables are read from lies in an `emptyDir` of the pod.
pub(super) fn file_volumes(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    for (list, index, container) in super::read::containers(spec) {
        for (position, variable) in items(container, "env").enumerate() {
            let Some(file) = variable.struct_at(&["valueFrom", "fileKeyRef"]) else { continue };
            let (at, name) = (at.child(list), text(file, "volumeName"));
            let at = at.index(index);
            let at = at.child("env");
            let at = at.index(position);
            let at = at.child("valueFrom.fileKeyRef.volumeName");
            match items(spec, "volumes").filter(|volume| text(volume, "name") == name).last() {
                None => errors.not_found(&at, name),
                Some(volume) if !has(volume, "emptyDir") => {
                    errors.invalid(&at, name, "referenced volume must be of type emptyDir");
                }
                Some(_) => {}
            }
        }
    }
}

/// Checks `mode` or `defaultMode`.
pub(super) fn mode(object: &Object, field: &str, at: &At<'_>, errors: &mut Errors) {
    if let Some(mode) = int(object, field).filter(|mode| !(0..=0o777).contains(mode)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(&at.child(field), mode, why);
    }
}
