//! Ends one pod whose time has come, or tells one rule how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{DeviceTaintRule as Rule, ResourceSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;

use super::follow::pool;
use super::plan::{self, Eviction, Known};
use super::rule::{self, Reach};
use crate::context::{Context, Queues};
use crate::view::{PodView, key, split};

/// As which component it writes events, and as which manager it owns fields.
const NAME: &str = "device-taint-eviction-controller";
/// Between two changes of what a rule is told.
const PERIOD: Duration = Duration::from_secs(10);
/// So many pods are remembered that were ended.
const REMEMBERED: usize = 500;

/// What is to be looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A pod: namespace and name.
    Pod(String),
    /// A rule: its name.
    Rule(String),
}

/// The controller.
pub struct DeviceTaints {
    context: Arc<Context>,
    queues: Queues,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Pods that wait for their time, by key, with their UID.
    due: BTreeMap<String, String>,
    /// UIDs of pods that were ended.
    ended: BTreeSet<String>,
    /// How many pods each rule has ended, by its UID.
    counts: BTreeMap<String, usize>,
}

impl DeviceTaints {
    /// For this process.
    pub fn new(context: Arc<Context>, queues: &Queues) -> Self {
        Self { context, queues: queues.clone(), state: Mutex::default() }
    }

    /// Until all is known that there is.
    pub async fn synced(&self) {
        let informers = &self.context.informers;
        let copies = &informers.device_taints;
        let _ = tokio::join!(informers.resource_claims.synced(), copies.slices.synced());
        let client = &self.context.clients.manager;
        tokio::select! {
            _ = copies.rules.synced() => {}
            () = client::served::without(client, "resource.k8s.io/v1", "devicetaintrules") => {}
        }
    }

    /// Looks at one pod or rule; when to do so again.
    ///
    /// # Errors
    /// Those of the API; the key is then tried again.
    pub async fn reconcile(&self, key: Key) -> Result<Option<Duration>, kube::Error> {
        match key {
            Key::Pod(key) => self.pod(&key).await,
            Key::Rule(name) => self.rule(&name).await,
        }
    }

    fn slices(&self, driver: &str, name: &str) -> Vec<Arc<ResourceSlice>> {
        let copies = &self.context.informers.device_taints;
        let keys = copies.pools.of(&pool(driver, name));
        keys.iter().filter_map(|key| copies.slices.get(key)).collect()
    }

    fn rules(&self) -> Vec<Arc<Rule>> {
        self.context.informers.device_taints.rules.list().into_iter().map(|(_, rule)| rule).collect()
    }

    fn eviction(&self, pod: &PodView, rules: &[Arc<Rule>]) -> Option<Eviction> {
        let known = Known { pool: &|driver, name| self.slices(driver, name), rules };
        let claims = &self.context.informers.resource_claims;
        plan::of_pod(pod, |name| claims.get(&key(&pod.metadata.namespace, name)), &known)
    }

    async fn pod(&self, of: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(pod) = self.context.informers.pods.get(of) else {
            self.state.lock().due.remove(of);
            return Ok(None);
        };
        let rules = self.rules();
        let Some(eviction) = self.eviction(&pod, &rules) else {
            if self.state.lock().due.remove(of).is_some_and(|uid| uid == pod.metadata.uid) {
                self.event(&pod, "Cancelling deletion");
            }
            return Ok(None);
        };
        let uid = &pod.metadata.uid;
        if self.state.lock().ended.contains(uid) {
            return Ok(None);
        }
        self.state.lock().due.insert(of.to_owned(), uid.clone());
        for rule in rules.iter().filter(|rule| eviction.rules.contains(plan::uid(rule))) {
            self.later(rule);
        }
        let now = self.context.clock.now();
        if let Ok(left) = Duration::try_from(eviction.when.duration_since(now))
            && !left.is_zero()
        {
            return Ok(Some(left));
        }
        let is_ended = self.end(&pod).await?;
        let mut state = self.state.lock();
        state.due.remove(of);
        if state.ended.len() >= REMEMBERED {
            state.ended.pop_first();
        }
        state.ended.insert(uid.clone());
        if is_ended {
            for rule in &eviction.rules {
                *state.counts.entry(rule.clone()).or_default() += 1;
            }
        }
        Ok(None)
    }

    /// A rule is told later, since more may happen until then.
    fn later(&self, rule: &Rule) {
        let name = rule.metadata.name.clone().unwrap_or_default();
        self.queues.device_taints.add_after(Key::Rule(name), PERIOD);
    }

    fn event(&self, pod: &PodView, message: &str) {
        let recorder = self.context.recorder.named(NAME);
        recorder.normal(pod.reference(), "DeviceTaintManagerEviction", message.to_owned());
    }

    /// Ends a pod. Whether it was there still.
    async fn end(&self, pod: &PodView) -> Result<bool, kube::Error> {
        let meta = &pod.metadata;
        let api: Api<Pod> = Api::namespaced(self.context.clients.device_taints.clone(), &meta.namespace);
        let Some(current) = api.get_opt(&meta.name).await? else { return Ok(false) };
        let is_other = current.metadata.uid.as_deref() != Some(meta.uid.as_str());
        if is_other || current.metadata.deletion_timestamp.is_some() {
            return Ok(false);
        }
        self.event(pod, "Marking for deletion");
        let condition = serde_json::json!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByDeviceTaintManager",
            "message": "Device Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": Time(self.context.clock.now()),
        });
        let patch = serde_json::json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}});
        let told = api.patch_status(&meta.name, &PatchParams::default(), &Patch::Strategic(&patch)).await;
        if is_gone(told.as_ref().err()) {
            return Ok(false);
        }
        told?;
        let this = Preconditions { uid: Some(meta.uid.clone()), resource_version: None };
        let deleted = api
            .delete(&meta.name, &DeleteParams { preconditions: Some(this), ..DeleteParams::default() })
            .await;
        match deleted {
            Ok(_) => Ok(true),
            Err(error) if is_gone(Some(&error)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn rule(&self, name: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(rule) = self.context.informers.device_taints.rules.get(name) else { return Ok(None) };
        let now = self.context.clock.now();
        let told = rule::told(&rule);
        if let Some(told) = told.filter(|told| told.observed_generation == rule.metadata.generation)
            && let Some(left) = left(told.last_transition_time.0, now)
        {
            return Ok(Some(left));
        }
        let condition = rule::condition(&rule, self.reach(&rule), Time(now));
        if told.is_some_and(|told| rule::is_same(told, &condition)) {
            return Ok(None);
        }
        let api: Api<Rule> = Api::all(self.context.clients.device_taints.clone());
        let patch = serde_json::json!({"metadata": {"uid": rule.metadata.uid}, "status": {"conditions": [condition]}});
        let parameters = PatchParams { field_manager: Some(NAME.to_owned()), ..PatchParams::default() };
        let written = api.patch_status(name, &parameters, &Patch::Strategic(&patch)).await;
        match written {
            Err(error) if is_gone(Some(&error)) => Ok(None),
            other => other.map(|_| None),
        }
    }

    /// What a rule does, or what it would do if it ended pods.
    fn reach(&self, rule: &Rule) -> Reach {
        let informers = &self.context.informers;
        let mut acting = rule.clone();
        acting.spec.taint.effect = "NoExecute".to_owned();
        let is_real = rule.spec.taint.effect == "NoExecute";
        let rules = if is_real { self.rules() } else { vec![Arc::new(acting)] };
        let mut reach = Reach::default();
        if is_real || rule.spec.taint.effect == "None" {
            let mut places = BTreeSet::new();
            for (key, pod) in informers.pods.list() {
                let is_meant =
                    || self.eviction(&pod, &rules).is_some_and(|found| found.rules.contains(plan::uid(rule)));
                if pod.metadata.deletion_timestamp.is_none()
                    && !pod.spec.resource_claims.is_empty()
                    && is_meant()
                {
                    reach.pods += 1;
                    places.insert(split(&key).0.to_owned());
                }
            }
            reach.namespaces = places.len();
        }
        if rule.spec.taint.effect == "None" {
            for (_, slice) in informers.device_taints.slices.list() {
                let (driver, name) = (&slice.spec.driver, &slice.spec.pool.name);
                let all = self.slices(driver, name);
                let counts = plan::newest(&all).any(|known| Arc::ptr_eq(known, &slice));
                let devices = slice.spec.devices.iter().flatten().filter(|_| counts);
                reach.published +=
                    devices.filter(|device| plan::selects(rule, driver, name, &device.name)).count();
            }
            for (_, claim) in informers.resource_claims.list() {
                let all = plan::given(&claim).iter();
                reach.allocated +=
                    all.filter(|one| plan::selects(rule, &one.driver, &one.pool, &one.device)).count();
            }
        }
        reach.evicted = self.state.lock().counts.get(plan::uid(rule)).copied().unwrap_or_default();
        reach
    }
}

/// What is left of the pause after the last change; `None` when it is over.
fn left(since: Timestamp, now: Timestamp) -> Option<Duration> {
    let past = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    PERIOD.checked_sub(past).filter(|left| !left.is_zero())
}

fn is_gone(error: Option<&kube::Error>) -> bool {
    matches!(error, Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409))
}
