//! Daemon sets, stateful sets, jobs, cron jobs and what belongs to them.

use schema::{Object, Value};

use super::{
    AGE, NAME, Printed, age_cell, column, containers, int, labels, name, owner, selector, text, text_or, wide,
};
use crate::edit;
use crate::meta::duration;
use crate::rules::{Cell, Column};

const TEMPLATE: &[&str] = &["spec", "template", "spec", "containers"];
const CONTAINERS: Column = wide("Containers");
const IMAGES: Column = wide("Images");
const SELECTOR: Column = wide("Selector");

pub(super) fn printed(group: &str, kind: &str) -> Option<Printed> {
    Some(match (group, kind) {
        ("apps", "DaemonSet") => (DAEMON_SET, daemon_set),
        ("apps", "StatefulSet") => (STATEFUL_SET, stateful_set),
        ("apps", "ControllerRevision") => (REVISION, revision),
        ("batch", "Job") => (JOB, job),
        ("batch", "CronJob") => (CRON_JOB, cron_job),
        ("", "ReplicationController") => (REPLICATION_CONTROLLER, replication_controller),
        ("", "PodTemplate") => (POD_TEMPLATE, pod_template),
        _ => return None,
    })
}

const DAEMON_SET: &[Column] = &[
    NAME,
    column("Desired", "integer"),
    column("Current", "integer"),
    column("Ready", "integer"),
    column("Up-to-date", "integer"),
    column("Available", "integer"),
    text("Node Selector"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn daemon_set(set: &Object, now: i64) -> Vec<Cell> {
    let [names, images] = containers(set, TEMPLATE);
    vec![
        name(set),
        int(set, &["status", "desiredNumberScheduled"]),
        int(set, &["status", "currentNumberScheduled"]),
        int(set, &["status", "numberReady"]),
        int(set, &["status", "updatedNumberScheduled"]),
        int(set, &["status", "numberAvailable"]),
        labels(set, &["spec", "template", "spec", "nodeSelector"]),
        age_cell(set, now),
        names,
        images,
        selector(set, &["spec", "selector"]),
    ]
}

const STATEFUL_SET: &[Column] = &[NAME, text("Ready"), AGE, CONTAINERS, IMAGES];

fn stateful_set(set: &Object, now: i64) -> Vec<Cell> {
    let [names, images] = containers(set, TEMPLATE);
    let number = |path: &[&str]| set.int_at(path).unwrap_or_default();
    let ready = format!("{}/{}", number(&["status", "readyReplicas"]), number(&["spec", "replicas"]));
    vec![name(set), Cell::Text(ready), age_cell(set, now), names, images]
}

const REVISION: &[Column] = &[NAME, text("Controller"), text("Revision"), AGE];

fn revision(revision: &Object, now: i64) -> Vec<Cell> {
    vec![name(revision), Cell::Text(owner(revision)), int(revision, &["revision"]), age_cell(revision, now)]
}

const JOB: &[Column] =
    &[NAME, text("Status"), text("Completions"), text("Duration"), AGE, CONTAINERS, IMAGES, SELECTOR];

fn job(job: &Object, now: i64) -> Vec<Cell> {
    let [names, images] = containers(job, TEMPLATE);
    vec![
        name(job),
        Cell::Text(job_status(job).to_owned()),
        Cell::Text(job_completions(job)),
        Cell::Text(job_duration(job, now)),
        age_cell(job, now),
        names,
        images,
        selector(job, &["spec", "selector"]),
    ]
}

fn job_status(job: &Object) -> &'static str {
    let has = |kind: &str| {
        edit::structs(job, &["status", "conditions"])
            .find(|condition| edit::get(condition, &["type"]) == kind)
            .is_some_and(|condition| edit::get(condition, &["status"]) == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if job.deletion_timestamp().is_some() {
        "Terminating"
    } else {
        ["Suspended", "FailureTarget", "SuccessCriteriaMet"]
            .into_iter()
            .find(|kind| has(kind))
            .unwrap_or("Running")
    }
}

fn job_completions(job: &Object) -> String {
    let done = job.int_at(&["status", "succeeded"]).unwrap_or_default();
    let parallel = job.int_at(&["spec", "parallelism"]).unwrap_or_default();
    match job.int_at(&["spec", "completions"]) {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallel > 1 => format!("{done}/1 of {parallel}"),
        None => format!("{done}/1"),
    }
}

fn job_duration(job: &Object, now: i64) -> String {
    let time = |field: &str| job.at(&["status", field]).and_then(Value::as_time).map(|time| time.as_second());
    match (time("startTime"), time("completionTime")) {
        (Some(start), end) => duration(end.unwrap_or(now) - start),
        (None, _) => String::new(),
    }
}

const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule"),
    text("Timezone"),
    column("Suspend", "boolean"),
    column("Active", "integer"),
    text("Last Schedule"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn cron_job(job: &Object, now: i64) -> Vec<Cell> {
    let [names, images] = containers(job, &["spec", "jobTemplate", "spec", "template", "spec", "containers"]);
    let last = job.at(&["status", "lastScheduleTime"]).and_then(Value::as_time);
    let suspended = match job.bool_at(&["spec", "suspend"]) {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    vec![
        name(job),
        text_or(job, &["spec", "schedule"], ""),
        text_or(job, &["spec", "timeZone"], "<none>"),
        Cell::Text(suspended.to_owned()),
        super::count(job, &["status", "active"]),
        Cell::Text(last.map_or("<none>".to_owned(), |last| duration(now - last.as_second()))),
        age_cell(job, now),
        names,
        images,
        selector(job, &["spec", "jobTemplate", "spec", "selector"]),
    ]
}

const REPLICATION_CONTROLLER: &[Column] = &[
    NAME,
    column("Desired", "integer"),
    column("Current", "integer"),
    column("Ready", "integer"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn replication_controller(controller: &Object, now: i64) -> Vec<Cell> {
    let [names, images] = containers(controller, TEMPLATE);
    vec![
        name(controller),
        int(controller, &["spec", "replicas"]),
        int(controller, &["status", "replicas"]),
        int(controller, &["status", "readyReplicas"]),
        age_cell(controller, now),
        names,
        images,
        labels(controller, &["spec", "selector"]),
    ]
}

const POD_TEMPLATE: &[Column] = &[NAME, text("Containers"), text("Images"), text("Pod Labels")];

fn pod_template(template: &Object, _: i64) -> Vec<Cell> {
    let [names, images] = containers(template, &["template", "spec", "containers"]);
    vec![name(template), names, images, labels(template, &["template", "metadata", "labels"])]
}
