//! Dynamic resources (KEP-4381): claims that somebody allocated are prepared by their drivers before a pod's sandbox
//! is made, and given back after its last container has ended.
//!
//! `names` says which claims a pod means, `state` who uses which (both pure), `checkpoint` keeps that, `registry` knows
//! drivers and `drivers` speaks with them, `health` hears how their devices are, `prepare` does what is to be done, `turns` keeps pods out of each other's
//! way, `slices` takes back what a driver has published that went away. Who allocates claims is not known here.
//!
//! Invariant: that a pod uses a claim is on disk before its driver is asked to prepare it, and stays there until the
//! driver has taken it back.

mod checkpoint;
mod drivers;
mod health;
mod names;
mod prepare;
mod registry;
mod slices;
mod state;
#[cfg(test)]
mod tests;
mod turns;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, TaskGroup};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceStatus};
use parking_lot::Mutex;
use tokio::sync::Notify;

pub use checkpoint::ClaimsError;
pub use prepare::PrepareError;
use registry::Drivers;
pub use registry::Registered;
use state::State;
pub use state::{Device, Prepared};
use turns::Turns;

use crate::counts::Meter;
use crate::pods::spec::PodExt;

/// Between attempts to give claims back.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The claims that pods of a node use.
pub struct Claims {
    path: PathBuf,
    client: kube::Client,
    node: String,
    meter: Meter,
    tasks: TaskGroup,
    health: Mutex<health::Health>,
    /// Pods with a device whose health is another now.
    concerned: Mutex<BTreeSet<String>>,
    concern: Notify,
    state: Mutex<State>,
    drivers: Mutex<Drivers>,
    turns: Turns,
    /// Pods that are over, whose claims are to be given back.
    leaving: Mutex<BTreeSet<String>>,
    left: Notify,
}

impl Claims {
    /// As they were used when the last kubelet ended.
    ///
    /// # Errors
    /// [`ClaimsError`], when the file that says so cannot be understood.
    pub fn load(
        root: &Path,
        client: kube::Client,
        node: &str,
        meter: Meter,
        tasks: &TaskGroup,
    ) -> Result<Arc<Self>, ClaimsError> {
        let path = root.join(checkpoint::NAME);
        Ok(Arc::new(Self {
            state: Mutex::new(checkpoint::read(&path)?.unwrap_or_default()),
            path,
            client,
            node: node.to_owned(),
            meter,
            tasks: tasks.clone(),
            health: Mutex::default(),
            concerned: Mutex::default(),
            concern: Notify::new(),
            drivers: Mutex::default(),
            turns: Turns::default(),
            leaving: Mutex::default(),
            left: Notify::new(),
        }))
    }

    /// Names of the CDI devices that a container has by its claims.
    ///
    /// # Errors
    /// When a claim is not prepared that it asks for.
    pub fn devices(&self, pod: &Pod, container: &Container) -> Result<Vec<String>, PrepareError> {
        let wanted = names::of_container(pod, container)?;
        let state = self.state.lock();
        let mut devices = Vec::new();
        for (claim, request) in wanted {
            let known = state.get(pod.namespace(), &claim);
            let known = known.ok_or_else(|| PrepareError::Unknown {
                claim: claim.clone(),
                namespace: pod.namespace().to_owned(),
            })?;
            devices.extend(known.cdi(&request));
        }
        Ok(devices)
    }

    /// What a container has by its claims, by claim.
    pub fn prepared(&self, pod: &Pod, container: &Container) -> Vec<Prepared> {
        // A claim that is not there yet gives nothing.
        let wanted = names::of_container(pod, container).unwrap_or_default();
        let state = self.state.lock();
        let mut seen = BTreeSet::new();
        let claims = wanted.into_iter().filter(|(claim, _)| seen.insert(claim.clone()));
        claims
            .filter_map(|(claim, request)| Some(state.get(pod.namespace(), &claim)?.prepared(&request)))
            .collect()
    }

    /// How the devices of a pod's claims are, by container.
    pub fn statuses(&self, pod: &Pod) -> BTreeMap<String, Vec<ResourceStatus>> {
        let (state, health, now) = (self.state.lock(), self.health.lock(), self.meter.clock.monotonic());
        let of = |container: &Container| health.of_container(&state, pod, container, now);
        pod.containers().iter().map(|container| (container.name.clone(), of(container))).collect()
    }

    /// Until the health of devices changes that pods have; which pods.
    pub async fn concerned(&self) -> BTreeSet<String> {
        loop {
            let uids = std::mem::take(&mut *self.concerned.lock());
            if !uids.is_empty() {
                return uids;
            }
            self.concern.notified().await;
        }
    }

    /// Devices of a driver (pools and names) are other than before.
    fn concern(&self, driver: &str, changed: &BTreeSet<(String, String)>) {
        let uids = self.state.lock().users(driver, changed);
        if !uids.is_empty() {
            self.concerned.lock().extend(uids);
            self.concern.notify_one();
        }
    }

    /// How many claims pods use, by driver, and of all of them under `<any>`.
    pub fn in_use(&self) -> BTreeMap<String, usize> {
        self.state.lock().in_use()
    }

    /// Whether a pod uses any claim.
    pub fn is_used_by(&self, uid: &str) -> bool {
        self.state.lock().is_used_by(uid)
    }

    /// A pod is over: its claims are given back in the background, for as many attempts as it takes.
    pub fn release(&self, uid: &str) {
        if self.is_used_by(uid) && self.leaving.lock().insert(uid.to_owned()) {
            self.left.notify_one();
        }
    }

    /// Pods that are not there any more are over.
    pub fn retain(&self, is_known: impl Fn(&str) -> bool) {
        let gone: Vec<String> = self.state.lock().pods().filter(|uid| !is_known(uid)).collect();
        gone.iter().for_each(|uid| self.release(uid));
    }
}

/// Gives back what pods do not use any more, until the group stops. What drivers published that were there before
/// this kubelet and do not come back is taken back.
pub async fn run(claims: Arc<Claims>) {
    let begun = claims.clone();
    claims.tasks.spawn(async move { slices::wipe_lost(&begun).await });
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let leaving = claims.leaving.lock().clone();
        let mut all = true;
        for uid in leaving {
            match claims.unprepare(&uid).await {
                Ok(()) => drop(claims.leaving.lock().remove(&uid)),
                Err(error) => {
                    tracing::warn!(uid, %error, "claims of a pod that is over are not given back yet");
                    all = false;
                }
            }
        }
        if all {
            backoff.reset();
            claims.left.notified().await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(backoff.next_pause()) => {}
                () = claims.left.notified() => {}
            }
        }
    }
}
