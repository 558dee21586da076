//! Follows the runtime: workers are woken as soon as it tells of their containers, and now and then it is looked
//! whether it forgot to. One that tells nothing is asked for everything each second, as upstream's kubelet does.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use client::Reflector;
use cri::v1 as wire;
use k8s_openapi::api::core::v1::Pod;
use tonic::{Code, Status, Streaming};

use super::memory::{Job, Memory};
use super::observed::{self, Observed, State};
use super::spec::PodExt;
use super::{Pods, orphans};
use crate::counts::table;

/// How often the runtime is asked for everything, with and without events from it.
const RELIST: Duration = Duration::from_secs(10);
const RELIST_WITHOUT_EVENTS: Duration = Duration::from_secs(1);
/// A runtime that has events, and whose stream has ended, is back in a moment.
const AGAIN: Duration = Duration::from_millis(200);
/// A stream that ends sooner than this, and well, is one of a runtime that has nothing to tell.
const MUTE: Duration = Duration::from_secs(1);

/// By pod: the ids of its sandboxes and containers, and how each is.
type Known = BTreeMap<String, Vec<(String, i32)>>;

/// Whether a runtime tells what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tells {
    /// It was not asked since it answered again.
    Unknown,
    Yes,
    /// It does not know how: it is asked again when it was away, for then it may be another one.
    Never,
    /// It said that it would, and ended at once: it is asked again then, by the monotonic clock.
    Mute(Duration),
}

impl Tells {
    /// After it was asked for its events.
    fn asked(self, answer: Result<(), &Status>) -> Self {
        match answer {
            Ok(()) => Self::Yes,
            Err(status) if status.code() == Code::Unimplemented => Self::Never,
            Err(_) => self,
        }
    }

    /// After its stream ended well `now`. CRI-O without `enable_pod_events` says that it will tell, and ends at once: that
    /// is no runtime that was away, after which everything would be tried again.
    fn ended(self, opened: Duration, now: Duration) -> Self {
        if now.saturating_sub(opened) < MUTE { Self::Mute(now + RELIST) } else { self }
    }

    fn may_be_asked(self, now: Duration) -> bool {
        match self {
            Self::Unknown | Self::Yes => true,
            Self::Never => false,
            Self::Mute(until) => now >= until,
        }
    }
}

/// A runtime's events. Many runtimes answer that they will tell only with the first of them.
enum Events {
    Closed,
    Asked(Pin<Box<dyn Future<Output = Result<Streaming<wire::ContainerEventResponse>, Status>> + Send>>),
    Open(Box<Streaming<wire::ContainerEventResponse>>),
}

/// What is heard of them.
enum Told {
    /// The runtime will tell.
    Open,
    Event(Box<wire::ContainerEventResponse>),
}

impl Events {
    /// The next that is heard; nothing once the stream has ended. What was begun goes on if nobody waits for it.
    async fn next(&mut self) -> Result<Option<Told>, Status> {
        match self {
            Self::Closed => Ok(None),
            Self::Asked(answer) => {
                *self = Self::Open(Box::new(answer.await?));
                Ok(Some(Told::Open))
            }
            Self::Open(stream) => Ok(stream.message().await?.map(|event| Told::Event(Box::new(event)))),
        }
    }
}

impl Pods {
    /// Follows for ever, once the API has told which pods there are.
    pub(super) async fn follow_runtime(self, reflector: Reflector<Pod>) {
        if !reflector.synced().await {
            return;
        }
        self.complete.store(true, Ordering::Release);
        let mut known = Known::new();
        let mut last = None;
        self.relist(&mut known, &mut last).await;
        let mut swept = false;
        let (mut events, mut tells) = (Events::Closed, Tells::Unknown);
        let clock = self.shared.config.clock.clone();
        let (mut lost, mut opened) = (None, Duration::ZERO);
        loop {
            if !swept && self.knows_statics() {
                swept = true;
                let is_known = |uid: &str| self.handles.lock().contains_key(uid) || known.contains_key(uid);
                orphans::sweep(&self.shared, is_known).await;
            }
            if matches!(events, Events::Closed) && tells.may_be_asked(clock.monotonic()) {
                events = self.ask_for_events();
            }
            if !self.relist(&mut known, &mut last).await {
                tells = Tells::Unknown;
            }
            let until = tokio::time::Instant::now() + RELIST;
            while !matches!(events, Events::Closed) {
                match tokio::time::timeout_at(until, events.next()).await {
                    Ok(Ok(Some(Told::Event(event)))) => self.told(&event),
                    Ok(Ok(Some(Told::Open))) => {
                        tells = tells.asked(Ok(()));
                        opened = clock.monotonic();
                        if let Some(since) = lost.take() {
                            self.retry_since(since);
                        }
                    }
                    Ok(Ok(None)) => {
                        tells = tells.ended(opened, clock.monotonic());
                        events = Events::Closed;
                        if tells == Tells::Yes {
                            lost.get_or_insert_with(|| clock.now());
                        }
                    }
                    // Some say only now that they do not know how.
                    Ok(Err(status)) => {
                        tells = tells.asked(Err(&status));
                        events = Events::Closed;
                        lost.get_or_insert_with(|| clock.now());
                    }
                    Err(_) => break,
                }
            }
            if matches!(events, Events::Closed) {
                tokio::time::sleep(if tells == Tells::Yes { AGAIN } else { RELIST_WITHOUT_EVENTS }).await;
            }
        }
    }

    fn ask_for_events(&self) -> Events {
        let shared = self.shared.clone();
        Events::Asked(Box::pin(async move {
            let answer = shared.runtime.events().await;
            let row = if answer.is_ok() { &table::EVENTS_CONNECTED } else { &table::EVENTS_REFUSED };
            shared.counts.count(row, &[]);
            answer
        }))
    }

    fn told(&self, event: &wire::ContainerEventResponse) {
        let now = self.shared.config.clock.now().as_nanosecond();
        let late = now.saturating_sub(i128::from(event.created_at));
        let late = Duration::from_nanos(u64::try_from(late).unwrap_or(0));
        self.shared.counts.took(&table::EVENTS_LATENCY, &[], late);
        let sandbox = event.pod_sandbox_status.as_ref();
        let uid = sandbox.and_then(|sandbox| sandbox.metadata.as_ref()).map(|metadata| metadata.uid.as_str());
        let Some(handle) = uid.and_then(|uid| self.handles.lock().get(uid).cloned()) else { return };
        let (pod, observed) = (handle.pod(), handle.observed.lock().clone());
        let is_news = is_news(event, &pod, &observed, &handle.memory.lock());
        if is_news {
            handle.ask_again();
        }
    }

    /// Wakes the workers of pods of which anything changed, and clears away pods that nobody wants. Whether the runtime
    /// answered; `last` is when it did before, by the monotonic clock.
    async fn relist(&self, known: &mut Known, last: &mut Option<Duration>) -> bool {
        let runtime = &self.shared.runtime;
        let begun = self.shared.config.clock.monotonic();
        if let Some(last) = last.replace(begun) {
            self.shared.counts.took(&table::RELIST_INTERVAL, &[], begun.saturating_sub(last));
        }
        let (sandboxes, containers) =
            match tokio::try_join!(runtime.sandboxes(None), runtime.containers(None)) {
                Ok(both) => both,
                Err(status) => {
                    tracing::warn!(%status, "the runtime does not list its containers");
                    return false;
                }
            };
        let took = self.shared.config.clock.monotonic().saturating_sub(begun);
        self.shared.counts.took(&table::RELIST, &[], took);
        let now = self.shared.config.clock.now().as_millisecond() as f64 / 1000.0;
        self.shared.counts.set(&table::RELIST_LAST, &[], now);
        let now = by_pod(sandboxes, containers);
        for (uid, states) in &now {
            let handle = self.handles.lock().get(uid).cloned();
            match handle {
                Some(handle) if known.get(uid) != Some(states) => handle.ask_again(),
                Some(_) => {}
                None if self.knows_statics() => self.clear(uid),
                None => {}
            }
        }
        for uid in known.keys().filter(|uid| !now.contains_key(*uid)) {
            if let Some(handle) = self.handles.lock().get(uid) {
                handle.ask_again();
            }
        }
        *known = now;
        true
    }
}

impl Pods {
    /// Clears away what the runtime has of a pod that nobody knows. It may take as long as its containers take to stop:
    /// what happens to other pods is heard of meanwhile.
    fn clear(&self, uid: &str) {
        if !self.clearing.lock().insert(uid.to_owned()) {
            return;
        }
        self.shared.counts.count(&table::ORPHANED_PODS, &[]);
        let (pods, uid) = (self.clone(), uid.to_owned());
        self.shared.tasks.spawn(async move {
            orphans::clear(&pods.shared, &uid).await;
            pods.clearing.lock().remove(&uid);
        });
    }
}

/// Whether an event is a reason to ask. That something is there, or runs, is none where that is known, or where the job
/// that sees to it is about to end, or has: with its end it is asked anyway.
fn is_news(event: &wire::ContainerEventResponse, pod: &Pod, observed: &Observed, memory: &Memory) -> bool {
    let id = &event.container_id;
    let starts = match event.container_event_type() {
        wire::ContainerEventType::ContainerCreatedEvent => false,
        wire::ContainerEventType::ContainerStartedEvent => true,
        _ => return true,
    };
    if observed.sandboxes.iter().any(|sandbox| sandbox.id == *id) {
        return false;
    }
    // What ran once is not created again.
    if observed.containers.iter().any(|known| known.id == *id && (!starts || known.state != State::Created)) {
        return false;
    }
    let status = event.containers_statuses.iter().find(|status| status.id == *id);
    let name = status.and_then(|status| status.metadata.as_ref()).map(|metadata| &metadata.name);
    let job = name.map_or(Job::Sandbox, |name| Job::Start(name.clone()));
    if !memory.running.contains(&job) {
        return !memory.made.contains(id);
    }
    // A hook may take its time, and the container runs meanwhile.
    let container = name.filter(|_| starts).and_then(|name| pod.container(name));
    container.is_some_and(|container| container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some()))
}

fn by_pod(sandboxes: Vec<wire::PodSandbox>, containers: Vec<wire::Container>) -> Known {
    let mut now = Known::new();
    let sandboxes = sandboxes.into_iter().map(|s| (s.labels.get(observed::POD_UID).cloned(), s.id, s.state));
    let containers =
        containers.into_iter().map(|c| (c.labels.get(observed::POD_UID).cloned(), c.id, c.state + 10));
    for (uid, id, state) in sandboxes.chain(containers) {
        // What carries no pod's label was not made by a kubelet.
        if let Some(uid) = uid {
            now.entry(uid).or_default().push((id, state));
        }
    }
    for states in now.values_mut() {
        states.sort();
    }
    now
}

#[cfg(test)]
mod tests {
    use super::super::observed::{Instance, Sandbox};
    use super::*;

    #[test]
    fn a_runtime_that_cannot_tell_is_asked_once() {
        let never = Status::unimplemented("no events");
        let away = Status::unavailable("away");
        assert_eq!(Tells::Unknown.asked(Err(&never)), Tells::Never);
        assert_eq!(Tells::Unknown.asked(Ok(())), Tells::Yes);
        assert_eq!(Tells::Yes.asked(Err(&away)), Tells::Yes, "it will be back in a moment");
        assert_eq!(Tells::Unknown.asked(Err(&away)), Tells::Unknown);
    }

    #[test]
    fn a_runtime_that_ends_its_stream_at_once_is_asked_now_and_then() {
        let at = Duration::from_secs;
        assert_eq!(Tells::Yes.ended(at(5), at(65)), Tells::Yes, "it was ended, and will be back");
        let mute = Tells::Yes.ended(at(5), at(5));
        assert!(mute != Tells::Yes && !mute.may_be_asked(at(14)) && mute.may_be_asked(at(15)));
        assert_eq!(mute.asked(Ok(())), Tells::Yes);
    }

    #[test]
    fn only_what_a_kubelet_made_is_a_pods() {
        let labelled = |uid: &str| [(observed::POD_UID.to_owned(), uid.to_owned())].into();
        let sandbox = |id: &str, uid: &str, state| wire::PodSandbox {
            id: id.to_owned(),
            labels: labelled(uid),
            state,
            ..Default::default()
        };
        let stranger = wire::Container { id: "x".to_owned(), ..Default::default() };
        let own =
            wire::Container { id: "c".to_owned(), labels: labelled("a"), state: 1, ..Default::default() };
        let known = by_pod(vec![sandbox("s", "a", 1), sandbox("r", "a", 0)], vec![own, stranger]);
        let states = vec![("c".to_owned(), 11), ("r".to_owned(), 0), ("s".to_owned(), 1)];
        assert_eq!(known, Known::from([("a".to_owned(), states)]));
    }

    #[test]
    fn what_is_known_or_will_be_asked_for_is_no_news() {
        use wire::ContainerEventType as Kind;
        let spec = serde_json::json!({"containers": [{"name": "c"},
            {"name": "hooked", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}]});
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {}, "spec": spec})).unwrap();
        let event = |kind: Kind, id: &str, name: Option<&str>| wire::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            containers_statuses: name
                .map(|name| wire::ContainerStatus {
                    id: id.to_owned(),
                    metadata: Some(wire::ContainerMetadata { name: name.to_owned(), attempt: 0 }),
                    ..Default::default()
                })
                .into_iter()
                .collect(),
            ..Default::default()
        };
        let container = |id: &str, state| Instance { id: id.to_owned(), state, ..Default::default() };
        let observed = Observed {
            sandboxes: vec![Sandbox { id: "s".to_owned(), ..Default::default() }],
            containers: vec![container("runs", State::Running), container("made", State::Created)],
        };
        let is_news = |kind, id, name, jobs: &[Job]| {
            let running = jobs.iter().cloned().collect();
            let memory = Memory { running, made: ["begun".to_owned()].into(), ..Memory::default() };
            is_news(&event(kind, id, name), &pod, &observed, &memory)
        };
        let (created, started) = (Kind::ContainerCreatedEvent, Kind::ContainerStartedEvent);
        for kind in [Kind::ContainerStoppedEvent, Kind::ContainerDeletedEvent] {
            assert!(is_news(kind, "runs", Some("c"), &[Job::Start("c".to_owned())]));
        }
        assert!(!is_news(started, "s", None, &[]) && is_news(started, "t", None, &[]));
        assert!(!is_news(started, "t", None, &[Job::Sandbox]), "the job's end is news");
        assert!(!is_news(created, "runs", Some("c"), &[]) && !is_news(started, "runs", Some("c"), &[]));
        assert!(!is_news(created, "made", Some("c"), &[]) && is_news(started, "made", Some("c"), &[]));
        let start = |name: &str| [Job::Start(name.to_owned())];
        assert!(!is_news(started, "made", Some("c"), &start("c")));
        assert!(is_news(started, "new", Some("c"), &start("other")));
        assert!(is_news(started, "new", Some("hooked"), &start("hooked")), "its hook may take long");
        assert!(!is_news(created, "new", Some("hooked"), &start("hooked")));
        assert!(!is_news(started, "begun", Some("c"), &[]) && !is_news(started, "begun", None, &[]));
        assert!(is_news(started, "begun", Some("hooked"), &start("hooked")));
    }

    #[tokio::test]
    async fn a_runtime_that_has_nothing_to_tell_yet_holds_up_nobody() {
        let (send, answer) = tokio::sync::oneshot::channel::<Status>();
        let mut events = Events::Asked(Box::pin(async move { Err(answer.await.unwrap()) }));
        let soon = Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, events.next()).await.is_err());
        assert!(matches!(events, Events::Asked(_)), "it is still asked");
        send.send(Status::unimplemented("no events")).unwrap();
        assert!(events.next().await.is_err_and(|status| status.code() == Code::Unimplemented));
    }
}
