//! Budgets, quotas, autoscalers, classes, certificates, and the shares of the API server.

use schema::{Object, Value};

use super::{AGE, NAME, PLAIN, Printed, age_cell, column, int, int_or_text, name, text, text_or};
use crate::edit;
use crate::meta::duration;
use crate::rules::{Cell, Column};

pub(super) fn printed(group: &str, kind: &str) -> Option<Printed> {
    Some(match (group, kind) {
        ("policy", "PodDisruptionBudget") => (BUDGET, budget),
        ("", "LimitRange") => PLAIN,
        ("", "ResourceQuota") => (const { &[NAME, text("Request"), text("Limit"), AGE] }, quota),
        ("autoscaling", "HorizontalPodAutoscaler") => (AUTOSCALER, autoscaler),
        ("scheduling.k8s.io", "PriorityClass") => (PRIORITY, priority),
        ("node.k8s.io", "RuntimeClass") => (const { &[NAME, text("Handler"), AGE] }, |class, now| {
            vec![name(class), text_or(class, &["handler"], ""), age_cell(class, now)]
        }),
        ("certificates.k8s.io", "CertificateSigningRequest") => (REQUEST, request),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => (FLOW, flow),
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => (LEVEL, level),
        _ => return None,
    })
}

const BUDGET: &[Column] =
    &[NAME, text("Min Available"), text("Max Unavailable"), column("Allowed Disruptions", "integer"), AGE];

fn budget(budget: &Object, now: i64) -> Vec<Cell> {
    let amount =
        |field: &str| Cell::Text(int_or_text(budget, &["spec", field]).unwrap_or_else(|| "N/A".to_owned()));
    vec![
        name(budget),
        amount("minAvailable"),
        amount("maxUnavailable"),
        int(budget, &["status", "disruptionsAllowed"]),
        age_cell(budget, now),
    ]
}

fn quota(quota: &Object, now: i64) -> Vec<Cell> {
    let mut shown = [Vec::new(), Vec::new()];
    let hard = quota.map_at(&["status", "hard"]);
    let mut resources: Vec<(&str, &str)> = hard.into_iter().flat_map(schema::Map::strings).collect();
    resources.sort_unstable();
    let used = quota.map_at(&["status", "used"]);
    for (resource, hard) in resources {
        let used = used.and_then(|used| used.get(resource)).and_then(Value::as_str).unwrap_or("0");
        let [requests, limits] = &mut shown;
        let list = if resource.starts_with("limits.") { limits } else { requests };
        list.push(format!("{resource}: {used}/{hard}"));
    }
    let [requests, limits] = shown.map(|list| Cell::Text(list.join(", ")));
    vec![name(quota), requests, limits, age_cell(quota, now)]
}

const AUTOSCALER: &[Column] =
    &[NAME, text("Reference"), text("Targets"), text("MinPods"), text("MaxPods"), text("Replicas"), AGE];

fn autoscaler(scaler: &Object, now: i64) -> Vec<Cell> {
    let target = |field: &str| edit::get(scaler, &["spec", "scaleTargetRef", field]);
    let least = scaler.int_at(&["spec", "minReplicas"]);
    vec![
        name(scaler),
        Cell::Text(format!("{}/{}", target("kind"), target("name"))),
        Cell::Text(targets(scaler)),
        Cell::Text(least.map_or("<unset>".to_owned(), |least| least.to_string())),
        int(scaler, &["spec", "maxReplicas"]),
        int(scaler, &["status", "currentReplicas"]),
        age_cell(scaler, now),
    ]
}

/// At most two metrics, each as current and wanted, and how many more there are.
fn targets(scaler: &Object) -> String {
    let metrics: Vec<&Object> = edit::structs(scaler, &["spec", "metrics"]).collect();
    let current: Vec<&Object> = edit::structs(scaler, &["status", "currentMetrics"]).collect();
    let mut all = metrics.iter().enumerate().map(|(at, metric)| target(metric, current.get(at).copied()));
    let shown: Vec<String> = all.by_ref().take(2).collect();
    match (shown.is_empty(), metrics.len().saturating_sub(2)) {
        (true, _) => "<none>".to_owned(),
        (false, 0) => shown.join(", "),
        (false, more) => format!("{} + {more} more...", shown.join(", ")),
    }
}

fn target(metric: &Object, current: Option<&Object>) -> String {
    let source = match edit::get(metric, &["type"]) {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = |field: &str| metric.at(&[source, "target", field]);
    let now = |field: &str| current.and_then(|current| current.at(&[source, "current", field]));
    let quantity =
        |value: Option<&Value>, none: &str| value.and_then(Value::as_str).unwrap_or(none).to_owned();
    let percent = |value: Option<&Value>, none: &str| {
        value.and_then(Value::as_int).map_or(none.to_owned(), |value| format!("{value}%"))
    };
    let average = wanted("averageValue");
    match source {
        "resource" | "containerResource" => {
            let resource = edit::get(metric, &[source, "name"]);
            match average {
                Some(_) => {
                    let (is, wanted) = (quantity(now("averageValue"), "<unknown>"), quantity(average, "0"));
                    format!("{resource}: {is}/{wanted}")
                }
                None => {
                    let is = percent(now("averageUtilization"), "<unknown>");
                    format!("{resource}: {is}/{}", percent(wanted("averageUtilization"), "<auto>"))
                }
            }
        }
        "pods" => format!("{}/{}", quantity(now("averageValue"), "<unknown>"), quantity(average, "0")),
        _ if average.is_some() => {
            format!("{}/{} (avg)", quantity(now("averageValue"), "<unknown>"), quantity(average, "0"))
        }
        _ => format!("{}/{}", quantity(now("value"), "<unknown>"), quantity(wanted("value"), "0")),
    }
}

const PRIORITY: &[Column] =
    &[NAME, column("Value", "integer"), column("Global-Default", "boolean"), AGE, text("PreemptionPolicy")];

fn priority(class: &Object, now: i64) -> Vec<Cell> {
    vec![
        name(class),
        int(class, &["value"]),
        Cell::Bool(class.bool_at(&["globalDefault"]).unwrap_or_default()),
        age_cell(class, now),
        text_or(class, &["preemptionPolicy"], ""),
    ]
}

const REQUEST: &[Column] =
    &[NAME, AGE, text("SignerName"), text("Requestor"), text("RequestedDuration"), text("Condition")];

fn request(request: &Object, now: i64) -> Vec<Cell> {
    let asked = request.int_at(&["spec", "expirationSeconds"]);
    vec![
        name(request),
        age_cell(request, now),
        text_or(request, &["spec", "signerName"], "<none>"),
        text_or(request, &["spec", "username"], ""),
        Cell::Text(asked.map_or("<none>".to_owned(), duration)),
        Cell::Text(condition(request)),
    ]
}

fn condition(request: &Object) -> String {
    let has = |kind: &str| {
        edit::structs(request, &["status", "conditions"]).any(|found| edit::get(found, &["type"]) == kind)
    };
    let mut shown = if has("Denied") {
        "Denied".to_owned()
    } else if has("Approved") {
        "Approved".to_owned()
    } else {
        "Pending".to_owned()
    };
    if has("Failed") {
        shown.push_str(",Failed");
    }
    let issued = request.at(&["status", "certificate"]).and_then(Value::as_bytes);
    if issued.is_some_and(|certificate| !certificate.is_empty()) {
        shown.push_str(",Issued");
    }
    shown
}

const FLOW: &[Column] = &[
    NAME,
    text("PriorityLevel"),
    text("MatchingPrecedence"),
    text("DistinguisherMethod"),
    AGE,
    text("MissingPL"),
];

fn flow(flow: &Object, now: i64) -> Vec<Cell> {
    let dangling = edit::structs(flow, &["status", "conditions"])
        .find(|condition| edit::get(condition, &["type"]) == "Dangling")
        .map_or("?", |condition| edit::get(condition, &["status"]));
    vec![
        name(flow),
        text_or(flow, &["spec", "priorityLevelConfiguration", "name"], ""),
        int(flow, &["spec", "matchingPrecedence"]),
        text_or(flow, &["spec", "distinguisherMethod", "type"], "<none>"),
        age_cell(flow, now),
        Cell::Text(dangling.to_owned()),
    ]
}

const LEVEL: &[Column] = &[
    NAME,
    text("Type"),
    text("NominalConcurrencyShares"),
    text("Queues"),
    text("HandSize"),
    text("QueueLengthLimit"),
    AGE,
];

fn level(level: &Object, now: i64) -> Vec<Cell> {
    let number = |path: &[&str]| match level.int_at(path) {
        Some(number) => Cell::Int(number),
        None => Cell::Text("<none>".to_owned()),
    };
    let queuing = |field| number(&["spec", "limited", "limitResponse", "queuing", field]);
    vec![
        name(level),
        text_or(level, &["spec", "type"], ""),
        number(&["spec", "limited", "nominalConcurrencyShares"]),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        age_cell(level, now),
    ]
}
