//! Puts an API server together: caches filled, everything served, the cluster's own objects there.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use base::memory::{GiveBack, Pace};
use base::{SharedClock, SharedRandom, Shutdown, TaskGroup};
use parking_lot::RwLock;
use store::{Store, StoreError};

use crate::cache::feeder::Feeder;
use crate::cache::{Cache, Progress};
use crate::codec::Codec;
use crate::core::{Core, Settings};
use crate::effects::Allocators;
use crate::flow::Flow;
use crate::kubelet_client::KubeletClient;
use crate::pipeline::authenticate::Authenticator;
use crate::registry::{self, Registry};
use crate::security::{self, Security};
use crate::{bootstrap, crds};

/// What an API server is made of.
pub struct Config {
    /// Where objects are.
    pub store: Arc<dyn Store>,
    /// The cluster's prefix in the store: `/registry/`.
    pub prefix: String,
    /// The time.
    pub clock: SharedClock,
    /// For UIDs and names.
    pub random: SharedRandom,
    /// The range of cluster IPs.
    pub service_cidr: String,
    /// The range of node ports.
    pub node_ports: RangeInclusive<u16>,
    /// The `iss` of service account tokens.
    pub issuer: String,
    /// Where other machines and pods reach this API server: IP address and port.
    pub advertise: (std::net::IpAddr, u16),
    /// Who is who, and who may do what.
    pub security: Security,
    /// How kubelets are spoken to.
    pub kubelet_tls: Arc<rustls::ClientConfig>,
    /// Which versions are served: all of them, or only the stable ones (`--runtime-config=api/all=true`).
    pub serve_all: bool,
    /// How many requests may be under way: those that change something, and others.
    pub max_in_flight: (usize, usize),
    /// Which features are on.
    pub gates: kinds::gates::Gates,
    /// Objects to make when they are not there: path of the collection and JSON.
    pub initial_objects: Vec<(String, serde_json::Value)>,
    /// Ends everything.
    pub shutdown: Shutdown,
}

/// Why an API server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error("reading the store: {0}")]
    Store(#[from] StoreError),
    /// It was told to stop, or could not follow the store.
    #[error("stopped while starting: the log says why")]
    Stopped,
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The cluster's own objects cannot be made.
    #[error("making {path}: {message}")]
    Bootstrap {
        /// What was to be made.
        path: String,
        /// What the pipeline said.
        message: String,
    },
}

/// Starts an API server. It answers as soon as this returns; listening is the caller's.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: Config) -> Result<Arc<Core>, StartError> {
    let progress = Arc::new(Progress::default());
    let feeder = Arc::new(Feeder::new(config.store.clone(), config.prefix.clone(), progress.clone()));
    let security = Arc::new(config.security.clone());
    let registry = built_in(&config, &feeder, &progress);
    let allocators = Allocators::new(&config.service_cidr, config.node_ports.clone(), config.random.clone())
        .map_err(StartError::Setting)?;
    let core = Arc::new(Core {
        store: config.store,
        prefix: config.prefix,
        clock: config.clock,
        random: config.random,
        registry: RwLock::new(Arc::new(registry)),
        feeder: feeder.clone(),
        transformer: security.clone(),
        authenticator: Authenticator::new(security.clone()),
        authorizer: security.authorizer(),
        allocators,
        kubelets: KubeletClient::new(config.kubelet_tls),
        tokens: security.clone(),
        event_leases: Default::default(),
        flow: Flow::new(config.max_in_flight.0, config.max_in_flight.1),
        usage: Default::default(),
        metrics: Default::default(),
        tasks: TaskGroup::new(&config.shutdown),
        settings: Settings {
            service_cidr: config.service_cidr,
            node_ports: config.node_ports,
            issuer: config.issuer,
            max_in_flight: config.max_in_flight,
            gates: config.gates,
        },
    });
    let filled = feeder.fill().await?;
    follow(&core, filled.at);
    tokio::select! {
        () = progress.wait_for(filled.newest) => {}
        () = config.shutdown.wait() => return Err(StartError::Stopped),
    }
    rebuild_allocators(&core);
    security::follow(&core, &security);
    crds::start(&core).await?;
    bootstrap::run(&core, config.advertise, &config.initial_objects).await?;
    security::policy::reconcile(&core).await?;
    Ok(core)
}

fn built_in(config: &Config, feeder: &Feeder, progress: &Arc<Progress>) -> Registry {
    let mut registry = Registry::default();
    let mut caches: BTreeMap<&str, Arc<Cache>> = BTreeMap::new();
    for row in kinds::table().iter().filter(|row| config.serve_all || row.is_stable()) {
        let cache = row.storage_prefix.and_then(|prefix| {
            if let Some(cache) = caches.get(prefix) {
                return Some(cache.clone());
            }
            let probe = registry::from_row(
                row,
                Some(Arc::new(Cache::new(prefix, Arc::new(Nothing), progress.clone()))),
            )?;
            let (storage, _) = probe.stored?;
            let codec = Codec {
                storage,
                kind: row.kind.to_owned(),
                namespaced: row.namespaced,
                selectable: probe.rules.selectable,
                completes: probe.rules.completes,
                cluster_prefix: config.prefix.clone(),
                transformer: Arc::new(config.security.clone()),
            };
            let cache = Arc::new(Cache::new(prefix, Arc::new(codec), progress.clone()));
            feeder.add(cache.clone());
            caches.insert(prefix, cache.clone());
            Some(cache)
        });
        if let Some(resource) = registry::from_row(row, cache) {
            registry.insert(resource);
        }
    }
    registry
}

/// Stands in while a cache's own codec is being made; never reads anything.
struct Nothing;

impl crate::cache::Extract for Nothing {
    fn entry(
        &self,
        prefix: &str,
        key: &str,
        revision: u64,
        _: &[u8],
    ) -> Result<crate::cache::Entry, crate::cache::Unreadable> {
        let why = "no codec was given to this cache".to_owned();
        Err(crate::cache::Unreadable { prefix: prefix.to_owned(), key: key.to_owned(), revision, why })
    }

    fn at_revision(&self, entry: &crate::cache::Entry, revision: u64) -> crate::cache::Entry {
        crate::cache::Entry {
            key: entry.key.clone(),
            revision,
            bytes: entry.bytes.clone(),
            labels: entry.labels.clone(),
            fields: entry.fields.clone(),
        }
    }
}

/// Quiet for longer than there is between two bookmarks of a watch (upstream's `eventFreshDuration`), and than clients
/// keep connections.
const PACE: Pace = Pace { least: 64, calm: 32, quiet: Duration::from_secs(75) };

fn follow(core: &Arc<Core>, revision: u64) {
    let feeder = core.feeder.clone();
    let shutdown = core.tasks.shutdown().clone();
    let memory = GiveBack::default();
    let (freed, store) = (core.feeder.clone(), core.store.clone());
    memory.clone().run(&core.tasks, PACE, move || {
        freed.rest();
        let store = store.clone();
        async move { store.rest().await }
    });
    core.tasks.spawn(async move {
        if let Err(error) = feeder.run(revision, &memory, shutdown.clone()).await {
            // Reads would grow stale from here on: it is better to stop and be started anew.
            tracing::error!(%error, "the store cannot be followed any longer; stopping");
            shutdown.trigger();
        }
    });
}

fn rebuild_allocators(core: &Arc<Core>) {
    let registry = core.registry();
    let Some(resource) = registry.preferred("", "services") else { return };
    let Ok((codec, cache)) = core.codec(resource) else { return };
    let services: Vec<_> = cache.list("").1.iter().filter_map(|entry| codec.object(entry).ok()).collect();
    core.allocators.rebuild(services.iter());
}
