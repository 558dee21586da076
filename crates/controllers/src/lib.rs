//! The controllers: each a pure `plan` and a small `run` that applies it.
//!
//! They are clients like everybody else's: they list and watch, pass RBAC and admission, and know nothing of the
//! store. They are level-triggered: their queues hold keys, and a reconciler looks at what is.

pub mod accounts;
mod answer;
pub mod certificates;
pub mod clients;
pub mod context;
pub mod deployment;
pub mod device_taints;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod ephemeral;
pub mod expect;
pub mod garbage;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod persistent_volumes;
pub mod pod_certificates;
pub mod pod_gc;
pub mod replicaset;
pub mod resourceclaim;
pub mod share;
pub mod view;

use std::sync::{Arc, OnceLock};

use base::{SharedClock, SharedRandom, TaskGroup};
use client::events::{Bound, Recorder};

use context::{Context, Queues, Settings, start_informers};
use device_taints::DeviceTaints;
use disruption::run::Disruptions;
use endpoints::run::AllEndpoints;
use node_lifecycle::run::NodeLifecycle;
use pod_gc::run::PodGc;
use replicaset::run::ReplicaSets;
use resourceclaim::ResourceClaims;

/// Runs all controllers until the group stops. Leadership is the caller's.
pub async fn run(
    clients: clients::Clients,
    clock: SharedClock,
    random: SharedRandom,
    settings: Settings,
    tasks: &TaskGroup,
) {
    let queues = Queues::default();
    let sets: Arc<OnceLock<Arc<ReplicaSets>>> = Arc::default();
    let observer = sets.clone();
    let observe = Arc::new(move |key: &str, uid: &str, gone: bool| {
        if let Some(sets) = observer.get() {
            sets.expectations.observed(key, uid, gone);
        }
    });
    let informers = start_informers(&clients.manager, &queues, observe, tasks);
    let manager = clients.manager.clone();
    let recorder =
        Recorder::new(manager, clock.clone(), ("kube-controller-manager", ""), Bound::Sources, tasks);
    let context =
        Arc::new(Context { clients, informers, queues: queues.clone(), clock, random, recorder, settings });
    context.informers.synced().await;
    let sets = sets.get_or_init(|| Arc::new(ReplicaSets::new(context.clone()))).clone();
    let claims = ResourceClaims::new(context.clone());
    let device_taints = DeviceTaints::new(context.clone(), &queues);
    let nodes = NodeLifecycle::new(context.clone(), &queues);
    let pod_gc = PodGc::new(context.clone());
    let disruptions = Disruptions::new(context.clone());
    let endpoints = AllEndpoints::new(context.clone());
    tokio::join!(
        queues.replica_sets.run(5, |key| sets.reconcile(key)),
        queues.deployments.run(5, |key| deployment::run::reconcile(&context, key)),
        queues.services.run(5, |key| endpointslice::run::reconcile(&context, key)),
        queues.endpoints.run(5, |key| endpoints.reconcile(key)),
        queues.namespaces.run(4, |key| namespace::run::reconcile(&context, key)),
        queues.accounts.run(2, |key| accounts::reconcile(&context, key)),
        queues.node_cidrs.run(1, |key| node_ipam::reconcile(&context, key)),
        queues.node_health.run(2, |name| nodes.reconcile(name)),
        queues.evictions.run(4, |key| nodes.evict(key)),
        queues.disruptions.run(2, |key| disruptions.reconcile(key)),
        queues.pod_gc.run(2, |key| pod_gc.reconcile(key)),
        queues.certificates.run(1, |key| certificates::run::reconcile(&context, key)),
        queues.ephemeral_volumes.run(2, |key| ephemeral::run::reconcile(&context, key)),
        // One at a time: two claims would fight for a volume.
        queues.persistent_volumes.run(1, |key| persistent_volumes::run::reconcile(&context, key)),
        queues.protection.run(2, |key| persistent_volumes::protection::reconcile(&context, key)),
        queues.pod_certificate_requests.run(1, |key| pod_certificates::reconcile(&context, key)),
        async {
            // Older API servers have none, so that nobody else waits for them.
            let copies = &context.informers;
            let _ = tokio::join!(copies.resource_claims.synced(), copies.resource_claim_templates.synced());
            queues.resource_claims.run(10, |key| claims.reconcile(key)).await;
        },
        async {
            device_taints.synced().await;
            queues.device_taints.run(8, |key| device_taints.reconcile(key)).await;
        },
        nodes.watch_over(),
        garbage::run::run(&context, tasks),
    );
}
