//! What all controllers share: the client, the informers, the clock and the event recorder.

use std::sync::Arc;

use base::{SharedClock, SharedRandom, TaskGroup};
use client::events::Recorder;
use client::{Index, Informer, Reflector, Resource, WorkQueue};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use kube::api::ObjectMeta;

use crate::clients::Clients;
use crate::view::{AnyView, PodView};

/// The copies of objects that controllers look at.
pub struct Informers {
    /// Pods.
    pub pods: Reflector<PodView>,
    /// Replica sets.
    pub replica_sets: Reflector<ReplicaSet>,
    /// Deployments.
    pub deployments: Reflector<Deployment>,
    /// Services.
    pub services: Reflector<Service>,
    /// What was before endpoint slices.
    pub endpoints: Reflector<k8s_openapi::api::core::v1::Endpoints>,
    /// Endpoint slices.
    pub slices: Reflector<EndpointSlice>,
    /// Namespaces.
    pub namespaces: Reflector<Namespace>,
    /// Nodes.
    pub nodes: Reflector<Node>,
    /// The nodes' leases.
    pub leases: Reflector<Lease>,
    /// Service accounts: their metadata.
    pub service_accounts: Reflector<AnyView>,
    /// The config maps named `kube-root-ca.crt`.
    pub root_cas: Reflector<ConfigMap>,
    /// Disruption budgets.
    pub budgets: Reflector<PodDisruptionBudget>,
    /// Claims of volumes, volumes and their classes.
    pub storage: crate::persistent_volumes::Copies,
    /// Claims of dynamic resources. Older API servers have none, so that only their controller waits for them.
    pub resource_claims: Reflector<ResourceClaim>,
    /// What such claims are made from.
    pub resource_claim_templates: Reflector<ResourceClaimTemplate>,
    /// Pods by the claims and templates that they name.
    pub claimed: Arc<Index>,
    /// What taints devices. Older API servers have none, so that only one controller waits for it.
    pub device_taints: crate::device_taints::Copies,
    /// Requests for pods' certificates: their metadata. Older API servers have none, so that nobody waits for them.
    pub pod_certificate_requests: Reflector<AnyView>,
    /// Certificate requests.
    pub certificate_requests: Reflector<CertificateSigningRequest>,
}

/// What all controllers share.
pub struct Context {
    /// The API, as each controller.
    pub clients: Clients,
    /// Copies.
    pub informers: Informers,
    /// What is to be looked at.
    pub queues: Queues,
    /// The time.
    pub clock: SharedClock,
    /// Randomness.
    pub random: SharedRandom,
    /// Events.
    pub recorder: Recorder,
    /// Settings.
    pub settings: Settings,
}

/// What an operator may set.
#[derive(Clone)]
pub struct Settings {
    /// The network that nodes' pod networks are parts of, such as `10.244.0.0/16`, or one of each family, parted by a
    /// comma; empty: nodes have theirs already.
    pub cluster_cidr: String,
    /// The prefix length of a node's part of IPv4.
    pub node_cidr_bits: u8,
    /// The prefix length of a node's part of IPv6.
    pub node_cidr_bits_v6: u8,
    /// The cluster's certificate authority, for `kube-root-ca.crt`.
    pub root_ca: String,
    /// How long a node may be silent before it counts as lost, in seconds.
    pub node_grace_seconds: i64,
    /// So many pods that have ended are kept; 0: all.
    pub terminated_pods: usize,
    /// Signs certificate requests; without it they are left to somebody else.
    pub signer: Option<Arc<dyn crate::certificates::Signer>>,
}

/// The queues that changes of objects fill.
#[derive(Clone, Default)]
pub struct Queues {
    /// Deployments.
    pub deployments: WorkQueue<String>,
    /// Replica sets.
    pub replica_sets: WorkQueue<String>,
    /// Services, for their endpoint slices.
    pub services: WorkQueue<String>,
    /// Services and `Endpoints`, for the latter and the slices that mirror them.
    pub endpoints: WorkQueue<String>,
    /// Namespaces that are being deleted.
    pub namespaces: WorkQueue<String>,
    /// Namespaces, for what each must have.
    pub accounts: WorkQueue<String>,
    /// Nodes, for their pod networks.
    pub node_cidrs: WorkQueue<String>,
    /// Nodes, for their conditions and taints.
    pub node_health: WorkQueue<String>,
    /// Pods that are on nodes, which may not bear them.
    pub evictions: WorkQueue<String>,
    /// Pods, and nodes whose pods, somebody has to delete.
    pub pod_gc: WorkQueue<crate::pod_gc::Key>,
    /// Disruption budgets, and pods that are said to be going.
    pub disruptions: WorkQueue<crate::disruption::Key>,
    /// Pods with volumes whose claims are made for them.
    pub ephemeral_volumes: WorkQueue<String>,
    /// Claims of volumes, and volumes, for each other.
    pub persistent_volumes: WorkQueue<crate::persistent_volumes::Key>,
    /// Claims of volumes, and volumes, that are held while they are used.
    pub protection: WorkQueue<crate::persistent_volumes::protection::Key>,
    /// Claims of dynamic resources, and pods that want some.
    pub resource_claims: WorkQueue<crate::resourceclaim::Key>,
    /// Pods that use tainted devices, and the rules that taint them.
    pub device_taints: WorkQueue<crate::device_taints::Key>,
    /// Requests for pods' certificates.
    pub pod_certificate_requests: WorkQueue<String>,
    /// Certificate requests.
    pub certificates: WorkQueue<String>,
}

/// What the start of the informers needs to know of replica sets: they count what they made.
pub type PodObserver = Arc<dyn Fn(&str, &str, bool) + Send + Sync>;

/// Begins all informers. Each change is turned into keys at once; nothing else is remembered of it.
pub fn start_informers(
    client: &kube::Client,
    queues: &Queues,
    observe: PodObserver,
    tasks: &TaskGroup,
) -> Informers {
    let core = |kind, plural| Resource::all("", "v1", kind, plural);
    let apps = |kind, plural| Resource::all("apps", "v1", kind, plural);
    let mut deployments: Informer<Deployment> =
        Informer::new(client.clone(), apps("Deployment", "deployments"));
    let queue = queues.deployments.clone();
    deployments.on_change(move |change| queue.add(change.key().to_owned()));

    let mut sets: Informer<ReplicaSet> = Informer::new(client.clone(), apps("ReplicaSet", "replicasets"));
    let (queue, parents) = (queues.replica_sets.clone(), queues.deployments.clone());
    sets.on_change(move |change| {
        queue.add(change.key().to_owned());
        let (client::Change::Set { new: set, .. } | client::Change::Removed { old: set, .. }) = change;
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let owners = set.metadata.owner_references.iter().flatten();
        for owner in owners.filter(|owner| owner.controller == Some(true)) {
            parents.add(crate::view::key(namespace, &owner.name));
        }
    });

    let mut services: Informer<Service> = Informer::new(client.clone(), core("Service", "services"));
    let (queue, endpoints) = (queues.services.clone(), queues.endpoints.clone());
    services.on_change(move |change| {
        queue.add(change.key().to_owned());
        endpoints.add(change.key().to_owned());
    });

    let mut slices: Informer<EndpointSlice> = Informer::new(
        client.clone(),
        Resource::all("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
    );
    let (queue, endpoints) = (queues.services.clone(), queues.endpoints.clone());
    slices.on_change(move |change| {
        let (client::Change::Set { new: slice, .. } | client::Change::Removed { old: slice, .. }) = change;
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) {
            let key = crate::view::key(slice.metadata.namespace.as_deref().unwrap_or_default(), service);
            endpoints.add(key.clone());
            queue.add(key);
        }
    });

    let mut namespaces: Informer<Namespace> = Informer::new(client.clone(), core("Namespace", "namespaces"));
    let (going, accounts) = (queues.namespaces.clone(), queues.accounts.clone());
    namespaces.on_change(move |change| {
        going.add(change.key().to_owned());
        accounts.add(change.key().to_owned());
    });

    let mut nodes: Informer<Node> = Informer::new(client.clone(), core("Node", "nodes"));
    let (cidrs, health) = (queues.node_cidrs.clone(), queues.node_health.clone());
    let pod_gc = queues.pod_gc.clone();
    nodes.on_change(move |change| {
        cidrs.add(change.key().to_owned());
        health.add(change.key().to_owned());
        crate::pod_gc::follow_node(&pod_gc, change);
    });
    let leases: Informer<Lease> = Informer::new(
        client.clone(),
        Resource::all("coordination.k8s.io", "v1", "Lease", "leases").in_namespace("kube-node-lease"),
    );

    let mut service_accounts: Informer<AnyView> =
        Informer::new(client.clone(), core("ServiceAccount", "serviceaccounts"));
    let queue = queues.accounts.clone();
    service_accounts.on_change(move |change| queue.add(crate::view::split(change.key()).0.to_owned()));

    let mut root_cas: Informer<ConfigMap> = Informer::new(
        client.clone(),
        core("ConfigMap", "configmaps").with_fields("metadata.name=kube-root-ca.crt"),
    );
    let queue = queues.accounts.clone();
    root_cas.on_change(move |change| queue.add(crate::view::split(change.key()).0.to_owned()));

    let requests =
        Resource::all("certificates.k8s.io", "v1", "CertificateSigningRequest", "certificatesigningrequests");
    let mut certificate_requests: Informer<CertificateSigningRequest> =
        Informer::new(client.clone(), requests);
    let queue = queues.certificates.clone();
    certificate_requests.on_change(move |change| queue.add(change.key().to_owned()));

    let requests =
        Resource::all("certificates.k8s.io", "v1", "PodCertificateRequest", "podcertificaterequests");
    let mut pod_certificate_requests: Informer<AnyView> = Informer::new(client.clone(), requests);
    let queue = queues.pod_certificate_requests.clone();
    pod_certificate_requests.on_change(move |change| queue.add(change.key().to_owned()));

    let mut budgets: Informer<PodDisruptionBudget> = Informer::new(
        client.clone(),
        Resource::all("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    );
    let queue = queues.disruptions.clone();
    budgets.on_change(move |change| queue.add(crate::disruption::Key::Budget(change.key().to_owned())));

    let services = services.start(tasks);
    let replica_sets = sets.start(tasks);
    let budgets = budgets.start(tasks);
    let owners = (services.clone(), replica_sets.clone(), budgets.clone());
    let claimed = Arc::new(Index::default());
    let storage = crate::persistent_volumes::start_informers(client, queues, tasks);
    let indices = (claimed.clone(), storage.users.clone());
    let pods = start_pods(client, queues, observe, owners, indices, tasks);
    let (resource_claims, resource_claim_templates) =
        crate::resourceclaim::start_informers(client, queues, &claimed, tasks);
    let device_taints = crate::device_taints::start_informers(client, queues, &resource_claims, tasks);
    Informers {
        pods,
        resource_claims,
        resource_claim_templates,
        claimed,
        device_taints,
        replica_sets,
        deployments: deployments.start(tasks),
        services,
        budgets,
        endpoints: crate::endpoints::start_informer(client, queues, tasks),
        slices: slices.start(tasks),
        namespaces: namespaces.start(tasks),
        nodes: nodes.start(tasks),
        leases: leases.start(tasks),
        service_accounts: service_accounts.start(tasks),
        root_cas: root_cas.start(tasks),
        storage,
        pod_certificate_requests: pod_certificate_requests.start(tasks),
        certificate_requests: certificate_requests.start(tasks),
    }
}

fn start_pods(
    client: &kube::Client,
    queues: &Queues,
    observe: PodObserver,
    (services, owners, budgets): (Reflector<Service>, Reflector<ReplicaSet>, Reflector<PodDisruptionBudget>),
    (claimed, users): (Arc<Index>, Arc<Index>),
    tasks: &TaskGroup,
) -> Reflector<PodView> {
    let mut pods: Informer<PodView> = Informer::new(client.clone(), Resource::all("", "v1", "Pod", "pods"));
    let sets = queues.replica_sets.clone();
    let selecting = [queues.services.clone(), queues.endpoints.clone()];
    let evictions = queues.evictions.clone();
    let pod_gc = queues.pod_gc.clone();
    let ephemeral = queues.ephemeral_volumes.clone();
    let disruptions = queues.disruptions.clone();
    let resource_claims = queues.resource_claims.clone();
    let device_taints = queues.device_taints.clone();
    let protection = queues.protection.clone();
    pods.on_change(move |change| {
        let (pod, old, gone) = match change {
            client::Change::Set { new, old, .. } => (*new, *old, new.metadata.deletion_timestamp.is_some()),
            client::Change::Removed { old, .. } => (*old, None, true),
        };
        let is_removed = matches!(change, client::Change::Removed { .. });
        if is_removed {
            claimed.remove(change.key());
        } else if !pod.spec.resource_claims.is_empty() {
            claimed.set(change.key(), crate::resourceclaim::names(pod));
        }
        let has_moved = old.is_none_or(|old| {
            old.spec.node_name != pod.spec.node_name
                || old.status.resource_claim_statuses != pod.status.resource_claim_statuses
        });
        if has_moved && !pod.spec.resource_claims.is_empty() {
            device_taints.add(crate::device_taints::Key::Pod(change.key().to_owned()));
        }
        crate::resourceclaim::keys(pod, is_removed).into_iter().for_each(|key| resource_claims.add(key));
        let namespace = &pod.metadata.namespace;
        if !gone && !pod.spec.node_name.is_empty() && old.is_none_or(|old| old.spec.node_name.is_empty()) {
            evictions.add(change.key().to_owned());
        }
        if !is_removed {
            crate::pod_gc::follow_pod(&pod_gc, change.key(), pod, old.map(AsRef::as_ref));
        }
        let before = old.map(AsRef::as_ref);
        crate::disruption::follow_pod(&disruptions, &budgets, pod, before, is_removed);
        let is_new = old.is_none_or(|old| old.metadata.uid != pod.metadata.uid);
        crate::persistent_volumes::follow_pod(&users, &protection, change.key(), pod, is_removed);
        if !gone && is_new && !pod.spec.volumes.made.is_empty() {
            ephemeral.add(change.key().to_owned());
        }
        match pod.metadata.controller() {
            Some(owner) if owner.kind == "ReplicaSet" => {
                let key = crate::view::key(namespace, &owner.name);
                observe(&key, &pod.metadata.uid, gone);
                sets.add(key);
            }
            Some(_) => {}
            // An orphan may be somebody's: every set that selects it looks at it.
            None => orphaned(pod, &owners, &sets),
        }
        for service in services.in_namespace(namespace) {
            let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
                continue;
            };
            let selects = |pod: &PodView| {
                selector.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
            };
            if selects(pod) || old.is_some_and(|old| selects(old)) {
                let key = crate::view::key(namespace, service.metadata.name.as_deref().unwrap_or_default());
                selecting.iter().for_each(|queue| queue.add(key.clone()));
            }
        }
    });
    pods.start(tasks)
}

fn orphaned(pod: &PodView, owners: &Reflector<ReplicaSet>, sets: &WorkQueue<String>) {
    for set in owners.in_namespace(&pod.metadata.namespace) {
        let selector = Some(&set.spec.selector);
        if kinds::selector::matches(selector, &pod.metadata.labels) {
            sets.add(crate::view::key(
                &pod.metadata.namespace,
                set.metadata.name.as_deref().unwrap_or_default(),
            ));
        }
    }
}

impl Informers {
    /// Returns once every first list is in.
    pub async fn synced(&self) {
        let _ = tokio::join!(
            self.pods.synced(),
            self.replica_sets.synced(),
            self.deployments.synced(),
            self.services.synced(),
            self.endpoints.synced(),
            self.slices.synced(),
            self.namespaces.synced(),
            self.nodes.synced(),
            self.leases.synced(),
            self.service_accounts.synced(),
            self.root_cas.synced(),
            self.storage.synced(),
            self.budgets.synced(),
            self.certificate_requests.synced(),
        );
    }
}

/// What an event is about.
pub fn reference(api_version: &str, kind: &str, metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(api_version.to_owned()),
        kind: Some(kind.to_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}
