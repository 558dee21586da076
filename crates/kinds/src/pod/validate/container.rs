//! Containers of all three kinds.

use std::collections::BTreeSet;

use schema::Object;

use super::read::{int, items, maybe, sub, text};
use super::volume::Volumes;
use super::{env, mounts, ports, probe, resources, restart, security};
use crate::content;
use crate::field::{At, Errors};

/// What the rules of a container look at of its pod.
pub(super) struct Pod<'o> {
    pub spec: &'o Object,
    pub volumes: Volumes<'o>,
    pub claims: BTreeSet<&'o str>,
    pub host_users: bool,
}

impl Pod<'_> {
    fn os(&self) -> Option<&str> {
        sub(self.spec, "os").map(|os| text(os, "name"))
    }

    fn grace(&self) -> Option<i64> {
        int(self.spec, "terminationGracePeriodSeconds")
    }
}

/// Checks a pull policy, of a container or an image volume.
pub(super) fn pull_policy(policy: &str, at: &At<'_>, errors: &mut Errors) {
    match policy {
        "Always" | "IfNotPresent" | "Never" => {}
        "" => errors.required(at, ""),
        other => errors.not_supported(at, other, &["Always", "IfNotPresent", "Never"]),
    }
}

fn common(container: &Object, pod: &Pod<'_>, at: &At<'_>, errors: &mut Errors) {
    match text(container, "name") {
        "" => errors.required(&at.child("name"), ""),
        name => errors.each(&at.child("name"), name, content::label(name)),
    }
    if text(container, "image").is_empty() {
        errors.required(&at.child("image"), "");
    }
    let message_at = at.child("terminationMessagePolicy");
    match text(container, "terminationMessagePolicy") {
        "File" | "FallbackToLogsOnError" => {}
        "" => errors.required(&message_at, ""),
        other => errors.not_supported_in_order(&message_at, other, &["File", "FallbackToLogsOnError"]),
    }
    ports::ports(container, &at.child("ports"), errors);
    env::env(container, &at.child("env"), errors);
    env::env_from(container, &at.child("envFrom"), errors);
    mounts::mounts(container, &pod.volumes, &at.child("volumeMounts"), errors);
    mounts::devices(container, &pod.volumes, &at.child("volumeDevices"), errors);
    pull_policy(text(container, "imagePullPolicy"), &at.child("imagePullPolicy"), errors);
    resources::of_container(container, &pod.claims, &at.child("resources"), errors);
    restart::resize(container, text(pod.spec, "restartPolicy"), &at.child("resizePolicy"), errors);
    security::of_container(container, pod.host_users, &at.child("securityContext"), errors);
}

/// Checks `containers`.
pub(super) fn main(pod: &Pod<'_>, at: &At<'_>, errors: &mut Errors) {
    let all = || items(pod.spec, "containers");
    if all().next().is_none() {
        errors.required(at, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (index, container) in all().enumerate() {
        let at = at.index(index);
        common(container, pod, &at, errors);
        let name = text(container, "name");
        if !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        probe::lifecycle_and_probes(container, pod.os(), pod.grace(), &at, errors);
        restart::policy(container, &at, errors);
    }
    ports::host_ports(all(), at, errors);
}

/// Checks `initContainers`.
pub(super) fn init(pod: &Pod<'_>, at: &At<'_>, errors: &mut Errors) {
    let mut names: BTreeSet<&str> = items(pod.spec, "containers").map(|c| text(c, "name")).collect();
    for (index, container) in items(pod.spec, "initContainers").enumerate() {
        let here = at.index(index);
        common(container, pod, &here, errors);
        restart::init_policy(container, &here, errors);
        let name = text(container, "name");
        if names.contains(name) {
            errors.duplicate(&here.child("name"), name);
        } else if !name.is_empty() {
            names.insert(name);
        }
        // They run one by one, so that each may have what another had.
        ports::host_ports(std::iter::once(container), at, errors);
        if maybe(container, "restartPolicy") == Some("Always") {
            probe::lifecycle_and_probes(container, pod.os(), pod.grace(), &here, errors);
        } else {
            probe::forbid_for_init(container, &here, errors);
            restart::no_restart_by_resize(container, &here, errors);
        }
    }
}

/// What an ephemeral container may have, of all that a container has.
const EPHEMERAL_FIELDS: [&str; 17] = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "envFrom",
    "env",
    "volumeMounts",
    "volumeDevices",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    // Of the ephemeral container itself.
    "targetContainerName",
];

/// Checks `ephemeralContainers`.
pub(super) fn ephemeral(pod: &Pod<'_>, at: &At<'_>, errors: &mut Errors) {
    const WHY: &str = "cannot be set for an Ephemeral Container";
    if items(pod.spec, "ephemeralContainers").next().is_none() {
        return;
    }
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| items(pod.spec, list))
        .map(|container| text(container, "name"))
        .collect();
    let mut names = others.clone();
    for (index, container) in items(pod.spec, "ephemeralContainers").enumerate() {
        let at = at.index(index);
        common(container, pod, &at, errors);
        trimmed_image(container, &at, errors);
        let name = text(container, "name");
        if !names.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        let target = text(container, "targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        for (field, _) in container.fields().filter(|(field, _)| !EPHEMERAL_FIELDS.contains(&&*field.json)) {
            errors.forbidden(&at.child(&field.json), WHY);
        }
        let mounts_at = at.child("volumeMounts");
        for (index, mount) in items(container, "volumeMounts").enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !text(mount, field).is_empty() {
                    errors.forbidden(&mounts_at.index(index).child(field), WHY);
                }
            }
        }
    }
}

/// The image of a pod's container has no space around it; that of a template may.
pub(super) fn trimmed_image(container: &Object, at: &At<'_>, errors: &mut Errors) {
    let image = text(container, "image");
    if image.trim() != image {
        errors.invalid(&at.child("image"), image, "must not have leading or trailing whitespace");
    }
}
