use schema::{Object, Value};

use crate::edit;
use crate::meta::{age, duration};
use crate::rules::{Cell, Column};

const fn column(name: &'static str, ty: &'static str, priority: i32) -> Column {
    Column { name, ty, format: "", priority }
}

/// The columns of `kubectl get pods`.
pub(super) const COLUMNS: &[Column] = &[
    Column { name: "Name", ty: "string", format: "name", priority: 0 },
    column("Ready", "string", 0),
    column("Status", "string", 0),
    column("Restarts", "string", 0),
    column("Age", "string", 0),
    column("IP", "string", 1),
    column("Node", "string", 1),
    column("Nominated Node", "string", 1),
    column("Readiness Gates", "string", 1),
];

/// The cells of a pod (`pkg/printers/internalversion.printPod`).
pub(super) fn cells(pod: &Object, now: i64) -> Vec<Cell> {
    let text = |text: &str| Cell::Text(if text.is_empty() { "<none>".to_owned() } else { text.to_owned() });
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts > 0 => format!("{} ({} ago)", summary.restarts, duration(now - at)),
        _ => summary.restarts.to_string(),
    };
    let total = edit::structs(pod, &["spec", "containers"]).count()
        + edit::structs(pod, &["spec", "initContainers"]).filter(|container| is_sidecar(container)).count();
    vec![
        Cell::Text(pod.name().to_owned()),
        Cell::Text(format!("{}/{total}", summary.ready)),
        Cell::Text(summary.reason),
        Cell::Text(restarts),
        Cell::Text(age(pod, now)),
        text(edit::get(pod, &["status", "podIP"])),
        text(edit::get(pod, &["spec", "nodeName"])),
        text(edit::get(pod, &["status", "nominatedNodeName"])),
        Cell::Text(readiness_gates(pod)),
    ]
}

/// The reason and the sentence that a table says of an object that has nothing left to do.
pub fn completed(object: &Object) -> Option<(&'static str, &'static str)> {
    if !object.ty().name.ends_with(".core.v1.Pod") {
        return None;
    }
    match edit::get(object, &["status", "phase"]) {
        "Succeeded" => Some(("Succeeded", "The pod has completed successfully.")),
        "Failed" => Some(("Failed", "The pod failed.")),
        _ => None,
    }
}

struct Summary {
    ready: usize,
    restarts: i64,
    last_restart: Option<i64>,
    reason: String,
}

fn is_sidecar(container: &Object) -> bool {
    edit::get(container, &["restartPolicy"]) == "Always"
}

fn seconds(object: &Object, path: &[&str]) -> Option<i64> {
    object.at(path).and_then(Value::as_time).map(|time| time.as_second())
}

fn summarize(pod: &Object) -> Summary {
    let mut summary = Summary {
        ready: 0,
        restarts: 0,
        last_restart: None,
        reason: edit::get(pod, &["status", "phase"]).to_owned(),
    };
    let reason = edit::get(pod, &["status", "reason"]);
    if !reason.is_empty() {
        summary.reason = reason.to_owned();
    }
    let gated = edit::structs(pod, &["status", "conditions"]).any(|condition| {
        edit::get(condition, &["type"]) == "PodScheduled"
            && edit::get(condition, &["reason"]) == "SchedulingGated"
    });
    if gated {
        summary.reason = "SchedulingGated".to_owned();
    }
    let initializing = init_containers(pod, &mut summary);
    if !initializing || condition(pod, "Initialized") {
        containers(pod, &mut summary);
    }
    if pod.deletion_timestamp().is_some() {
        if reason == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(edit::get(pod, &["status", "phase"]), "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// How a container that has ended is shown.
fn ended(status: &Object) -> String {
    let reason = edit::get(status, &["state", "terminated", "reason"]);
    if !reason.is_empty() {
        return reason.to_owned();
    }
    let signal = status.int_at(&["state", "terminated", "signal"]).unwrap_or_default();
    let code = status.int_at(&["state", "terminated", "exitCode"]).unwrap_or_default();
    if signal != 0 { format!("Signal:{signal}") } else { format!("ExitCode:{code}") }
}

fn count(status: &Object, summary: &mut Summary) {
    summary.restarts += status.int_at(&["restartCount"]).unwrap_or_default();
    let last = seconds(status, &["lastState", "terminated", "finishedAt"]);
    summary.last_restart = summary.last_restart.max(last);
}

/// Whether init containers still hold the pod up.
fn init_containers(pod: &Object, summary: &mut Summary) -> bool {
    let total = edit::structs(pod, &["spec", "initContainers"]).count();
    for (index, status) in edit::structs(pod, &["status", "initContainerStatuses"]).enumerate() {
        let name = edit::get(status, &["name"]);
        let sidecar = edit::structs(pod, &["spec", "initContainers"])
            .any(|container| edit::get(container, &["name"]) == name && is_sidecar(container));
        count(status, summary);
        let ended_well = status.at(&["state", "terminated"]).is_some()
            && status.int_at(&["state", "terminated", "exitCode"]).unwrap_or_default() == 0;
        if ended_well {
            continue;
        }
        if sidecar && status.bool_at(&["started"]) == Some(true) {
            summary.ready += usize::from(status.bool_at(&["ready"]) == Some(true));
            continue;
        }
        if status.at(&["state", "terminated"]).is_some() {
            summary.reason = format!("Init:{}", ended(status));
            return true;
        }
        let waiting = edit::get(status, &["state", "waiting", "reason"]);
        summary.reason = match waiting {
            "" | "PodInitializing" => format!("Init:{index}/{total}"),
            reason => format!("Init:{reason}"),
        };
        return true;
    }
    false
}

fn containers(pod: &Object, summary: &mut Summary) {
    let (mut running, mut failed) = (false, None);
    // Of init containers only sidecars' restarts count once the pod runs.
    (summary.restarts, summary.last_restart) = (0, None);
    sidecars(pod).for_each(|status| count(status, summary));
    let statuses: Vec<&Object> = edit::structs(pod, &["status", "containerStatuses"]).collect();
    for status in statuses.iter().rev() {
        count(status, summary);
        let waiting = edit::get(status, &["state", "waiting", "reason"]);
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if status.at(&["state", "terminated"]).is_some() {
            summary.reason = ended(status);
            if status.int_at(&["state", "terminated", "exitCode"]).unwrap_or_default() != 0 {
                failed = Some(summary.reason.clone());
            }
        } else if status.bool_at(&["ready"]) == Some(true) && status.at(&["state", "running"]).is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" {
        match failed {
            _ if running && condition(pod, "Ready") => summary.reason = "Running".to_owned(),
            Some(failed) => summary.reason = failed,
            None if running => summary.reason = "NotReady".to_owned(),
            None => {}
        }
    }
}

fn condition(pod: &Object, kind: &str) -> bool {
    edit::structs(pod, &["status", "conditions"])
        .any(|found| edit::get(found, &["type"]) == kind && edit::get(found, &["status"]) == "True")
}

/// The statuses of the init containers that go on running.
fn sidecars(pod: &Object) -> impl Iterator<Item = &Object> {
    edit::structs(pod, &["status", "initContainerStatuses"]).filter(|status| {
        let name = edit::get(status, &["name"]);
        edit::structs(pod, &["spec", "initContainers"])
            .any(|container| edit::get(container, &["name"]) == name && is_sidecar(container))
    })
}

fn readiness_gates(pod: &Object) -> String {
    let gates: Vec<&str> = edit::structs(pod, &["spec", "readinessGates"])
        .map(|gate| edit::get(gate, &["conditionType"]))
        .collect();
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let met = gates
        .iter()
        .filter(|gate| {
            edit::structs(pod, &["status", "conditions"]).any(|condition| {
                edit::get(condition, &["type"]) == **gate && edit::get(condition, &["status"]) == "True"
            })
        })
        .count();
    format!("{met}/{}", gates.len())
}
