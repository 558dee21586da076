//! Events about objects. How many are written is bounded (`correlate`); the same one again raises the count of the first.

mod correlate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::SharedClock;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::rate::Rate;
use correlate::{Correlator, Known};

/// How many events wait to be written before further ones are dropped: events are advice, not state.
const QUEUE: usize = 1000;

/// How many events are written.
#[derive(Debug)]
pub enum Bound {
    /// As many as there are, as upstream's `client-go/tools/events`.
    None,
    /// As upstream's `client-go/tools/record`: of each source about each object so many, and similar ones as one.
    Sources,
    /// Likewise, and of all of them together so many.
    All(Rate),
}

/// Records events in the name of one component.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Occurrence>,
    component: Arc<str>,
}

struct Occurrence {
    component: Arc<str>,
    about: ObjectReference,
    annotations: BTreeMap<String, String>,
    warning: bool,
    reason: String,
    message: String,
}

struct Writer {
    client: kube::Client,
    clock: SharedClock,
    host: String,
    correlator: Mutex<Correlator>,
    rate: Option<Rate>,
}

impl Recorder {
    /// A recorder; its writer runs in `tasks`.
    pub fn new(
        client: kube::Client,
        clock: SharedClock,
        (component, host): (&str, &str),
        bound: Bound,
        tasks: &base::TaskGroup,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Occurrence>(QUEUE);
        let (correlator, rate) = match bound {
            Bound::None => (Correlator::default(), None),
            Bound::Sources => (Correlator::bounded(), None),
            Bound::All(rate) => (Correlator::bounded(), Some(rate)),
        };
        let (host, correlator) = (host.to_owned(), Mutex::new(correlator));
        let writer = Arc::new(Writer { client, clock, host, correlator, rate });
        tasks.spawn(async move {
            while let Some(occurrence) = receiver.recv().await {
                if let Err(error) = writer.write(occurrence).await {
                    tracing::debug!(%error, "an event was not written");
                }
            }
        });
        Self { sender, component: component.into() }
    }

    /// The same, in the name of another component of the same process.
    pub fn named(&self, component: &str) -> Self {
        Self { sender: self.sender.clone(), component: component.into() }
    }

    /// Something normal happened.
    pub fn normal(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(about, BTreeMap::new(), false, reason, message.into());
    }

    /// Something went wrong.
    pub fn warning(&self, about: ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(about, BTreeMap::new(), true, reason, message.into());
    }

    /// Something went wrong, and programs are told more of it.
    pub fn annotated(
        &self,
        about: ObjectReference,
        annotations: BTreeMap<String, String>,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record(about, annotations, true, reason, message.into());
    }

    fn record(
        &self,
        about: ObjectReference,
        annotations: BTreeMap<String, String>,
        warning: bool,
        reason: &str,
        message: String,
    ) {
        let (component, reason) = (self.component.clone(), reason.to_owned());
        let occurrence = Occurrence { component, about, annotations, warning, reason, message };
        let reason = &occurrence.reason.clone();
        if self.sender.try_send(occurrence).is_err() {
            tracing::debug!(reason, "an event was dropped: too many wait");
        }
    }
}

impl Writer {
    async fn write(&self, mut occurrence: Occurrence) -> Result<(), kube::Error> {
        let namespace = occurrence.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let now = Time(self.clock.now());
        // Upstream names an event after its object and the nanosecond.
        let object = occurrence.about.name.as_deref().unwrap_or_default();
        let name = format!("{object}.{:x}", now.0.as_nanosecond());
        let known = self.correlator.lock().observe(&mut occurrence, &name, &now, self.clock.monotonic());
        let Some(known) = known else {
            tracing::debug!(occurrence.reason, object = occurrence.about.name, "an event is one too many");
            return Ok(());
        };
        self.wait().await;
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if known.count > 1 {
            let patch = serde_json::json!({
                "count": known.count, "lastTimestamp": now, "message": occurrence.message,
            });
            match events.patch(&known.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                // It has expired meanwhile: it is made again.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = self.event(occurrence, known, &namespace, now);
        events.create(&PostParams::default(), &event).await.map(drop)
    }

    /// Waits for the turn of one more.
    async fn wait(&self) {
        let pause = self.rate.as_ref().map_or(Duration::ZERO, |rate| rate.reserve(self.clock.monotonic()));
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    fn event(&self, occurrence: Occurrence, known: Known, namespace: &str, now: Time) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(known.name),
                namespace: Some(namespace.to_owned()),
                annotations: Some(occurrence.annotations).filter(|annotations| !annotations.is_empty()),
                ..ObjectMeta::default()
            },
            involved_object: occurrence.about,
            reason: Some(occurrence.reason),
            message: Some(occurrence.message),
            type_: Some(if occurrence.warning { "Warning" } else { "Normal" }.to_owned()),
            source: Some(EventSource {
                component: Some(occurrence.component.to_string()),
                host: Some(self.host.clone()).filter(|host| !host.is_empty()),
            }),
            reporting_component: Some(occurrence.component.to_string()),
            first_timestamp: Some(known.first),
            last_timestamp: Some(now),
            count: Some(known.count),
            ..Event::default()
        }
    }
}
