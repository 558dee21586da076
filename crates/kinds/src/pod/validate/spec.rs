//! A pod's specification as a whole.

use schema::Object;

use super::container::{self, Pod};
use super::read::{flag, has, int, items, maybe, text};
use super::{
    Subject, affinity, dns, env, ports, resources, scheduling, security, selector, topology, volume, windows,
};
use crate::content;
use crate::field::{At, Errors};

/// Checks a specification, of a pod or of a template.
pub(super) fn check(spec: &Object, subject: &Subject<'_>, at: &At<'_>, errors: &mut Errors) {
    if !has(spec, "terminationGracePeriodSeconds") {
        errors.required(&at.child("terminationGracePeriodSeconds"), "");
    }
    let volumes = volume::volumes(spec, subject, &at.child("volumes"), errors);
    let claims = scheduling::resource_claims(spec, subject, &at.child("resourceClaims"), errors);
    let host_users = flag(spec, "hostUsers") != Some(false);
    let pod = Pod { spec, volumes, claims, host_users };
    container::main(&pod, &at.child("containers"), errors);
    container::init(&pod, &at.child("initContainers"), errors);
    container::ephemeral(&pod, &at.child("ephemeralContainers"), errors);
    resources::of_pod(spec, &pod.claims, at, errors);
    ports::host_network(spec, at, subject.is_pod, errors);
    policies(spec, at, errors);
    selector::labels(spec, "nodeSelector", &at.child("nodeSelector"), errors);
    security::of_pod(spec, &at.child("securityContext"), errors);
    security::shared_processes(spec, at, errors);
    affinity::check(spec, &at.child("affinity"), errors);
    dns::config(spec, &at.child("dnsConfig"), errors);
    scheduling::gates(spec, at, errors);
    topology::check(spec, &at.child("topologySpreadConstraints"), errors);
    windows::host_processes(spec, at, errors);
    security::host_users(spec, at, errors);
    dns::hostname_override(spec, at, errors);
    names(spec, at, errors);
    scheduling::tolerations(spec, &at.child("tolerations"), errors);
    dns::host_aliases(spec, &at.child("hostAliases"), errors);
    classes(spec, at, errors);
    resources::overhead(spec, &at.child("overhead"), errors);
    windows::os(spec, at, errors);
    scheduling::group(spec, at, errors);
    env::file_volumes(spec, at, errors);
}

fn policies(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    const DNS: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    let known: [(&str, &[&str]); 2] =
        [("restartPolicy", &["Always", "OnFailure", "Never"]), ("dnsPolicy", &DNS)];
    for (field, allowed) in known {
        match text(spec, field) {
            "" => errors.required(&at.child(field), ""),
            value if allowed.contains(&value) => {}
            other => errors.not_supported_in_order(&at.child(field), other, allowed),
        }
    }
}

fn names(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    for field in ["serviceAccountName", "nodeName"] {
        let name = text(spec, field);
        if !name.is_empty() {
            errors.each(&at.child(field), name, content::subdomain(name));
        }
    }
    if let Some(seconds) = int(spec, "activeDeadlineSeconds") {
        for problem in content::in_range(seconds, 1, i64::from(i32::MAX)) {
            errors.invalid(&at.child("activeDeadlineSeconds"), seconds, problem);
        }
    }
    for field in ["hostname", "subdomain"] {
        let name = text(spec, field);
        if !name.is_empty() {
            errors.each(&at.child(field), name, content::label(name));
        }
    }
}

fn classes(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    let priority = text(spec, "priorityClassName");
    if !priority.is_empty() {
        errors.each(&at.child("priorityClassName"), priority, content::subdomain(priority));
    }
    if let Some(class) = maybe(spec, "runtimeClassName") {
        errors.each(&at.child("runtimeClassName"), class, content::subdomain(class));
    }
    let at = at.child("preemptionPolicy");
    match maybe(spec, "preemptionPolicy") {
        None | Some("PreemptLowerPriority" | "Never") => {}
        Some("") => errors.required(&at, ""),
        Some(other) => errors.not_supported_in_order(&at, other, &["PreemptLowerPriority", "Never"]),
    }
}

/// What holds for a pod and not for a template.
pub(super) fn only_for_pods(spec: &Object, at: &At<'_>, errors: &mut Errors) {
    if text(spec, "serviceAccountName").is_empty() {
        let volumes_at = at.child("volumes");
        for (index, volume) in items(spec, "volumes").enumerate() {
            let Some(projected) = super::read::sub(volume, "projected") else { continue };
            let at = volumes_at.index(index);
            let at = at.child("projected.sources");
            for (position, source) in items(projected, "sources").enumerate() {
                if has(source, "serviceAccountToken") {
                    let why = "must not be specified when serviceAccountName is not set";
                    errors.forbidden(&at.index(position).child("serviceAccountToken"), why);
                }
            }
        }
    }
    if let Some(seconds) = int(spec, "terminationGracePeriodSeconds").filter(|seconds| *seconds < 0) {
        let why = "must be greater than or equal to 0";
        errors.invalid(&at.child("terminationGracePeriodSeconds"), seconds, why);
    }
    for list in ["containers", "initContainers"] {
        let at = at.child(list);
        for (index, container) in items(spec, list).enumerate() {
            container::trimmed_image(container, &at.index(index), errors);
        }
    }
}

/// Whether a pod is bound to a node although something holds its scheduling back.
pub(super) fn gated_but_bound(spec: &Object) -> bool {
    !text(spec, "nodeName").is_empty() && items(spec, "schedulingGates").next().is_some()
}
