//! What a pod or a pod template leaves out (`pkg/apis/core/v1/defaults.go`).

mod amounts;
mod container;
mod image;
#[cfg(test)]
mod tests;
mod volume;

pub(crate) use volume::vendors as source_defaults;

pub(crate) use amounts::round;

pub(super) use amounts::pod_level;

use schema::{Object, Value};

use super::validate::read::{is_true, items, text as text_of};
use crate::edit::{each, flag, made, number, positive, present, text, within};

/// Fills in a pod.
pub(super) fn pod(pod: &mut Object) {
    made(pod, "spec", |spec| {
        // What only a pod gets, so that templates stay as they were written.
        for list in ["containers", "initContainers"] {
            each(spec, list, amounts::requests_from_limits);
        }
        let grace = "terminationGracePeriodSeconds";
        if spec.get(grace).and_then(Value::as_int).is_some_and(|seconds| seconds < 0) {
            spec.set(grace, Value::Int(1));
        }
        flag(spec, "enableServiceLinks", true);
        if is_true(spec, "hostNetwork") {
            for list in ["containers", "initContainers"] {
                each(spec, list, |container| each(container, "ports", host_port));
            }
        }
        spec_defaults(spec);
        amounts::round(spec, "overhead");
    });
    within(pod, "status", |status| {
        pod_ips(status);
        amounts_of_status(status);
    });
}

fn amounts_of_status(status: &mut Object) {
    let round = |of: &mut Object| {
        amounts::round(of, "allocatedResources");
        within(of, "resources", amounts::round_requirements);
    };
    round(status);
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        each(status, list, round);
    }
}

/// The first address and the list of addresses stay in step; the first is the one that old kubelets write.
fn pod_ips(status: &mut Object) {
    let ip = text_of(status, "podIP").to_owned();
    let first = items(status, "podIPs").next().map(|first| text_of(first, "ip").to_owned());
    match first {
        Some(first) if ip.is_empty() => {
            status.set("podIP", first);
        }
        first if !ip.is_empty() && first.as_ref() != Some(&ip) => {
            let Some(ty) = status.item_type("podIPs") else { return };
            let mut entry = Object::new(ty);
            entry.set("ip", ip);
            status.set("podIPs", vec![entry]);
        }
        _ => {}
    }
}

/// What follows from all that the defaults and the admission chain gave a new pod: what it needs as a whole, and
/// its class of service.
pub(super) fn settle(pod: &mut Object) {
    within(pod, "spec", amounts::pod_level);
    let class = super::resources::qos_class(pod);
    made(pod, "status", |status| {
        status.set("qosClass", class);
    });
}

/// In the host's network a port of a container is one of the host.
fn host_port(port: &mut Object) {
    let inside = port.get("containerPort").and_then(Value::as_int).unwrap_or_default();
    positive(port, "hostPort", inside);
}

/// Fills in a pod template.
pub(crate) fn template_defaults(template: &mut Object) {
    made(template, "spec", |spec| {
        spec_defaults(spec);
        amounts::round(spec, "overhead");
    });
}

fn spec_defaults(spec: &mut Object) {
    text(spec, "dnsPolicy", "ClusterFirst");
    text(spec, "restartPolicy", "Always");
    present(spec, "securityContext");
    number(spec, "terminationGracePeriodSeconds", 30);
    text(spec, "schedulerName", "default-scheduler");
    // The older name of the field stays in step: upstream's internal type has only the newer.
    let account = match text_of(spec, "serviceAccountName") {
        "" => text_of(spec, "serviceAccount").to_owned(),
        account => account.to_owned(),
    };
    for field in ["serviceAccountName", "serviceAccount"] {
        if text_of(spec, field) != account {
            spec.set(field, account.as_str());
        }
    }
    each(spec, "volumes", volume::defaults);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, container::defaults);
    }
    if spec.get("resources").is_some() {
        made(spec, "resources", amounts::round_requirements);
    }
}

/// The policy that follows from an image's tag.
fn pull_policy(image: &str) -> &'static str {
    if image::is_latest(image) { "Always" } else { "IfNotPresent" }
}
