//! One pod's worker: look, decide, tell, do, wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kinds::gates::Gate;
use tokio::task::AbortHandle;

use super::clock_set::ClockSet;
use super::memory::{Health, Job, Outcome};
use super::observed::{Cache, Observed, State};
use super::plan::{Action, Plan, View, plan};
use super::resize;
use super::spec::PodExt;
use super::status::{NodeFacts, generate, news};
use super::{Handle, Pods, jobs};
use crate::Shared;
use crate::counts::table;
use crate::{probes, statics};

/// Asking the runtime again after it did not answer.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Works until nothing of the pod is left.
pub async fn run(pods: Pods, handle: Arc<Handle>) {
    let shared = pods.shared.clone();
    let starts = Some(handle.seen);
    let asks_for_volumes = shared.config.configuration.fields.gates.has(Gate::ImageVolumeWithDigest);
    let cache = Cache::new(asks_for_volumes);
    let probers = HashMap::new();
    let set = ClockSet::now(&shared.config.clock);
    let mut worker = Worker { shared, pods, handle, cache, last: None, probers, starts, set };
    worker.note_begin();
    let mut operation = "create";
    loop {
        // What waits in memory waits no longer, and no shorter, when somebody sets the clock.
        if let Some(moved) = worker.set.moved(&worker.shared.config.clock) {
            worker.handle.memory.lock().shift(moved);
        }
        let as_of = worker.handle.memory.lock().ended;
        // In boxes: what these need while they run would be kept for as long as the pod is there.
        match Box::pin(worker.observe()).await {
            Ok(observed) => {
                let begun = worker.shared.config.clock.monotonic();
                Box::pin(worker.admit(&observed)).await;
                let next = worker.round(observed, as_of);
                let took = worker.shared.config.clock.monotonic().saturating_sub(begun);
                worker.shared.counts.took(&table::POD_WORKER, &[operation], took);
                operation = "sync";
                worker.note_start();
                match next {
                    Next::Again => {}
                    Next::Wait(until) => worker.wait(until).await,
                    Next::Done => break,
                }
            }
            Err(status) => {
                tracing::warn!(uid = %worker.handle.uid, %status, "the runtime does not tell of a pod");
                // Whoever notices that it is back wakes all workers.
                tokio::select! {
                    () = tokio::time::sleep(ASK_AGAIN) => {}
                    () = worker.handle.wake.notified() => {}
                }
            }
        }
    }
    worker.probers.values().for_each(AbortHandle::abort);
    worker.note_waited(&mut worker.handle.memory.lock(), "terminated");
}

/// What a worker does after it decided.
enum Next {
    /// Looks again: what it saw was out of date.
    Again,
    /// Waits until it is woken, or until then.
    Wait(Option<Timestamp>),
    /// Ends.
    Done,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    /// Its own pod and the others.
    pub(super) pods: Pods,
    pub(super) handle: Arc<Handle>,
    pub(super) cache: Cache,
    /// What the runtime told last.
    pub(super) last: Option<Arc<Observed>>,
    /// By container id.
    probers: HashMap<String, AbortHandle>,
    /// When the pod was seen first, until it runs.
    pub(super) starts: Option<Duration>,
    /// How the wall clock was set when it was looked at last.
    set: ClockSet,
}

impl Worker {
    pub(super) fn now(&self) -> Timestamp {
        self.shared.config.clock.now()
    }

    async fn wait(&self, wake: Option<Timestamp>) {
        let woken = self.handle.wake.notified();
        let Some(at) = wake else { return woken.await };
        let pause = Duration::try_from(at.duration_since(self.now())).unwrap_or(Duration::ZERO);
        tokio::select! {
            () = woken => {}
            // A millisecond more, so that the time has surely come.
            () = tokio::time::sleep(pause + Duration::from_millis(1)) => {}
        }
    }

    /// Decides once, upon what was seen when so many jobs had ended.
    fn round(&mut self, observed: Arc<Observed>, as_of: u64) -> Next {
        let pod = self.handle.pod();
        let before = std::mem::replace(&mut *self.handle.observed.lock(), observed.clone());
        self.note_ends(&pod, &before, &observed);
        self.forget_gone(&pod, &observed);
        let pod = self.allocate(&pod, &observed);
        self.inherit(&pod, &observed);
        let decided = self.decide(&pod, &observed, as_of);
        if decided.outdated {
            return Next::Again;
        }
        if decided.over {
            self.shared.ledger.release(&self.handle.uid);
            self.shared.exclusive.release(&self.handle.uid);
            self.shared.claims.release(&self.handle.uid);
        }
        if decided.done {
            return Next::Done;
        }
        self.probe(&pod, &observed, decided.over);
        self.mirror(&pod);
        let write = {
            let memory = self.handle.memory.lock();
            memory.status != memory.acknowledged
                && !self.handle.is_removed()
                && !memory.deleted
                && (!self.handle.is_static || self.handle.mirror().is_some())
        };
        let mut wake = decided.wake;
        if write {
            // Bound first: a lock in the head of a match is held through its arms, and these take it again.
            let allowed = self.may_tell(&pod);
            match allowed {
                Ok(()) => self.spawn(Job::Status, None, &pod),
                Err(again) => wake = wake.into_iter().chain(again).min(),
            }
        }
        for action in decided.actions {
            match action.job() {
                Some(job) => self.spawn(job, Some(action), &pod),
                None => jobs::tell(&self.shared, &self.handle, &pod, &action),
            }
        }
        Next::Wait(wake)
    }

    /// Whether the status is written now; else, when it is.
    fn may_tell(&self, pod: &Pod) -> Result<(), Option<Timestamp>> {
        let observed = self.handle.observed.lock().clone();
        let memory = self.handle.memory.lock();
        memory.may(&Job::Status, self.now())?;
        let (Some(status), Some(since)) = (&memory.status, memory.changed_at) else { return Ok(()) };
        if !news::may_wait(pod, &observed, memory.acknowledged.as_ref(), status) {
            return Ok(());
        }
        let waited = self.shared.config.clock.monotonic().saturating_sub(since);
        match news::PATIENCE.checked_sub(waited).filter(|left| !left.is_zero()) {
            Some(left) => Err(Some(self.now().saturating_add(left).unwrap_or(Timestamp::MAX))),
            None => Ok(()),
        }
    }

    fn decide(&self, pod: &Arc<Pod>, observed: &Observed, as_of: u64) -> Plan {
        let removed = self.handle.is_removed();
        // Held all along: no job ends between the look at what has ended and the decision.
        let mut memory = self.handle.memory.lock();
        let decided = plan(&View { pod, removed, observed, as_of, memory: &memory, now: self.now() });
        if decided.outdated {
            return decided;
        }
        memory.note_stopping(decided.stopping, self.now());
        // Whoever else gives a pod up tells of it.
        if let (Some((reason, message)), None, false) = (&decided.failed, &memory.ending, memory.told_late) {
            memory.told_late = true;
            self.shared.recorder.normal(pod.reference(None), reason, message.clone());
        }
        if decided.resized {
            let generation = memory.resize.in_progress.take().and_then(|progress| progress.generation);
            let message = format!("Pod resize completed: {}", resize::summary(pod, generation, ""));
            self.shared.recorder.normal(pod.reference(None), "ResizeCompleted", message);
        }
        let view = View { pod, removed, observed, as_of, memory: &memory, now: self.now() };
        let config = &self.shared.config;
        let host_ips = config.node_ips();
        let mut exclusive = self.shared.exclusive.statuses(pod);
        for (name, claimed) in
            self.shared.claims.statuses(pod).into_iter().filter(|(_, list)| !list.is_empty())
        {
            exclusive.entry(name).or_default().extend(claimed);
        }
        let facts = NodeFacts {
            host_ips: &host_ips,
            runtime_name: &self.shared.runtime.name,
            recursive_read_only: self.shared.runtime.recursive_read_only,
            exclusive: &exclusive,
        };
        let status = generate(&view, &decided, &facts);
        if memory.acknowledged.is_none() {
            memory.acknowledged = pod.status.clone();
        }
        if !memory.frozen {
            if memory.status.as_ref() != Some(&status) {
                memory.changed_at.get_or_insert(self.shared.config.clock.monotonic());
                self.shared.watched.changed(pod, &status, memory.status.is_none());
                memory.status = Some(status);
            }
            memory.frozen = decided.over && pod.is_deleting();
            if memory.frozen && memory.acknowledged == memory.status {
                // Nothing will be written that would wake the worker again.
                self.handle.wake();
            }
        }
        decided
    }

    fn forget_gone(&mut self, pod: &Pod, observed: &Observed) {
        let now = self.now();
        let mut memory = self.handle.memory.lock();
        memory.note_exits(observed, now);
        memory.note_images(pod);
        let runs = |id: &String| observed.containers.iter().any(|c| c.id == *id && c.state == State::Running);
        let is_seen = |id: &String| {
            let mut sandboxes = observed.sandboxes.iter();
            sandboxes.any(|s| s.id == *id) || observed.containers.iter().any(|c| c.id == *id)
        };
        memory.made.retain(|id| !is_seen(id));
        memory.kills.retain(|id, _| runs(id));
        memory.replaced.retain(|id| observed.containers.iter().any(|c| c.id == *id));
        memory.prepared.retain(runs);
        self.probers.retain(|id, prober| {
            let runs = observed.containers.iter().any(|c| c.id == *id && c.state == State::Running);
            if !runs {
                prober.abort();
            }
            runs
        });
    }

    /// What probes said before the kubelet was started anew holds until they say something else: nobody loses traffic
    /// because of it.
    fn inherit(&self, pod: &Pod, observed: &Observed) {
        let mut memory = self.handle.memory.lock();
        for instance in observed.containers.iter().filter(|c| c.state == State::Running) {
            let is_known = memory.health.get(&instance.name).is_some_and(|health| health.id == instance.id);
            let Some(container) = pod.container(&instance.name).filter(|_| !is_known) else { continue };
            let mirror = self.handle.mirror();
            let status = mirror.as_deref().unwrap_or(pod).status.as_ref();
            let health = Health::inherited(&container, &instance.id, status);
            memory.health.insert(instance.name.clone(), health);
        }
    }

    /// Every running container with probes has one prober.
    fn probe(&mut self, pod: &Arc<Pod>, observed: &Observed, over: bool) {
        if over {
            return;
        }
        for instance in observed.containers.iter().filter(|c| c.state == State::Running) {
            let Some(container) = pod.container(&instance.name) else { continue };
            let any = [&container.startup_probe, &container.readiness_probe, &container.liveness_probe];
            if any.iter().all(|probe| probe.is_none()) || self.probers.contains_key(&instance.id) {
                continue;
            }
            let prober = probes::Prober::new(
                self.shared.clone(),
                self.handle.clone(),
                container.into_owned(),
                instance,
            );
            let task = tokio::spawn(prober.run());
            self.probers.insert(instance.id.clone(), task.abort_handle());
        }
    }

    /// Has a static pod shown by the API server.
    fn mirror(&self, pod: &Arc<Pod>) {
        if !self.handle.is_static || self.handle.is_removed() || self.shared.config.alone {
            return;
        }
        let mirror = self.handle.mirror();
        let shown = mirror.is_some_and(|mirror| {
            let of = mirror.metadata.annotations.as_ref().and_then(|map| map.get(statics::MIRROR));
            of.map(String::as_str) == Some(pod.uid()) && !mirror.is_deleting()
        });
        let allowed = self.handle.memory.lock().may(&Job::Mirror, self.now()).is_ok();
        if !shown && allowed {
            self.spawn(Job::Mirror, None, pod);
        }
    }

    fn spawn(&self, job: Job, action: Option<Action>, pod: &Arc<Pod>) {
        {
            let mut memory = self.handle.memory.lock();
            memory.running.insert(job.clone());
            match &action {
                Some(Action::Kill { id, grace, replaces, .. }) => {
                    memory.kills.insert(id.clone(), *grace);
                    memory.replaced.extend(replaces.then(|| id.clone()));
                }
                Some(Action::PreStop { id, .. }) => drop(memory.prepared.insert(id.clone())),
                _ => {}
            }
        }
        let (shared, handle, pod) = (self.shared.clone(), self.handle.clone(), pod.clone());
        self.shared.tasks.spawn(async move {
            let failure = match &action {
                None if job == Job::Mirror => jobs::mirror(&shared, &handle, &pod).await,
                Some(action) => Box::pin(jobs::perform(&shared, &handle, &pod, action)).await,
                None => jobs::write_status(&shared, &handle, &pod).await,
            };
            if let Err((reason, message)) = &failure {
                tracing::debug!(pod = %pod.described(), ?job, %reason, %message, "a job failed");
            }
            let now = shared.config.clock.now();
            // Before it counts as ended: whoever sees that it has is to ask the runtime again.
            if job.changes_containers() {
                handle.stale.store(true, Ordering::Release);
            }
            {
                let mut memory = handle.memory.lock();
                if let (Job::Kill(id, _), true) = (&job, failure.is_err()) {
                    memory.kills.remove(id);
                }
                memory.finish(&job, Outcome { failure: failure.err() }, now);
            }
            handle.wake();
        });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.probers.values().for_each(AbortHandle::abort);
    }
}
