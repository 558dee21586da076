//! Events about objects. The same event again raises the count of the first (`client-go/tools/record`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use base::SharedClock;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// How many events wait to be written before further ones are dropped: events are advice, not state.
const QUEUE: usize = 1000;
/// How many different events are remembered for counting.
const REMEMBERED: usize = 4096;

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
    known: Mutex<HashMap<String, (String, i32)>>,
}

impl Recorder {
    /// A recorder; its writer runs in `tasks`.
    pub fn new(
        client: kube::Client,
        clock: SharedClock,
        component: &str,
        host: &str,
        tasks: &base::TaskGroup,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Occurrence>(QUEUE);
        let writer = Arc::new(Writer { client, clock, host: host.to_owned(), known: Mutex::default() });
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
    async fn write(&self, occurrence: Occurrence) -> Result<(), kube::Error> {
        let namespace = occurrence.about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = Time(self.clock.now());
        let identity = format!(
            "{}/{}/{}/{}",
            occurrence.about.uid.clone().unwrap_or_default(),
            occurrence.about.field_path.clone().unwrap_or_default(),
            occurrence.reason,
            occurrence.message
        );
        let known = self.known.lock().get(&identity).cloned();
        if let Some((name, count)) = known {
            let patch = serde_json::json!({"count": count + 1, "lastTimestamp": now});
            match events.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {
                    self.known.lock().insert(identity, (name, count + 1));
                    return Ok(());
                }
                // It has expired meanwhile: a new one is made.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.event(occurrence, &namespace, now);
        let name = event.metadata.name.clone().unwrap_or_default();
        events.create(&PostParams::default(), &event).await?;
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(identity, (name, 1));
        Ok(())
    }

    fn event(&self, occurrence: Occurrence, namespace: &str, now: Time) -> Event {
        // Upstream names an event after its object and the nanosecond.
        let name = format!(
            "{}.{:x}",
            occurrence.about.name.clone().unwrap_or_default(),
            self.clock.now().as_nanosecond()
        );
        Event {
            metadata: ObjectMeta {
                name: Some(name),
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
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            count: Some(1),
            ..Event::default()
        }
    }
}
