//! The control plane in one process: store, API server, controllers, scheduler. The latter two are clients: each
//! authenticates as itself, and a request is a function call.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use apiserver::security::Security;
use apiserver::server::Local;
use auth::pki::Pki;
use auth::user::User;
use base::{Shutdown, SystemClock, SystemRandom, TaskGroup};
use store::Store;
use tokio::net::TcpListener;

use crate::cluster::{ProcessRecord, Settings, write_whole};
use crate::paths::Paths;

/// Runs the control plane until the process is told to stop.
///
/// # Errors
/// What keeps it from starting, by name.
pub async fn run(paths: &Paths, settings: &Settings) -> Result<()> {
    let clock = SystemClock::shared();
    let random = SystemRandom::shared();
    let shutdown = Shutdown::new();
    let store = open_store(paths, settings, &clock).await?;
    let pki = Pki::load_or_create(&paths.pki(), clock.clone(), random.clone())?;
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let security = Security::new(&pki, issuer, &clock, &random)?;
    let year = std::time::Duration::from_secs(365 * 24 * 3600);
    let kubelet_client = pki.issue_client("kube-apiserver-kubelet-client", &["system:masters"], year)?;
    let core = apiserver::start::start(apiserver::start::Config {
        store: store.clone(),
        prefix: "/registry/".to_owned(),
        clock: clock.clone(),
        random: random.clone(),
        service_cidr: settings.service_cidr(),
        node_ports: 30000..=32767,
        issuer: issuer.to_owned(),
        advertise: (IpAddr::V4(settings.advertise), settings.port),
        security,
        kubelet_tls: auth::pki::client_config(pki.ca_pem(), Some(&kubelet_client))?,
        serve_all: false,
        max_in_flight: (200, 400),
        initial_objects: Vec::new(),
        shutdown: shutdown.clone(),
    })
    .await?;
    let tasks = TaskGroup::new(&shutdown);
    for address in addresses(settings) {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("the API server cannot listen on {address}: free the port, or choose another with --port")
        })?;
        let serving = pki.apiserver_cert(&names(settings))?;
        let acceptor =
            tokio_rustls::TlsAcceptor::from(auth::pki::server_config(&serving, Some(pki.ca_pem()))?);
        tasks.spawn_graceful(apiserver::server::listen(core.clone(), listener, acceptor, shutdown.clone()));
    }
    let local = |name: &str| client::connect::local(Local::new(core.clone(), User::known(name, &[])));
    let manager = controllers::context::Settings {
        cluster_cidr: settings.cluster_cidr(),
        node_cidr_bits: 24,
        root_ca: pki.ca_pem().to_owned(),
        node_grace_seconds: 50,
    };
    let managed = tasks.clone();
    let client = client::connect::local(Local::new(
        core.clone(),
        User::known("system:kube-controller-manager", &[auth::user::MASTERS]),
    ));
    let (for_controllers, random_for) = (clock.clone(), random.clone());
    tasks.spawn(async move {
        controllers::run(client, for_controllers, random_for, manager, &managed).await;
    });
    let (scheduling, client, clock_for) = (tasks.clone(), local("system:kube-scheduler"), clock.clone());
    let random_for = random.clone();
    tasks.spawn(async move {
        scheduler::run(client, clock_for, random_for, &scheduling).await;
    });
    let record = ProcessRecord::of_self(&["apiserver", "store", "controller-manager", "scheduler"], None)?;
    write_whole(&paths.process("server"), &serde_json::to_vec(&record)?)?;
    wait_for_end(&shutdown).await?;
    shutdown.trigger();
    tasks.stop().await;
    core.tasks.stop().await;
    store.close().await?;
    Ok(())
}

fn addresses(settings: &Settings) -> Vec<SocketAddr> {
    let mut addresses = vec![SocketAddr::from(([127, 0, 0, 1], settings.port))];
    if !settings.advertise.is_loopback() {
        addresses.push(SocketAddr::from((settings.advertise, settings.port)));
    }
    addresses
}

fn names(settings: &Settings) -> Vec<String> {
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    .iter()
    .map(|&name| name.to_owned())
    .collect();
    names.extend([
        "127.0.0.1".to_owned(),
        settings.advertise.to_string(),
        settings.kubernetes_ip().to_string(),
    ]);
    names
}

async fn open_store(paths: &Paths, settings: &Settings, clock: &base::SharedClock) -> Result<Arc<dyn Store>> {
    if settings.store == "embedded" {
        let options = store::embedded::EmbeddedOptions { clock: clock.clone(), ..Default::default() };
        return Ok(Arc::new(store::embedded::Embedded::open(&paths.store(), options)?));
    }
    let Some(urls) = settings.store.strip_prefix("etcd=") else {
        bail!("--store is {:?}: it must be embedded, or etcd=URL", settings.store);
    };
    let urls: Vec<String> = urls.split(',').map(str::to_owned).collect();
    let etcd = store::etcd::Etcd::connect(&urls, None, store::etcd::EtcdOptions::default()).await?;
    Ok(Arc::new(etcd))
}

async fn wait_for_end(shutdown: &Shutdown) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => Ok(()),
        _ = int.recv() => Ok(()),
        () = shutdown.wait() => bail!("a part that the rest depends on has stopped: see the log"),
    }
}
