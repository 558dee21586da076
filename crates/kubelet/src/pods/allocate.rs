//! What the node allocates to a pod that runs: what it wants, once that is to be had.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::admission;
use super::ledger::Shortage;
use super::observed::{Observed, State};
use super::resize::{self, Allocation, Progress};
use super::spec::PodExt;
use super::worker::Worker;
use crate::counts::table;

impl Worker {
    /// The pod with the resources that the node has allocated to it; allocates what is wanted, if it is to be had.
    pub(super) fn allocate(&self, pod: &Arc<Pod>, observed: &Observed) -> Arc<Pod> {
        let mut memory = self.handle.memory.lock();
        let running = observed.containers.iter().filter(|c| c.state == State::Running);
        for instance in running {
            // Started by a kubelet before this one.
            if !memory.resize.actuated.contains_key(&instance.id) {
                let given = resize::reported(pod, &instance.name, &instance.id);
                memory.resize.actuated.insert(instance.id.clone(), given);
            }
        }
        if observed.sandbox().is_some() {
            memory.resize.group.get_or_insert_with(|| resize::reported_group(pod));
        }
        memory.resize.actuated.retain(|id, _| observed.containers.iter().any(|c| c.id == *id));
        memory.resize.volumes = self.shared.volumes.sizes(pod);
        let wanted = Allocation::wanted(pod);
        let mounted = &memory.resize.volumes;
        let recorded = || Allocation::recorded(pod, mounted);
        let allocated = memory.resize.allocated.clone().unwrap_or_else(recorded);
        memory.resize.allocated.get_or_insert_with(|| allocated.clone());
        if allocated == wanted {
            self.note_waited(&mut memory, "reverted");
            memory.resize.pending = None;
            return pod.clone();
        }
        let exchanged = match self.shared.exclusive.fixed(pod, |resource| allocated.differs(pod, resource)) {
            Some((kind, why)) => Err(Shortage { hopeless: true, kind, message: why.to_owned() }),
            None => self.shared.ledger.exchange(&self.handle.uid, admission::demand(pod)),
        };
        match exchanged {
            Ok(()) => {
                self.note_resize(&allocated, &wanted, memory.resize.pending.as_ref().map(|(why, _)| *why));
                self.note_waited(&mut memory, "accepted");
                memory.resize.allocated = Some(wanted);
                memory.resize.pending = None;
                let generation = pod.metadata.generation;
                memory.resize.in_progress = Some(Progress { generation, error: None });
                let message = format!("Pod resize started: {}", resize::summary(pod, generation, ""));
                self.shared.recorder.normal(pod.reference(None), "ResizeStarted", message);
                pod.clone()
            }
            Err(shortage) => {
                let (reason, event) = match shortage.hopeless {
                    true => ("Infeasible", "ResizeInfeasible"),
                    false => ("Deferred", "ResizeDeferred"),
                };
                let pending = Some((reason, shortage.message.clone()));
                if memory.resize.pending != pending {
                    let summary = resize::summary(pod, pod.metadata.generation, &shortage.message);
                    let message = format!("Pod resize {reason}: {summary}");
                    self.shared.recorder.warning(pod.reference(None), event, message);
                    if shortage.hopeless {
                        self.shared.counts.count(&table::RESIZES_INFEASIBLE, &[shortage.kind]);
                    }
                    memory.resize.pending = pending;
                    self.note_deferred(&mut memory, !shortage.hopeless);
                }
                Arc::new(allocated.apply(pod).into_owned())
            }
        }
    }
}
