//! What a worker remembers between two looks at its pod. It may all be lost: a new kubelet begins without it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodCondition, PodStatus};

use super::fetched::Fetched;
use super::images::{UNAVAILABLE, UNVALIDATED};
use super::observed::{Observed, State};
use super::resize::Resize;

/// The first pause between two attempts, and the longest.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(10);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_secs(300);

/// One thing at a time is done of each of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    Volumes,
    Sandbox,
    /// Of a container's name.
    Image(String),
    /// Of a container's name.
    Start(String),
    /// Of a container's id and the grace period.
    Kill(String, i64),
    /// Of a container's id.
    PreStop(String),
    StopSandbox(String),
    RemoveSandbox(String),
    RemoveContainer(String),
    Resize,
    Retire,
    Cleanup,
    Delete,
    Status,
    Mirror,
}

impl Job {
    /// Whether the runtime has something else to tell of the pod afterwards.
    pub fn changes_containers(&self) -> bool {
        !matches!(
            self,
            Self::Volumes | Self::Image(_) | Self::Status | Self::Mirror | Self::Delete | Self::PreStop(_)
        )
    }
}

/// A job that went wrong, and when it is tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Such as `ErrImagePull`.
    pub reason: String,
    pub message: String,
    pub at: Timestamp,
    pub retry_at: Timestamp,
    pub count: u32,
}

impl Failure {
    /// Whether an image could not be pulled, which is shown as a back-off after a while.
    pub fn is_of_pull(&self) -> bool {
        matches!(self.reason.as_str(), "ErrImagePull" | UNAVAILABLE | UNVALIDATED)
    }
}

/// What a job came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The reason and message of a failure.
    pub failure: Option<(String, String)>,
}

/// How long a container that exits has to wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CrashPause {
    pub pause: SignedDuration,
    pub updated: Timestamp,
}

impl CrashPause {
    /// The pause after one more start at `now`, with the first one and the longest.
    pub fn next(before: Option<Self>, now: Timestamp, (first, longest): (Duration, Duration)) -> Self {
        let [first, longest] =
            [first, longest].map(|pause| SignedDuration::try_from(pause).unwrap_or(LONGEST_PAUSE));
        let pause = match before {
            // Whoever ran for long, however short the longest pause is, begins anew.
            Some(last) if now.duration_since(last.updated) <= LONGEST_PAUSE * 2 => last.pause * 2,
            _ => first,
        };
        let pause = pause.min(longest);
        Self { pause, updated: now }
    }
}

/// What probes say of one container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Health {
    /// The container's id.
    pub id: String,
    pub started: bool,
    pub ready: bool,
    /// Which probe says that it has to be killed: `liveness` or `startup`.
    pub unhealthy: Option<&'static str>,
}

impl Health {
    /// Of a container that runs already: what the pod's status says of it, if that is of this very container. As
    /// upstream, readiness counts only where the whole pod is ready.
    pub fn inherited(container: &Container, id: &str, status: Option<&PodStatus>) -> Self {
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
        let lists = status.map(|status| [&status.container_statuses, &status.init_container_statuses]);
        let told = lists.into_iter().flatten().flatten().flatten().find(|told| {
            let named = told.container_id.as_deref().and_then(|told| told.split_once("://"));
            told.name == container.name && named.is_some_and(|(_, named)| named == id)
        });
        Self {
            id: id.to_owned(),
            started: container.startup_probe.is_none() || told.and_then(|told| told.started) == Some(true),
            ready: ready && told.is_some_and(|told| told.ready),
            unhealthy: None,
        }
    }
}

/// Why the node gives a pod up: it is evicted, refused, or the node shuts down.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ending {
    /// Of the status, such as `Evicted`.
    pub reason: String,
    pub message: String,
    /// Seconds that containers have to stop; the pod's own grace period if it says nothing or is shorter.
    pub grace_seconds: Option<i64>,
    /// A condition that says more, such as `DisruptionTarget`.
    pub condition: Option<PodCondition>,
    /// Nothing of the pod ever was on this node.
    pub refused: bool,
}

/// That all of a pod is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopping {
    /// Seconds that its containers have for that.
    pub grace: i64,
    pub since: Timestamp,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    pub running: BTreeSet<Job>,
    /// Sandboxes and containers that jobs have begun and nobody has seen yet, by id.
    pub made: BTreeSet<String>,
    /// What resources it has, and whether others are wanted.
    pub resize: Resize,
    /// Set once the node has given the pod up.
    pub ending: Option<Ending>,
    pub failures: BTreeMap<Job, Failure>,
    /// Set once volumes are mounted: when they are to be looked at again.
    pub mounted: Option<Option<Timestamp>>,
    /// The images of containers that are about to start, by container.
    pub images: BTreeMap<String, Fetched>,
    /// The images that could not be fetched, by container.
    pub unfetched: BTreeMap<String, String>,
    /// By the [key](super::spec::crash_key) of a container.
    pub pauses: BTreeMap<String, CrashPause>,
    /// By container.
    pub health: BTreeMap<String, Health>,
    /// Failures that were told already, by container: when they happened.
    pub told: BTreeMap<String, Timestamp>,
    /// When containers ended, by id.
    pub exits: BTreeMap<String, Timestamp>,
    /// The containers that are being killed, by id: with which grace period.
    pub kills: BTreeMap<String, i64>,
    /// Containers, by id, that were ended because the pod says something else of them now.
    pub replaced: BTreeSet<String>,
    /// The containers that were told to stop before it is their turn, by id: their hooks have run, or do.
    pub prepared: BTreeSet<String>,
    /// It was told that the pod was active for too long.
    pub told_late: bool,
    /// Set while all of the pod is being stopped.
    pub stopping: Option<Stopping>,
    /// When the first image was asked for, and the last one was there, by the monotonic clock.
    pub pulled: Option<(Duration, Duration)>,
    /// Since when the API server does not know the status, likewise.
    pub changed_at: Option<Duration>,
    /// The status that was made last.
    pub status: Option<PodStatus>,
    /// The status that the API server has.
    pub acknowledged: Option<PodStatus>,
    /// Set when the last status of an ending pod was made: its containers may go now.
    pub frozen: bool,
    /// It is over, and its volumes, cgroups and claims are gone.
    pub retired: bool,
    /// The node needs its disk: once it is over, containers and logs go, too.
    pub strip: bool,
    /// They are gone.
    pub stripped: bool,
    pub cleaned: bool,
    /// The object is deleted.
    pub deleted: bool,
    /// How many jobs have ended: what was seen of the runtime before the last one ended is out of date.
    pub ended: u64,
}

impl Memory {
    /// Whether a job may start now. If a failure forbids it, until when.
    pub fn may(&self, job: &Job, now: Timestamp) -> Result<(), Option<Timestamp>> {
        if self.running.contains(job) {
            return Err(None);
        }
        match self.failures.get(job) {
            Some(failure) if now < failure.retry_at => Err(Some(failure.retry_at)),
            _ => Ok(()),
        }
    }

    /// Notes the end of a job.
    pub fn finish(&mut self, job: &Job, outcome: Outcome, now: Timestamp) {
        self.running.remove(job);
        self.ended += 1;
        let Some((reason, message)) = outcome.failure else {
            self.failures.remove(job);
            return;
        };
        let count = self.failures.get(job).map_or(0, |failure| failure.count).saturating_add(1);
        let pause = pause(job, count);
        let retry_at = now.checked_add(pause).unwrap_or(now);
        self.failures.insert(job.clone(), Failure { reason, message, at: now, retry_at, count });
    }

    /// What failed after `since` may be tried again at once: whoever it was asked of is back.
    pub fn retry_since(&mut self, since: Timestamp) {
        for failure in self.failures.values_mut().filter(|failure| failure.at >= since) {
            failure.retry_at = failure.at;
        }
    }

    /// The wall clock was set by so much: what was to happen in ten seconds still happens in ten seconds.
    pub fn shift(&mut self, by: SignedDuration) {
        let moved = |at: &mut Timestamp| *at = at.saturating_add(by).unwrap_or(*at);
        for failure in self.failures.values_mut() {
            moved(&mut failure.at);
            moved(&mut failure.retry_at);
        }
        self.pauses.values_mut().for_each(|pause| moved(&mut pause.updated));
        self.told.values_mut().chain(self.exits.values_mut()).for_each(moved);
        self.mounted.iter_mut().flatten().for_each(moved);
        self.stopping.iter_mut().for_each(|stopping| moved(&mut stopping.since));
    }

    /// Notes when containers ended: whatever the runtime says of that, not after `now`.
    pub fn note_exits(&mut self, observed: &Observed, now: Timestamp) {
        self.exits.retain(|id, _| observed.containers.iter().any(|c| c.id == *id));
        for ended in observed.containers.iter().filter(|c| c.state == State::Exited) {
            let at = Timestamp::from_nanosecond(i128::from(ended.finished_at)).unwrap_or(now);
            self.exits.entry(ended.id.clone()).or_insert(at.min(now));
        }
    }

    /// Notes whether all of the pod is being stopped at `now`, and with which grace period. Another one begins anew.
    pub fn note_stopping(&mut self, grace: Option<i64>, now: Timestamp) {
        let same = self.stopping.filter(|stopping| grace == Some(stopping.grace));
        self.stopping = same.or(grace.map(|grace| Stopping { grace, since: now }));
    }

    /// Whether anything is under way that ends with a sandbox or container that is not observed yet.
    pub fn is_creating(&self) -> bool {
        self.running.iter().any(|job| matches!(job, Job::Sandbox | Job::Start(_)))
    }
}

/// How long a job that failed for the `count`th time waits.
fn pause(job: &Job, count: u32) -> SignedDuration {
    let (first, longest) = match job {
        Job::Image(_) => (FIRST_PAUSE, LONGEST_PAUSE),
        Job::Start(_) => (FIRST_PAUSE, FIRST_PAUSE),
        Job::Volumes => (SignedDuration::from_millis(500), SignedDuration::from_secs(60)),
        _ => (SignedDuration::from_millis(250), SignedDuration::from_secs(10)),
    };
    let factor = 1_i32.checked_shl(count.saturating_sub(1).min(20)).unwrap_or(1);
    (first * factor).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_and_begin_anew_after_ten() {
        let pauses = (Duration::from_secs(10), Duration::from_secs(300));
        let mut now = Timestamp::UNIX_EPOCH;
        let mut pause = None;
        let mut seen = Vec::new();
        for _ in 0..7 {
            let next = CrashPause::next(pause, now, pauses);
            seen.push(next.pause.as_secs());
            now += next.pause;
            pause = Some(next);
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
        now += SignedDuration::from_secs(601);
        assert_eq!(CrashPause::next(pause, now, pauses).pause.as_secs(), 10);
    }

    #[test]
    fn a_failed_job_waits_longer_each_time_and_success_forgets_it() {
        let now = Timestamp::UNIX_EPOCH;
        let (job, mut memory) = (Job::Image("a".into()), Memory::default());
        let fail = || Outcome { failure: Some(("ErrImagePull".into(), "no".into())) };
        memory.finish(&job, fail(), now);
        memory.finish(&job, fail(), now);
        assert_eq!(memory.may(&job, now), Err(Some(now + SignedDuration::from_secs(20))));
        memory.finish(&job, Outcome::default(), now);
        assert_eq!(memory.may(&job, now), Ok(()));
    }

    #[test]
    fn pauses_last_as_long_when_the_clock_is_set() {
        let (day, second) = (SignedDuration::from_hours(24), SignedDuration::from_secs(1));
        for by in [day, -day] {
            let now = Timestamp::UNIX_EPOCH + day * 30;
            let (job, mut memory) = (Job::Sandbox, Memory::default());
            memory.finish(&job, Outcome { failure: Some(("a".into(), "b".into())) }, now);
            memory.mounted = Some(Some(now + second));
            memory.shift(by);
            let now = now + by;
            assert_eq!(memory.may(&job, now), Err(Some(now + SignedDuration::from_millis(250))));
            assert_eq!(memory.may(&job, now + second), Ok(()));
            assert_eq!(memory.mounted, Some(Some(now + second)));
        }
    }

    #[test]
    fn what_failed_for_want_of_a_runtime_is_tried_when_it_is_back() {
        let now = Timestamp::UNIX_EPOCH;
        let (before, after, mut memory) = (Job::Start("a".into()), Job::Start("b".into()), Memory::default());
        let fail = || Outcome { failure: Some(("a".into(), "b".into())) };
        memory.finish(&before, fail(), now);
        memory.finish(&after, fail(), now + SignedDuration::from_secs(2));
        memory.retry_since(now + SignedDuration::from_secs(1));
        let now = now + SignedDuration::from_secs(3);
        assert!(memory.may(&before, now).is_err());
        assert_eq!(memory.may(&after, now), Ok(()));
    }

    #[test]
    fn what_probes_said_is_known_to_the_next_kubelet() {
        let pod = |ready: &str| -> PodStatus {
            serde_json::from_value(serde_json::json!({
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "c", "containerID": "knarr://1", "ready": true, "started": true,
                                       "image": "", "imageID": "", "restartCount": 0}],
            }))
            .unwrap()
        };
        let container: Container = serde_json::from_value(serde_json::json!({
            "name": "c", "startupProbe": {}, "readinessProbe": {},
        }))
        .unwrap();
        let known = |id: &str, status: Option<&PodStatus>| {
            let health = Health::inherited(&container, id, status);
            (health.started, health.ready)
        };
        assert_eq!(known("1", Some(&pod("True"))), (true, true));
        assert_eq!(known("1", Some(&pod("False"))), (true, false), "the whole pod has to be ready");
        assert_eq!(known("2", Some(&pod("True"))), (false, false), "another container");
        assert_eq!(known("1", None), (false, false));
    }
}
