//! Has claims prepared for a pod, and given back after it.

use std::collections::BTreeMap;

use base::failpoint;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::Api;
use tonic::Status;

use super::drivers::{Answers, Asked, Driver};
use super::names::{Name, of_pod};
use super::state::{Claim, Device};
use super::{Claims, checkpoint};
use crate::checkpoint::CheckpointError;
use crate::counts::table;
use crate::plugins::described;
use crate::pods::spec::PodExt;

/// Why a pod does not have its claims, in upstream's words.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("pod \"{namespace}/{pod}\": ResourceClaim not created yet")]
    NotCreated { namespace: String, pod: String },
    #[error("pod \"{namespace}/{pod}\", spec.resourceClaim {claim:?}: none of the supported fields are set")]
    Unsupported { namespace: String, pod: String, claim: String },
    #[error("fetch ResourceClaim {claim}: {source}")]
    Fetch { claim: String, source: Box<kube::Error> },
    #[error("ResourceClaim {namespace}/{claim} was not created for Pod {namespace}/{pod} (Pod is not owner)")]
    NotOwner { namespace: String, claim: String, pod: String },
    #[error("pod {pod} ({uid}) is not allowed to use ResourceClaim {claim} ({claim_uid})")]
    NotReserved { pod: String, uid: String, claim: String, claim_uid: String },
    #[error("ResourceClaim {0}: not allocated")]
    NotAllocated(String),
    #[error("DRA driver {0} is not registered")]
    NoDriver(String),
    #[error(
        "old ResourceClaim with same name {claim} and different UID {uid} still exists (previous pod force-deleted?!)"
    )]
    Old { claim: String, uid: String },
    #[error("internal error: unable to get claim info for ResourceClaim {claim} in namespace {namespace}")]
    Unknown { claim: String, namespace: String },
    #[error("checkpoint ResourceClaim cache: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("{call}: {}", described(source))]
    Call { call: &'static str, source: Status },
    #[error("{call} failed for ResourceClaim {claim}: {why}")]
    Refused { call: &'static str, claim: String, why: String },
    #[error("{call} returned result for unknown claim UID {uid}")]
    Stranger { call: &'static str, uid: String },
    #[error("{call} skipped {count} ResourceClaims")]
    Skipped { call: &'static str, count: usize },
}

const PREPARE: &str = "NodePrepareResources";
const UNPREPARE: &str = "NodeUnprepareResources";

fn asked(claim: &Claim) -> Asked {
    Asked { namespace: claim.namespace.clone(), uid: claim.uid.clone(), name: claim.name.clone() }
}

/// What a claim's object comes to, if a pod may use it.
///
/// # Errors
/// When it may not, or nobody has allocated it.
pub(super) fn usable(pod: &Pod, name: &Name, object: &ResourceClaim) -> Result<Claim, PrepareError> {
    let (uid, claim) = (object.metadata.uid.clone().unwrap_or_default(), name.name.clone());
    let namespace = pod.namespace().to_owned();
    let mut owners = object.metadata.owner_references.iter().flatten();
    if name.is_own && !owners.any(|owner| owner.controller == Some(true) && owner.uid == pod.uid()) {
        return Err(PrepareError::NotOwner { namespace, claim, pod: pod.name().to_owned() });
    }
    let status = object.status.as_ref();
    let mut reserved = status.and_then(|status| status.reserved_for.as_ref()).into_iter().flatten();
    if !reserved.any(|user| user.uid == pod.uid()) {
        let (pod, of) = (pod.name().to_owned(), pod.uid().to_owned());
        return Err(PrepareError::NotReserved { pod, uid: of, claim, claim_uid: uid });
    }
    let Some(allocation) = status.and_then(|status| status.allocation.as_ref()) else {
        return Err(PrepareError::NotAllocated(claim));
    };
    let results = allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten());
    let drivers = results.map(|result| (result.driver.clone(), Vec::new())).collect();
    Ok(Claim { uid, name: claim, namespace, drivers, ..Claim::default() })
}

/// What a driver said of the claims that it was asked about.
fn check<T>(
    call: &'static str,
    claims: &[Asked],
    answers: Answers<T>,
) -> Result<Vec<(Asked, T)>, PrepareError> {
    let count = claims.len().saturating_sub(answers.len());
    let mut done = Vec::new();
    for (uid, answer) in answers {
        let Some(claim) = claims.iter().find(|claim| claim.uid == uid) else {
            return Err(PrepareError::Stranger { call, uid });
        };
        match answer {
            Ok(value) => done.push((claim.clone(), value)),
            Err(why) => return Err(PrepareError::Refused { call, claim: claim.name.clone(), why }),
        }
    }
    if count > 0 { Err(PrepareError::Skipped { call, count }) } else { Ok(done) }
}

impl Claims {
    fn keep(&self) -> Result<(), CheckpointError> {
        checkpoint::write(&self.path, &self.state.lock())
    }

    /// Has all claims of a pod prepared. What is prepared already is left alone.
    ///
    /// # Errors
    /// [`PrepareError`]. It can be tried again; what was prepared until then is given back when the pod is over.
    pub async fn prepare(&self, pod: &Pod) -> Result<(), PrepareError> {
        let names = of_pod(pod)?;
        if names.is_empty() {
            return Ok(());
        }
        self.measured("PrepareResources", self.prepare_all(pod, names)).await
    }

    async fn measured(
        &self,
        operation: &str,
        work: impl Future<Output = Result<(), PrepareError>>,
    ) -> Result<(), PrepareError> {
        let labels = |done: &Result<(), _>| [done.is_err().to_string(), operation.to_owned()];
        self.meter.time(&table::CLAIMS_DURATION, labels, work).await
    }

    async fn prepare_all(&self, pod: &Pod, names: Vec<Name>) -> Result<(), PrepareError> {
        let keys = names.iter().map(|name| (pod.namespace().to_owned(), name.name.clone())).collect();
        let _turns = self.turns.take(keys).await;
        // Nothing is noted before all is there: a pod whose driver never comes can still be deleted.
        let mut claims = Vec::new();
        for name in &names {
            let api: Api<ResourceClaim> = Api::namespaced(self.client.clone(), pod.namespace());
            let object = api.get(&name.name).await.map_err(|source| PrepareError::Fetch {
                claim: name.name.clone(),
                source: Box::new(source),
            })?;
            let claim = usable(pod, name, &object)?;
            claim.drivers.keys().try_for_each(|driver| self.drivers.lock().get(driver).map(drop))?;
            claims.push(claim);
        }
        let batches = self.note(pod.uid(), claims)?;
        self.keep()?;
        failpoint::hit("kubelet.claims.noted");
        let mut prepared = Vec::new();
        for (name, claims) in batches {
            let mut driver: Driver = self.drivers.lock().get(&name)?;
            let named = (name.as_str(), driver.version(), PREPARE);
            let answers = self.called(named, driver.prepare(&claims)).await;
            let answers = answers.map_err(|source| PrepareError::Call { call: PREPARE, source })?;
            for (claim, devices) in check(PREPARE, &claims, answers)? {
                self.devices_are(&claim, &name, devices);
                prepared.push(claim);
            }
        }
        for claim in prepared {
            if let Some(known) = self.state.lock().get_mut(&claim.namespace, &claim.name) {
                known.is_prepared = true;
            }
        }
        failpoint::hit("kubelet.claims.prepared");
        Ok(self.keep()?)
    }

    /// Notes that a pod uses claims; which driver is to prepare which of them.
    fn note(&self, uid: &str, claims: Vec<Claim>) -> Result<BTreeMap<String, Vec<Asked>>, PrepareError> {
        let mut state = self.state.lock();
        for claim in &claims {
            let known = state.get(&claim.namespace, &claim.name);
            if let Some(old) = known.filter(|known| known.uid != claim.uid) {
                return Err(PrepareError::Old { claim: claim.name.clone(), uid: old.uid.clone() });
            }
        }
        let mut batches: BTreeMap<String, Vec<Asked>> = BTreeMap::new();
        for claim in claims {
            let (namespace, name) = (claim.namespace.clone(), claim.name.clone());
            if state.get(&namespace, &name).is_none() {
                state.insert(claim);
            }
            let Some(known) = state.get_mut(&namespace, &name) else { continue };
            known.pods.insert(uid.to_owned());
            // One that has no driver needs nobody.
            known.is_prepared |= known.drivers.is_empty();
            if !known.is_prepared {
                for driver in known.drivers.keys() {
                    batches.entry(driver.clone()).or_default().push(asked(known));
                }
            }
        }
        Ok(batches)
    }

    fn devices_are(&self, claim: &Asked, driver: &str, devices: Vec<Device>) {
        if let Some(known) = self.state.lock().get_mut(&claim.namespace, &claim.name) {
            known.drivers.insert(driver.to_owned(), devices);
        }
    }

    /// Gives back the claims of a pod that is over, as far as nobody else uses them.
    ///
    /// # Errors
    /// [`PrepareError`]; it is to be tried again.
    pub async fn unprepare(&self, uid: &str) -> Result<(), PrepareError> {
        match self.is_used_by(uid) {
            true => self.measured("UnprepareResources", self.unprepare_all(uid)).await,
            false => Ok(()),
        }
    }

    /// Calls a driver, and counts how long it takes.
    async fn called<T>(
        &self,
        (driver, version, method): (&str, &str, &str),
        call: impl Future<Output = Result<T, tonic::Status>>,
    ) -> Result<T, tonic::Status> {
        let labels = |answer: &Result<T, tonic::Status>| {
            let code = answer.as_ref().err().map_or(tonic::Code::Ok, tonic::Status::code);
            let method = format!("/k8s.io.kubelet.pkg.apis.dra.{version}.DRAPlugin/{method}");
            [driver.to_owned(), format!("{code:?}"), method]
        };
        self.meter.time(&table::CLAIMS_CALLS, labels, call).await
    }

    async fn unprepare_all(&self, uid: &str) -> Result<(), PrepareError> {
        let keys = self.state.lock().used_by(uid);
        let _turns = self.turns.take(keys).await;
        let last = self.state.lock().leave(uid);
        let mut batches: BTreeMap<&str, Vec<Asked>> = BTreeMap::new();
        for claim in &last {
            for driver in claim.drivers.keys() {
                batches.entry(driver).or_default().push(asked(claim));
            }
        }
        for (name, claims) in batches {
            let mut driver = self.drivers.lock().get(name)?;
            let named = (name, driver.version(), UNPREPARE);
            let answers = self.called(named, driver.unprepare(&claims)).await;
            let answers = answers.map_err(|source| PrepareError::Call { call: UNPREPARE, source })?;
            check(UNPREPARE, &claims, answers)?;
        }
        failpoint::hit("kubelet.claims.unprepared");
        for claim in last {
            self.state.lock().remove(&claim.namespace, &claim.name);
        }
        Ok(self.keep()?)
    }
}
