use std::collections::BTreeSet;

use schema::{Object, Value};

use crate::edit;
use crate::field::{Errors, Path};
use crate::meta::{self, NameRule};

/// What is wrong with a pod template.
pub(crate) fn validate_template(template: &Object, path: &Path, errors: &mut Errors) {
    meta::labels(template.labels(), &path.child("metadata").child("labels"), errors);
    match template.struct_at(&["spec"]) {
        Some(spec) => validate_spec(spec, &path.child("spec"), errors),
        None => errors.required(&path.child("spec").child("containers"), ""),
    }
}

/// What is wrong with a pod's specification (`pkg/apis/core/validation.ValidatePodSpec`).
pub(crate) fn validate_spec(spec: &Object, path: &Path, errors: &mut Errors) {
    one_of(spec, "restartPolicy", &["Always", "OnFailure", "Never"], path, errors);
    one_of(spec, "dnsPolicy", &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], path, errors);
    let volumes = validate_volumes(spec, path, errors);
    let mut names = BTreeSet::new();
    let containers = path.child("containers");
    if edit::structs(spec, &["containers"]).count() == 0 {
        errors.required(&containers, "");
    }
    for (list, path) in [("containers", containers), ("initContainers", path.child("initContainers"))] {
        for (index, container) in edit::structs(spec, &[list]).enumerate() {
            validate_container(container, &path.index(index), &volumes, &mut names, errors);
        }
    }
    let account = edit::get(spec, &["serviceAccountName"]);
    if let Some(why) =
        Some(account).filter(|name| !name.is_empty()).and_then(|name| NameRule::Subdomain.check(name))
    {
        errors.invalid(&path.child("serviceAccountName"), account, why);
    }
    let node = edit::get(spec, &["nodeName"]);
    if let Some(why) =
        Some(node).filter(|name| !name.is_empty()).and_then(|name| NameRule::Subdomain.check(name))
    {
        errors.invalid(&path.child("nodeName"), node, why);
    }
    meta::labels(spec.map_at(&["nodeSelector"]), &path.child("nodeSelector"), errors);
    for (field, least) in [("terminationGracePeriodSeconds", 0), ("activeDeadlineSeconds", 1)] {
        match spec.int_at(&[field]) {
            Some(value) if value < least => {
                let why = if least == 0 {
                    "must be greater than or equal to 0"
                } else {
                    "must be between 1 and 2147483647, inclusive"
                };
                errors.invalid(&path.child(field), value, why);
            }
            _ => {}
        }
    }
    validate_tolerations(spec, path, errors);
}

fn one_of(object: &Object, field: &str, allowed: &[&str], path: &Path, errors: &mut Errors) {
    match edit::get(object, &[field]) {
        "" => errors.required(&path.child(field), ""),
        value if !allowed.contains(&value) => errors.not_supported(&path.child(field), value, allowed),
        _ => {}
    }
}

fn validate_tolerations(spec: &Object, path: &Path, errors: &mut Errors) {
    for (index, toleration) in edit::structs(spec, &["tolerations"]).enumerate() {
        let path = path.child("tolerations").index(index);
        let (key, operator) = (edit::get(toleration, &["key"]), edit::get(toleration, &["operator"]));
        if let Some(why) = Some(key).filter(|key| !key.is_empty()).and_then(meta::qualified_name) {
            errors.invalid(&path.child("key"), key, why);
        }
        if key.is_empty() && operator != "Exists" {
            errors.invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        let effect = edit::get(toleration, &["effect"]);
        if !matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            errors.not_supported(
                &path.child("effect"),
                effect,
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            );
        }
        if toleration.get("tolerationSeconds").is_some() && effect != "NoExecute" {
            errors.invalid(
                &path.child("effect"),
                effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
    }
}

fn validate_volumes<'o>(spec: &'o Object, path: &Path, errors: &mut Errors) -> BTreeSet<&'o str> {
    let mut names = BTreeSet::new();
    for (index, volume) in edit::structs(spec, &["volumes"]).enumerate() {
        let path = path.child("volumes").index(index);
        let name = edit::get(volume, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if let Some(why) = NameRule::Label.check(name) {
            errors.invalid(&path.child("name"), name, why);
        } else if !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        let sources = volume.fields().filter(|(field, _)| &*field.json != "name").count();
        if sources > 1 {
            errors.forbidden(&path, "may not specify more than 1 volume type");
        }
        for (source, field) in [
            ("secret", "secretName"),
            ("configMap", "name"),
            ("hostPath", "path"),
            ("persistentVolumeClaim", "claimName"),
        ] {
            if let Some(source_object) = volume.struct_at(&[source]) {
                if edit::get(source_object, &[field]).is_empty() {
                    errors.required(&path.child(source).child(field), "");
                }
            }
        }
        let host_path = edit::get(volume, &["hostPath", "path"]);
        if host_path.split('/').any(|part| part == "..") {
            errors.invalid(&path.child("hostPath").child("path"), host_path, "must not contain '..'");
        }
    }
    names
}

fn validate_container<'o>(
    container: &'o Object,
    path: &Path,
    volumes: &BTreeSet<&str>,
    names: &mut BTreeSet<&'o str>,
    errors: &mut Errors,
) {
    let name = edit::get(container, &["name"]);
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    } else if let Some(why) = NameRule::Label.check(name) {
        errors.invalid(&path.child("name"), name, why);
    } else if !names.insert(name) {
        errors.duplicate(&path.child("name"), name);
    }
    let image = edit::get(container, &["image"]);
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
    one_of(container, "imagePullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
    validate_ports(container, path, errors);
    validate_env(container, path, errors);
    validate_mounts(container, path, volumes, errors);
    validate_resources(container, path, errors);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe_object) = container.struct_at(&[probe]) {
            validate_probe(probe_object, probe, &path.child(probe), errors);
        }
    }
}

fn validate_ports(container: &Object, path: &Path, errors: &mut Errors) {
    let mut names = BTreeSet::new();
    for (index, port) in edit::structs(container, &["ports"]).enumerate() {
        let path = path.child("ports").index(index);
        match port.int_at(&["containerPort"]).unwrap_or_default() {
            0 => errors.required(&path.child("containerPort"), ""),
            value if !(1..=65535).contains(&value) => {
                errors.invalid(&path.child("containerPort"), value, "must be between 1 and 65535, inclusive");
            }
            _ => {}
        }
        let host = port.int_at(&["hostPort"]).unwrap_or_default();
        if !(0..=65535).contains(&host) {
            errors.invalid(&path.child("hostPort"), host, "must be between 1 and 65535, inclusive");
        }
        one_of(port, "protocol", &["TCP", "UDP", "SCTP"], &path, errors);
        let name = edit::get(port, &["name"]);
        if !name.is_empty() && !names.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
        if let Some(why) = Some(name).filter(|name| !name.is_empty()).and_then(port_name) {
            errors.invalid(&path.child("name"), name, why);
        }
    }
}

/// What is wrong with the name of a port (RFC 6335).
fn port_name(name: &str) -> Option<&'static str> {
    if name.len() > 15 {
        return Some("must be no more than 15 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        return Some("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Some("must contain at least one letter (a-z)");
    }
    if name.contains("--") {
        return Some("must not contain consecutive hyphens");
    }
    if name.starts_with('-') || name.ends_with('-') {
        return Some("must not begin or end with a hyphen");
    }
    None
}

fn validate_env(container: &Object, path: &Path, errors: &mut Errors) {
    for (index, env) in edit::structs(container, &["env"]).enumerate() {
        let path = path.child("env").index(index);
        let name = edit::get(env, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if name.contains('=') || !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            errors.invalid(&path.child("name"), name, "a valid environment variable name must consist only of printable ASCII characters other than '='");
        }
        let Some(source) = env.struct_at(&["valueFrom"]) else { continue };
        let path = path.child("valueFrom");
        match source.fields().count() {
            0 => errors.invalid(&path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"),
            1 => {}
            _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
        }
        if !edit::get(env, &["value"]).is_empty() {
            errors.invalid(&path, "", "may not be specified when `value` is not empty");
        }
        for reference in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(object) = source.struct_at(&[reference]) {
                if edit::get(object, &["key"]).is_empty() {
                    errors.required(&path.child(reference).child("key"), "");
                }
            }
        }
    }
}

fn validate_mounts(container: &Object, path: &Path, volumes: &BTreeSet<&str>, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    for (index, mount) in edit::structs(container, &["volumeMounts"]).enumerate() {
        let path = path.child("volumeMounts").index(index);
        let name = edit::get(mount, &["name"]);
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !volumes.contains(name) {
            errors.not_found(&path.child("name"), name);
        }
        let target = edit::get(mount, &["mountPath"]);
        if target.is_empty() {
            errors.required(&path.child("mountPath"), "");
        } else if !paths.insert(target) {
            errors.invalid(&path.child("mountPath"), target, "must be unique");
        }
        let sub = edit::get(mount, &["subPath"]);
        if sub.starts_with('/') {
            errors.invalid(&path.child("subPath"), sub, "must be a relative path");
        } else if sub.split('/').any(|part| part == "..") {
            errors.invalid(&path.child("subPath"), sub, "must not contain '..'");
        }
    }
}

fn validate_resources(container: &Object, path: &Path, errors: &mut Errors) {
    let path = path.child("resources");
    let amount = |which: &str, name: &str| {
        let text = container.at(&["resources", which, name]).and_then(Value::as_str)?;
        text.parse::<schema::quantity::Quantity>().ok()
    };
    for which in ["limits", "requests"] {
        for (name, text) in container.map_at(&["resources", which]).into_iter().flat_map(schema::Map::strings)
        {
            if text.starts_with('-') {
                errors.invalid(&path.child(which).key(name), text, "must be greater than or equal to 0");
            }
        }
    }
    for (name, text) in
        container.map_at(&["resources", "requests"]).into_iter().flat_map(schema::Map::strings)
    {
        if let (Some(request), Some(limit)) = (amount("requests", name), amount("limits", name)) {
            if request > limit {
                let limit = container.str_at(&["resources", "limits", name]).unwrap_or_default();
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&path.child("requests"), text, why);
            }
        }
    }
}

fn validate_probe(probe: &Object, name: &str, path: &Path, errors: &mut Errors) {
    let handlers =
        ["exec", "httpGet", "tcpSocket", "grpc"].iter().filter(|field| probe.get(field).is_some()).count();
    match handlers {
        0 => errors.required(path, "must specify a handler type"),
        1 => {}
        _ => errors.forbidden(path, "may not specify more than 1 handler type"),
    }
    for field in
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
    {
        let value = probe.int_at(&[field]).unwrap_or_default();
        if value < 0 {
            errors.invalid(&path.child(field), value, "must be greater than or equal to 0");
        }
    }
    let successes = probe.int_at(&["successThreshold"]).unwrap_or(1);
    if name != "readinessProbe" && successes != 1 {
        errors.invalid(&path.child("successThreshold"), successes, "must be 1");
    }
}
