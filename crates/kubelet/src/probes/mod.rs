//! Asks containers how they are: startup, readiness and liveness probes. One prober per container with probes.
//!
//! Knows nothing of what follows from an answer: it notes it in the worker's memory and wakes the worker.

mod blind;
pub mod check;
pub mod counter;
mod grpc;
pub mod hooks;
mod http;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Probe};

use crate::Shared;
use crate::counts::Probed;
use crate::pods::Handle;
use crate::pods::memory::Health;
use crate::pods::observed::Instance;
use crate::pods::spec::{PodExt, seconds};
use check::{Answer, Target};
use counter::{Counter, Verdict};

/// How often it is tried to get an answer; upstream's `maxProbeRetries`.
const TRIES: usize = 3;

/// Probes one container until it is aborted.
pub struct Prober {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    container: Container,
    id: String,
    started_at: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl Kind {
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Startup => ("Startup", "startup"),
            Self::Readiness => ("Readiness", "readiness"),
            Self::Liveness => ("Liveness", "liveness"),
        }
    }
}

impl Prober {
    /// A prober of a running container.
    pub fn new(shared: Arc<Shared>, handle: Arc<Handle>, container: Container, instance: &Instance) -> Self {
        let started_at = Timestamp::from_nanosecond(i128::from(instance.started_at))
            .unwrap_or_else(|_| shared.config.clock.now());
        Self { shared, handle, container, id: instance.id.clone(), started_at }
    }

    /// Probes.
    pub async fn run(self) {
        if let Some(probe) = self.container.startup_probe.as_ref().filter(|_| !self.has_started())
            && !self.startup(probe).await
        {
            return;
        }
        let readiness = async {
            if let Some(probe) = &self.container.readiness_probe {
                self.series(Kind::Readiness, probe).await;
            }
        };
        let liveness = async {
            if let Some(probe) = &self.container.liveness_probe {
                self.series(Kind::Liveness, probe).await;
            }
        };
        tokio::join!(readiness, liveness);
    }

    /// Whether that is known from before.
    fn has_started(&self) -> bool {
        let memory = self.handle.memory.lock();
        memory.health.get(&self.container.name).is_some_and(|health| health.id == self.id && health.started)
    }

    /// Whether the container has started.
    async fn startup(&self, probe: &Probe) -> bool {
        self.series(Kind::Startup, probe).await == Verdict::Healthy
    }

    /// Probes again and again. A startup probe ends with its verdict, a liveness probe when it failed.
    async fn series(&self, kind: Kind, probe: &Probe) -> Verdict {
        self.initial_delay(probe).await;
        let period = Duration::from_secs(seconds(probe.period_seconds, 10));
        let mut counter =
            Counter::new(seconds(probe.success_threshold, 1), seconds(probe.failure_threshold, 3));
        let mut next = tokio::time::Instant::now();
        loop {
            let answer = self.once(kind, probe).await;
            if let Some(verdict) = answer.and_then(|well| counter.count(well)) {
                self.note(kind, verdict);
                let ends = match kind {
                    Kind::Startup => true,
                    Kind::Liveness => verdict == Verdict::Unhealthy,
                    Kind::Readiness => false,
                };
                if ends {
                    return verdict;
                }
            }
            next = (next + period).max(tokio::time::Instant::now());
            tokio::time::sleep_until(next).await;
        }
    }

    async fn initial_delay(&self, probe: &Probe) {
        let delay = Duration::from_secs(seconds(probe.initial_delay_seconds, 0));
        let elapsed = self.shared.config.clock.now().duration_since(self.started_at);
        let left = delay.saturating_sub(Duration::try_from(elapsed).unwrap_or(Duration::ZERO));
        if !left.is_zero() {
            tokio::time::sleep(left).await;
        }
    }

    /// Asks until there is an answer, a few times at the most. Whether it does well; absent when nobody knows.
    async fn once(&self, kind: Kind, probe: &Probe) -> Option<bool> {
        let limit = Duration::from_secs(seconds(probe.timeout_seconds, 1));
        let pod = self.handle.pod();
        let ips = crate::pods::start_ips(&self.shared, &self.handle, &pod);
        let ip = ips.first().map(String::as_str).unwrap_or_default();
        let gates = self.shared.config.configuration.fields.gates;
        let target = Target { id: &self.id, ip, container: &self.container, gates };
        let clock = &self.shared.config.clock;
        let began = clock.monotonic();
        let mut answer = check::probe(&self.shared.runtime, probe, &target, limit).await;
        for _ in 1..TRIES {
            if !matches!(answer, Answer::Error { .. }) {
                break;
            }
            answer = check::probe(&self.shared.runtime, probe, &target, limit).await;
        }
        let (title, word) = kind.words();
        let tell = |reason: &str, message: String| {
            self.shared.recorder.warning(pod.reference(Some(&self.container.name)), reason, message);
        };
        let well = match &answer {
            Answer::Error { state, why } => {
                let message = format!("{title} probe errored and resulted in {state} state: {why}");
                tell("Unhealthy", message);
                tracing::debug!(pod = %pod.described(), container = %self.container.name, word, why, "a probe errored");
                return None;
            }
            Answer::Success => true,
            Answer::Warning(output) => {
                tell("ProbeWarning", format!("{title} probe warning: {output}"));
                true
            }
            Answer::Failure(output) => {
                tell("Unhealthy", format!("{title} probe failed: {output}"));
                false
            }
        };
        let probed = Probed {
            kind: title,
            result: if well { "successful" } else { "failed" },
            container: self.container.name.clone(),
            pod: pod.name().to_owned(),
            namespace: pod.namespace().to_owned(),
            uid: self.handle.uid.clone(),
        };
        self.shared.counts.probed(probed, clock.monotonic().saturating_sub(began));
        Some(well)
    }

    fn note(&self, kind: Kind, verdict: Verdict) {
        let healthy = verdict == Verdict::Healthy;
        {
            let mut memory = self.handle.memory.lock();
            let fresh = || Health { id: self.id.clone(), ..Health::default() };
            let health = memory.health.entry(self.container.name.clone()).or_insert_with(fresh);
            if health.id != self.id {
                return;
            }
            match kind {
                Kind::Readiness => health.ready = healthy,
                Kind::Startup if healthy => health.started = true,
                Kind::Startup | Kind::Liveness if !healthy => health.unhealthy = Some(kind.words().1),
                _ => {}
            }
        }
        self.handle.wake();
    }
}
