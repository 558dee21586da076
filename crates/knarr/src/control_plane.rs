//! The control plane in one process: store, API server, controllers, scheduler. The latter two are clients: each
//! authenticates as itself, and a request is a function call.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use apiserver::core::Core;
use auth::pki::Pki;
use base::{SharedClock, SharedRandom, Shutdown, SystemClock, SystemRandom, TaskGroup};
use client::leader::Election;
use controllers::clients::Clients;
use serde_json::{Value, json};
use store::Store;

use crate::api::{self, Api};
use crate::cluster::{ProcessRecord, Settings, alone, write_whole};
use crate::component::{elect, wait_for_end};
use crate::paths::Paths;
use crate::signer::OfCluster;

/// The ConfigMap in kube-system that tells nodes what they must know of their cluster.
pub const NODE_SETTINGS: &str = "knarr-node-settings";

/// Runs the control plane until the process is told to stop.
///
/// # Errors
/// What keeps it from starting, by name.
pub async fn run(paths: &Paths, settings: &Settings) -> Result<()> {
    let _alone = alone(&paths.process("server")).await?;
    let (clock, random) = (SystemClock::shared(), SystemRandom::shared());
    let shutdown = Shutdown::new();
    let store = open_store(paths, settings, &clock).await?;
    let pki = Arc::new(Pki::load_or_create(&paths.pki(), clock.clone(), random.clone())?);
    let tasks = TaskGroup::new(&shutdown);
    let api = api(settings, store.clone(), pki.clone())?;
    let core = api.start(clock.clone(), random.clone(), &tasks, &shutdown).await?;
    let parts = Parts { core: core.clone(), clock, random, identity: identity(paths, settings)? };
    parts.start_controllers(settings, pki, &tasks);
    parts.start_scheduler(&tasks);
    let record = ProcessRecord::of_self(&["apiserver", "store", "controller-manager", "scheduler"], None)?;
    write_whole(&paths.process("server"), &serde_json::to_vec(&record)?)?;
    let ended = wait_for_end(&shutdown).await;
    shutdown.trigger();
    tasks.stop().await;
    core.tasks.stop().await;
    store.close().await?;
    ended
}

fn api(settings: &Settings, store: Arc<dyn Store>, pki: Arc<Pki>) -> Result<Api> {
    Ok(Api {
        store,
        prefix: "/registry/".to_owned(),
        pki,
        service_cidr: settings.service_cidr(),
        node_ports: 30000..=32767,
        issuer: "https://kubernetes.default.svc.cluster.local".to_owned(),
        advertise: (IpAddr::V4(settings.advertise), settings.port),
        listen: addresses(settings),
        tls: (None, None),
        kubelets: (None, None),
        serve_all: false,
        max_in_flight: (200, 400),
        gates: settings.features.gates()?,
        initial_objects: node_settings(settings)?,
    })
}

fn addresses(settings: &Settings) -> Vec<SocketAddr> {
    if settings.listen_all {
        return vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.port))];
    }
    let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, settings.port))];
    if !settings.advertise.is_loopback() {
        addresses.push(SocketAddr::from((settings.advertise, settings.port)));
    }
    addresses
}

/// What a joining node must know, and who may read it.
fn node_settings(settings: &Settings) -> Result<Vec<(String, Value)>> {
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-system";
    let metadata = json!({"name": NODE_SETTINGS, "namespace": "kube-system"});
    let group = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name});
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
        "data": {"settings": serde_json::to_string(&settings.for_nodes())?},
    });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
        "rules": [{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NODE_SETTINGS], "verbs": ["get"],
        }],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NODE_SETTINGS},
        "subjects": [group("system:bootstrappers"), group("system:nodes")],
    });
    Ok(vec![
        ("/api/v1/namespaces/kube-system/configmaps".to_owned(), map),
        (format!("{roles}/roles"), role),
        (format!("{roles}/rolebindings"), binding),
    ])
}

/// Who competes for leadership, where others can. An embedded store has one process, and so needs no lease. The
/// identity outlives the process: it takes its own lease up again at once.
fn identity(paths: &Paths, settings: &Settings) -> Result<Option<String>> {
    if settings.store == "embedded" {
        return Ok(None);
    }
    let path = paths.data.join("identity");
    match std::fs::read_to_string(&path) {
        Ok(known) if !known.trim().is_empty() => return Ok(Some(elect::identity(known.trim()))),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("reading {}", path.display()));
        }
        _ => {}
    }
    let new = SystemRandom::shared().uuid();
    write_whole(&path, new.as_bytes())?;
    Ok(Some(elect::identity(&new)))
}

/// What the parts beside the API server share.
struct Parts {
    core: Arc<Core>,
    clock: SharedClock,
    random: SharedRandom,
    identity: Option<String>,
}

impl Parts {
    fn election(&self, component: &str) -> Option<Election> {
        self.identity.as_deref().map(|identity| Election::new(component, identity))
    }

    fn start_controllers(&self, settings: &Settings, pki: Arc<Pki>, tasks: &TaskGroup) {
        let manager = api::local(&self.core, "system:kube-controller-manager", &[]);
        let made = Clients::new(manager.clone(), |name| Ok::<_, Infallible>(api::account(&self.core, name)));
        let clients = match made {
            Ok(clients) => clients,
            Err(never) => match never {},
        };
        let settings = controllers::context::Settings {
            cluster_cidr: settings.cluster_cidr(),
            node_cidr_bits: settings.node_cidr_bits(),
            node_cidr_bits_v6: 64,
            root_ca: pki.ca_pem().to_owned(),
            node_grace_seconds: 50,
            terminated_pods: 12_500,
            signer: Some(Arc::new(OfCluster(pki))),
        };
        let (clock, random) = (self.clock.clone(), self.random.clone());
        let (election, shutdown) = (self.election("kube-controller-manager"), tasks.shutdown().clone());
        tasks.spawn_graceful(async move {
            let work = |tasks| {
                let (clients, settings) = (clients.clone(), settings.clone());
                let (clock, random) = (clock.clone(), random.clone());
                async move { controllers::run(clients, clock, random, settings, &tasks).await }
            };
            Box::pin(elect::lead(election, manager, clock.clone(), shutdown, work)).await;
        });
    }

    fn start_scheduler(&self, tasks: &TaskGroup) {
        let client = api::local(&self.core, "system:kube-scheduler", &[]);
        let (clock, random) = (self.clock.clone(), self.random.clone());
        let (election, shutdown) = (self.election("kube-scheduler"), tasks.shutdown().clone());
        tasks.spawn_graceful(async move {
            let work = |tasks| {
                let (client, clock, random) = (client.clone(), clock.clone(), random.clone());
                async move { scheduler::run(client, clock, random, &tasks).await }
            };
            elect::lead(election, client.clone(), clock.clone(), shutdown, work).await;
        });
    }
}

async fn open_store(paths: &Paths, settings: &Settings, clock: &SharedClock) -> Result<Arc<dyn Store>> {
    if settings.store == "embedded" {
        return api::embedded(&paths.store(), clock);
    }
    let Some(urls) = settings.store.strip_prefix("etcd=") else {
        bail!("--store is {:?}: it must be embedded, or etcd=URL", settings.store);
    };
    let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
    api::etcd(&urls, None).await
}
