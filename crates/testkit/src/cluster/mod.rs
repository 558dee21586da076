//! A cluster in this process: API servers over a chosen store, each with a real TLS listener, and on request the
//! controllers and the scheduler. Everything of it ends when it is dropped.

mod server;

use std::sync::Arc;
use std::time::Duration;

use apiserver::core::Core;
use auth::pki::{CertKey, Pki};
use auth::user::{MASTERS, User};
use base::{SharedClock, SharedRandom, Shutdown, SystemClock, SystemRandom, TaskGroup};
use store::Store;
use store::embedded::{Embedded, EmbeddedOptions};
use store::etcd::{Etcd, EtcdOptions};
use tempfile::TempDir;

pub use server::Server;

const HOUR: Duration = Duration::from_secs(3600);

/// Where a cluster's objects are.
#[derive(Clone)]
pub enum StoreChoice {
    /// In a directory of its own.
    Embedded,
    /// In a store that others use as well.
    Shared(Arc<dyn Store>),
    /// In an etcd; each API server has a connection of its own.
    Etcd(Vec<String>),
}

/// How a cluster is made.
#[derive(Clone)]
pub struct Options {
    /// Where its objects are.
    pub store: StoreChoice,
    /// Its prefix in the store.
    pub prefix: String,
    /// How many API servers.
    pub servers: usize,
    /// The time, for all of its parts.
    pub clock: SharedClock,
    /// Whether there are controllers.
    pub controllers: bool,
    /// Whether there is a scheduler.
    pub scheduler: bool,
    /// How many requests may be under way: those that change something, and others.
    pub max_in_flight: (usize, usize),
    /// Which features are on.
    pub gates: kinds::gates::Gates,
    /// How long a node may be silent, in seconds.
    pub node_grace_seconds: i64,
    /// How many pods that have ended are kept.
    pub terminated_pods: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            store: StoreChoice::Embedded,
            prefix: "/registry/".to_owned(),
            servers: 1,
            clock: SystemClock::shared(),
            controllers: false,
            scheduler: false,
            max_in_flight: (200, 400),
            gates: kinds::gates::Gates::default(),
            node_grace_seconds: 50,
            terminated_pods: 12_500,
        }
    }
}

/// A running cluster.
pub struct Cluster {
    options: Options,
    pki: Arc<Pki>,
    random: SharedRandom,
    own_store: Option<Arc<dyn Store>>,
    servers: Vec<Server>,
    shutdown: Shutdown,
    components: TaskGroup,
    dir: TempDir,
}

impl Cluster {
    /// A cluster of one API server on an embedded store.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// A cluster that also has controllers and a scheduler.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn whole() -> Self {
        Self::with(Options { controllers: true, scheduler: true, ..Options::default() }).await
    }

    /// A cluster.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn with(options: Options) -> Self {
        let dir = TempDir::with_prefix("knarr-cluster-").unwrap();
        let random = SystemRandom::shared();
        let pki =
            Pki::load_or_create(&dir.path().join("pki"), options.clock.clone(), random.clone()).unwrap();
        let own_store: Option<Arc<dyn Store>> = match &options.store {
            StoreChoice::Embedded => {
                let settings = EmbeddedOptions { clock: options.clock.clone(), ..EmbeddedOptions::default() };
                Some(Arc::new(Embedded::open(&dir.path().join("store"), settings).unwrap()))
            }
            StoreChoice::Shared(_) | StoreChoice::Etcd(_) => None,
        };
        let shutdown = Shutdown::new();
        let components = TaskGroup::new(&shutdown);
        let pki = Arc::new(pki);
        let mut cluster =
            Self { options, pki, random, own_store, servers: Vec::new(), shutdown, components, dir };
        for _ in 0..cluster.options.servers {
            let server = cluster.new_server(0).await;
            cluster.servers.push(server);
        }
        cluster.start_components();
        cluster
    }

    async fn new_server(&self, port: u16) -> Server {
        let store = match (&self.options.store, &self.own_store) {
            (_, Some(own)) => own.clone(),
            (StoreChoice::Shared(store), None) => store.clone(),
            (StoreChoice::Etcd(urls), None) => {
                Arc::new(Etcd::connect(urls, None, EtcdOptions::default()).await.unwrap())
            }
            (StoreChoice::Embedded, None) => panic!("an embedded store is the cluster's own"),
        };
        Server::start(store, &self.options, &self.pki, &self.random, port).await.unwrap()
    }

    fn start_components(&self) {
        let Some(core) = self.servers.first().map(Server::core) else { return };
        let clock = self.options.clock.clone();
        if self.options.controllers {
            server::run_controllers(core, &self.options, &self.pki, &self.random, &self.components);
        }
        if self.options.scheduler {
            let client = server::local(core, User::known("system:kube-scheduler", &[]));
            let (tasks, random) = (self.components.clone(), self.random.clone());
            self.components.spawn(async move { scheduler::run(client, clock, random, &tasks).await });
        }
    }

    /// The API server of this number.
    pub fn server(&self, number: usize) -> &Server {
        &self.servers[number]
    }

    /// What the first API server consists of.
    pub fn core(&self) -> &Arc<Core> {
        self.servers[0].core()
    }

    /// The store that the first API server uses.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.core().store
    }

    /// The time.
    pub fn clock(&self) -> &SharedClock {
        &self.options.clock
    }

    /// The cluster's keys.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// A directory that goes with the cluster.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A client in this process as any user.
    pub fn client_as(&self, name: &str, groups: &[&str]) -> kube::Client {
        server::local(self.core(), User::known(name, groups))
    }

    /// A client in this process who may do everything.
    pub fn admin(&self) -> kube::Client {
        self.client_as("admin", &[MASTERS])
    }

    /// A client certificate of this cluster.
    ///
    /// # Panics
    /// When it cannot be issued.
    pub fn certificate(&self, name: &str, groups: &[&str]) -> CertKey {
        self.pki.issue_client(name, groups, HOUR).unwrap()
    }

    /// A kubeconfig for the API server of this number, for a user with a certificate.
    pub fn kubeconfig(&self, number: usize, name: &str, groups: &[&str]) -> String {
        let certificate = self.certificate(name, groups);
        self.kubeconfig_with(number, auth::kubeconfig::Credential::Certificate(&certificate))
    }

    /// A kubeconfig for the API server of this number with any credential.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn kubeconfig_with(&self, number: usize, credential: auth::kubeconfig::Credential<'_>) -> String {
        auth::kubeconfig::render(&auth::kubeconfig::Entry {
            name: "test",
            server: &self.servers[number].url(),
            ca_pem: self.pki.ca_pem(),
            credential,
        })
        .unwrap()
    }

    /// A client over TLS, to the API server of this number, who may do everything.
    pub async fn tls(&self, number: usize) -> kube::Client {
        crate::http::connect(&self.kubeconfig(number, "admin", &[MASTERS])).await
    }

    /// Ends the API server of this number, and starts it anew on the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self, number: usize) {
        let port = self.servers[number].address().port();
        self.servers[number].stop().await;
        self.servers[number] = self.new_server(port).await;
    }

    /// Ends everything, and returns once it has ended.
    pub async fn stop(&mut self) {
        self.shutdown.trigger();
        self.components.stop().await;
        for server in &mut self.servers {
            server.stop().await;
        }
        if let Some(store) = self.own_store.take() {
            // What is on disk goes now; whether it could be made durable is of no interest.
            let _ = store.close().await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shutdown.trigger();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        // A runtime of one thread cannot wait here; its tasks then end by themselves.
        if runtime.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread {
            tokio::task::block_in_place(|| runtime.block_on(self.stop()));
        }
    }
}
