//! Takes a pod when it is seen for the first time, or refuses it: asks what `admission` decides, in its order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use kube::Api;
use schema::quantity::Quantity;

use super::admission::fit::{Failure, Short};
use super::admission::node::judge;
use super::admission::preempt::choose;
use super::admission::{self, Demand, Refusal, refuse};
use super::memory::Ending;
use super::observed::{Observed, State};
use super::resize::Allocation;
use super::spec::PodExt;
use super::worker::Worker;
use super::{Handle, qos};
use crate::counts::table;
use crate::devices::is_extended;
use crate::node::view::NodeView;

/// Of the event and the status of a pod that makes room; upstream's.
const PREEMPTING: &str = "Preempting";
const PREEMPTED: &str = "Preempted in order to admit critical pod";
/// Whoever makes room has half of its grace period more, but so much at least.
const LEAST_WAIT: Duration = Duration::from_secs(10);
/// Whether pods have ended is looked at so often: it is a matter of seconds, and of the first ones of a critical pod.
const LOOK: Duration = Duration::from_millis(20);

impl Worker {
    /// Takes the pod when it is seen for the first time, or says why not.
    pub(super) async fn admit(&self, observed: &Observed) {
        let pod = self.handle.pod();
        if self.handle.memory.lock().resize.allocated.is_some() {
            return;
        }
        let first = Allocation::recorded(&pod, &self.shared.volumes.sizes(&pod));
        let allocated = first.apply(&pod);
        let mut taken = self.take(&allocated, observed).await;
        if taken.as_ref().is_err_and(Refusal::may_pass) && self.others_went().await {
            self.shared.exclusive.release(&self.handle.uid);
            self.shared.ledger.release(&self.handle.uid);
            taken = self.take(&allocated, observed).await;
        }
        let mut memory = self.handle.memory.lock();
        memory.resize.allocated = Some(first);
        if taken.is_ok() {
            self.note_admitted(&allocated);
        }
        if let Err(Refusal { reason, message }) = taken {
            self.shared.exclusive.release(&self.handle.uid);
            self.shared.ledger.release(&self.handle.uid);
            self.shared.counts.count(&table::ADMISSION_REJECTIONS, &[admission::counted(&reason)]);
            self.shared.recorder.warning(pod.reference(None), &reason, message.clone());
            let message = format!("Pod was rejected: {message}");
            memory.ending.get_or_insert(Ending { reason, message, refused: true, ..Ending::default() });
        }
    }

    /// Waits until nothing is left of pods whose objects are gone already: they were deleted without a grace period, and
    /// whoever has seen that counts with what they have. False when there are none, or they take too long.
    async fn others_went(&self) -> bool {
        let mut going = self.pods.list();
        going.retain(|handle| handle.uid != self.handle.uid && handle.is_removed());
        let gone = async {
            while self.pods.list().iter().any(|handle| going.iter().any(|gone| gone.uid == handle.uid)) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            went = tokio::time::timeout(LEAST_WAIT, gone) => !going.is_empty() && went.is_ok(),
            () = self.handle.leaving() => false,
        }
    }

    /// Takes a new pod, if the node can. One that a kubelet took before is not asked again.
    async fn take(&self, pod: &Pod, observed: &Observed) -> Result<(), Refusal> {
        let shared = &self.shared;
        let demand = admission::demand(pod);
        let known = pod.status.as_ref().is_some_and(|status| status.start_time.is_some());
        if known || !observed.sandboxes.is_empty() || pod.is_deleting() {
            if !pod.is_terminal() {
                shared.ledger.note(&self.handle.uid, demand);
                tokio::select! {
                    () = shared.exclusive.admit_again(pod) => {}
                    () = self.handle.leaving() => {}
                }
            }
            return Ok(());
        }
        let critical = self.handle.is_critical();
        admission::under_pressure(pod, critical, &shared.pressure.now())?;
        shared.sysctls.allowed.check(pod)?;
        // A plugin may take its time, or for ever: a pod that is to go does not wait for it.
        tokio::select! {
            given = shared.exclusive.admit(pod) => given?,
            () = self.handle.leaving() => {
                shared.exclusive.release(&self.handle.uid);
                return Ok(());
            }
        }
        let can = admission::Can {
            strict_groups: shared.runtime.supplemental_groups,
            mount_options: shared.volumes.has_mount_options(),
        };
        admission::before_fit(pod, can)?;
        tokio::select! {
            fits = self.fit(pod, &demand, critical) => fits?,
            () = self.handle.leaving() => return Ok(()),
        }
        admission::apparmor::check(pod, shared.machine.apparmor)?;
        admission::while_closing(shared.shutdown.is_begun())
    }

    /// Gives it room on the node, or says what stands against it.
    async fn fit(&self, pod: &Pod, demand: &Demand, critical: bool) -> Result<(), Refusal> {
        let mut node = self.shared.own_node();
        let mut verdict = judge(pod, &node, self.handle.is_static);
        if verdict.is_about_labels() {
            // What was seen of the node may be older than what the scheduler saw.
            match self.fresh().await {
                Ok(fresh) => {
                    node = fresh;
                    verdict = judge(pod, &node, self.handle.is_static);
                }
                Err(error) => tracing::warn!(%error, "the node's object is not read again"),
            }
        }
        let more = self.by_hand(&node);
        let uid = &self.handle.uid;
        let Err(failures) = self.shared.ledger.admit(uid, demand, &more, &verdict) else { return Ok(()) };
        if !critical {
            return refused(&failures);
        }
        let _turn = self.shared.ledger.replacing.lock().await;
        let Err(failures) = self.shared.ledger.admit(uid, demand, &more, &verdict) else { return Ok(()) };
        let lasting = |failure: &&Failure| matches!(failure, Failure::Predicate { .. });
        if let Some(failure) = failures.iter().find(lasting) {
            return Err(failure.refusal());
        }
        self.replace(pod, demand, &failures).await
    }

    /// Extended resources that somebody wrote into the node's object, and no plugin provides.
    fn by_hand(&self, node: &NodeView) -> BTreeMap<String, i64> {
        let devices = self.shared.exclusive.devices.amounts();
        let own = node.status.allocatable.iter().filter(|(name, _)| is_extended(name));
        own.filter(|(name, _)| !devices.contains_key(*name))
            .filter_map(|(name, text)| Some((name.clone(), text.parse::<Quantity>().ok()?.value())))
            .collect()
    }

    async fn fresh(&self) -> Result<NodeView, kube::Error> {
        let api: Api<Node> = Api::all(self.shared.client.clone());
        let node = api.get(&self.shared.config.node_name).await?;
        Ok(NodeView::from(&node))
    }

    /// Ends as many others as the critical pod needs, waits until they are over, and takes it.
    async fn replace(&self, pod: &Pod, demand: &Demand, failures: &[Failure]) -> Result<(), Refusal> {
        let short: Vec<Short> = failures
            .iter()
            .filter_map(|failure| match failure {
                Failure::Short(short) => Some(short.clone()),
                Failure::Predicate { .. } => None,
            })
            .collect();
        let priority = |pod: &Pod| pod.spec().and_then(|spec| spec.priority);
        let gives_way = |handle: &Arc<Handle>| {
            let other = handle.pod();
            let less = matches!((priority(pod), priority(&other)), (Some(own), Some(others)) if own > others);
            handle.uid != self.handle.uid && handle.is_active() && (less || !handle.is_critical())
        };
        let others: Vec<Arc<Handle>> = self.pods.list().into_iter().filter(gives_way).collect();
        let named = others.iter().map(|handle| (handle.uid.clone(), qos(&handle.pod()))).collect();
        let chosen = choose(&self.shared.ledger.candidates(named), &short).map_err(|why| {
            let why = format!("preemption: error finding a set of pods to preempt: {why}");
            let message =
                format!("Unexpected error while attempting to recover from admission failure: {why}");
            refuse("UnexpectedAdmissionError", message)
        })?;
        // It has its place from now on: what becomes free is nobody else's.
        self.shared.ledger.note(&self.handle.uid, demand.clone());
        let signal = short.first().map_or("", |short| short.resource.as_str());
        let ending = others.iter().filter(|handle| chosen.contains(&handle.uid));
        for handle in ending {
            self.give_way(handle, pod, signal).await;
        }
        Ok(())
    }

    async fn give_way(&self, handle: &Arc<Handle>, wanted: &Pod, signal: &str) {
        let pod = handle.pod();
        tracing::info!(pod = %pod.described(), by = %wanted.described(), "preempting");
        self.shared.recorder.warning(pod.reference(None), PREEMPTING, PREEMPTED);
        handle.fail(Ending {
            reason: PREEMPTING.to_owned(),
            message: PREEMPTED.to_owned(),
            grace_seconds: None,
            condition: Some(PodCondition {
                type_: "DisruptionTarget".to_owned(),
                status: "True".to_owned(),
                reason: Some("TerminationByKubelet".to_owned()),
                message: Some("Pod was preempted by Kubelet to accommodate a critical pod.".to_owned()),
                ..PodCondition::default()
            }),
            refused: false,
        });
        let grace = Duration::from_secs(u64::try_from(pod.grace()).unwrap_or(0));
        if tokio::time::timeout((grace * 3 / 2).max(LEAST_WAIT), stopped(handle)).await.is_err() {
            let message = "Container runtime did not kill the pod within specified grace period.";
            self.shared.recorder.warning(pod.reference(None), "ExceededGracePeriod", message);
            return;
        }
        self.shared.counts.count(&table::PREEMPTIONS, &[signal]);
    }
}

fn refused(failures: &[Failure]) -> Result<(), Refusal> {
    failures.first().map_or(Ok(()), |failure| Err(failure.refusal()))
}

/// Until nothing of a pod runs any more.
async fn stopped(handle: &Handle) {
    loop {
        let observed = handle.observed.lock().clone();
        let runs = observed.containers.iter().any(|c| matches!(c.state, State::Running | State::Unknown));
        if handle.is_removed() || (!runs && !handle.memory.lock().is_creating()) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
