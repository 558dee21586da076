//! Waits for the machine's shutdown, and ends the pods before it.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::Backoff;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodCondition;
use serde::{Deserialize, Serialize};

use super::logind::{Inhibitor, Logind, LogindError};
use super::plan::{self, Period};
use crate::Shared;
use crate::node::reference;
use crate::pods::spec::PodExt;
use crate::pods::{Ending, Handle, Pods};

const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// Whether pods have ended is looked at so often: it is a matter of seconds, and of the last ones.
const LOOK: Duration = Duration::from_millis(50);
/// Before a bus that is gone is tried again, and the longest pause where there is none at all.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Holds the shutdown back and ends pods in time, until the group stops. Without periods there is nothing to do.
pub async fn run(shared: Arc<Shared>, pods: Pods) {
    let periods = plan::periods(&shared.config.configuration.fields);
    if periods.is_empty() {
        return;
    }
    shared.shutdown.remember(read(&shared));
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    let mut told = String::new();
    loop {
        let Err(error) = watch(&shared, &pods, &periods, &mut backoff).await;
        let why = error.to_string();
        if why == told {
            tracing::debug!(why, "the node's shutdown is still not watched");
        } else {
            tracing::error!(why, "pods are not ended gracefully when this machine shuts down");
            told = why;
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
}

/// Watches as long as there is a bus. This holds also while pods end: a shutdown that is called off is seen afterwards.
async fn watch(
    shared: &Shared,
    pods: &Pods,
    periods: &[Period],
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, LogindError> {
    let paths = &shared.config.shutdown;
    let mut logind = Logind::connect(&paths.bus).await?;
    // A shutdown may have begun, or been called off, while nobody listened.
    let begun = logind.is_preparing().await?;
    if begun != shared.shutdown.is_begun() {
        shared.shutdown.set(begun);
    }
    logind.allow(plan::total(periods), &paths.logind_drop_in).await?;
    let mut held: Option<Inhibitor> = Some(logind.inhibit().await?);
    tracing::info!(?periods, "this machine's shutdown is held back for its pods");
    backoff.reset();
    loop {
        let begins = logind.next().await?;
        let word = if begins { "event" } else { "cancellation" };
        let message = format!("Shutdown manager detected shutdown {word}");
        tracing::info!("{message}");
        shared.recorder.normal(reference(shared), "NodeShutdown", message);
        shared.shutdown.set(begins);
        if begins {
            end_all(shared, pods, periods).await;
            // Dropping it lets the shutdown go on.
            held = None;
        } else if held.is_none() {
            held = Some(logind.inhibit().await?);
        }
    }
}

async fn end_all(shared: &Shared, pods: &Pods, periods: &[Period]) {
    let began = shared.config.clock.now();
    note(shared, Last { start_time: Some(began), end_time: None });
    let alive = pods.list().into_iter().filter(|handle| !handle.pod().is_terminal());
    let by_priority = alive.map(|handle| {
        let priority = handle.pod().spec().and_then(|spec| spec.priority).unwrap_or(0);
        (priority, handle)
    });
    for (period, group) in plan::groups(periods, by_priority.collect()) {
        for handle in &group {
            tracing::info!(pod = %handle.pod().described(), seconds = period.seconds, "ending before the shutdown");
            handle.fail(ending(period.seconds));
        }
        let longest = Duration::from_secs(u64::try_from(period.seconds).unwrap_or(0));
        if tokio::time::timeout(longest, all_over(&group)).await.is_err() {
            let left = group.iter().filter(|handle| !handle.is_over()).count();
            tracing::warn!(left, priority = period.priority, "pods did not end in the time they had");
        }
    }
    note(shared, Last { start_time: Some(began), end_time: Some(shared.config.clock.now()) });
}

fn ending(seconds: i64) -> Ending {
    Ending {
        reason: REASON.to_owned(),
        message: MESSAGE.to_owned(),
        grace_seconds: Some(seconds),
        condition: Some(PodCondition {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
            reason: Some("TerminationByKubelet".to_owned()),
            message: Some(MESSAGE.to_owned()),
            ..PodCondition::default()
        }),
        refused: false,
    }
}

async fn all_over(group: &[Arc<Handle>]) {
    while !group.iter().all(|handle| handle.is_over()) {
        tokio::time::sleep(LOOK).await;
    }
}

/// When the last graceful shutdown was, for the kubelet that runs after it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Last {
    pub start_time: Option<Timestamp>,
    pub end_time: Option<Timestamp>,
}

fn file(shared: &Shared) -> PathBuf {
    shared.config.root_dir.join("graceful_node_shutdown_state")
}

fn read(shared: &Shared) -> Last {
    let path = file(shared);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Last::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the last shutdown is not known");
            return Last::default();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "the last shutdown is not known");
        Last::default()
    })
}

fn note(shared: &Shared, last: Last) {
    shared.shutdown.remember(last);
    let path = file(shared);
    let written = serde_json::to_string(&last).map_err(std::io::Error::from);
    if let Err(error) = written.and_then(|text| auth::pki::write_private(&path, &text)) {
        tracing::warn!(path = %path.display(), %error, "when the node was shut down is not kept");
    }
}
