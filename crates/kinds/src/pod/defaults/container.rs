//! Containers, their probes, hooks and variables.

use schema::Object;

use super::super::validate::read::text as text_of;
use super::{amounts, pull_policy};
use crate::edit::{each, flag, made, positive, text, within};

/// Fills in a container of any kind.
pub(super) fn defaults(container: &mut Object) {
    if text_of(container, "imagePullPolicy").is_empty() {
        let policy = pull_policy(text_of(container, "image"));
        container.set("imagePullPolicy", policy);
    }
    text(container, "terminationMessagePath", "/dev/termination-log");
    text(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| text(port, "protocol", "TCP"));
    each(container, "env", |variable| {
        within(variable, "valueFrom", |source| {
            within(source, "fieldRef", |field| text(field, "apiVersion", "v1"));
            within(source, "fileKeyRef", |file| flag(file, "optional", false));
        });
    });
    if container.get("resources").is_some() {
        made(container, "resources", amounts::round_requirements);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, name, probe);
    }
    within(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            within(lifecycle, hook, |hook| within(hook, "httpGet", http_get));
        }
    });
}

fn probe(probe: &mut Object) {
    positive(probe, "timeoutSeconds", 1);
    positive(probe, "periodSeconds", 10);
    positive(probe, "successThreshold", 1);
    positive(probe, "failureThreshold", 3);
    within(probe, "httpGet", http_get);
    within(probe, "grpc", |grpc| {
        if grpc.get("service").is_none() {
            grpc.set("service", "");
        }
    });
}

fn http_get(get: &mut Object) {
    text(get, "path", "/");
    text(get, "scheme", "HTTP");
}
