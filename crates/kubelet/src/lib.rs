//! The kubelet: runs the pods that are bound to its node, through the CRI, and tells the API server of them.
//!
//! The map: `node` registers the node and keeps its status and lease; `pods` has one worker per pod, whose
//! decisions are pure (`pods::plan`, `pods::status`); `volumes` puts files where containers mount them; `probes`
//! asks containers how they are; `statics` reads manifests of the node; `configuration` reads a
//! KubeletConfiguration; `credentials` asks who pulls images; `certificates` has the node's certificates issued and
//! renewed; `shutdown` ends pods before the machine does; `eviction` and `collect` keep the node from running full;
//! `exclusive` gives containers what they have for themselves: `devices` of `plugins`, `cpus` and `memory`, near to
//! each other as `topology` says; `claims` are what drivers prepare for them; `checkpoint` keeps that over restarts,
//! `pod_resources` tells it, and `pods_api` which pods there are; `cgroups` limits pods as a whole; `api` is the
//! kubelet's own HTTPS API; `runtime` speaks the CRI.
//!
//! It does not know how containers or networks are made, and nothing of schedulers or controllers.
//!
//! Invariants:
//! - All that it does can be done again: a kubelet that was killed finds its pods by their labels and goes on.
//! - A pod's object is deleted only after its containers, its sandbox and its volumes are gone.
//! - An API server that is away stops no container and no restart.

pub mod alone;
mod api;
mod begin;
mod bus;
mod cache;
pub mod certificates;
mod cgroups;
mod changes;
mod checkpoint;
mod claims;
mod collect;
mod configuration;
mod counts;
mod cpus;
mod credentials;
mod devices;
mod error;
mod eviction;
mod exclusive;
mod machine;
mod memory;
mod node;
mod plugins;
mod pod_resources;
mod pods;
mod pods_api;
mod probes;
mod runtime;
mod shutdown;
mod socket;
mod statics;
mod throttle;
mod topology;
mod volumes;

pub use collect::logs::Rotation as LogRotation;
pub use configuration::{
    Configuration, ConfigurationError, Fields as ConfigurationFields, Format as LogFormat,
};
pub use credentials::{CredentialProviderError, CredentialProviders};
pub use error::KubeletError;
pub use eviction::{Settings as EvictionSettings, SettingsError as EvictionSettingsError};
pub use node::Cloud;
pub use shutdown::Paths as ShutdownPaths;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use auth::pki::{Authorities, Serving};
use base::{SharedClock, SharedRandom, TaskGroup};
use client::events::{Bound, Recorder};
use client::rate::Rate;
use client::{Informer, Reflector, Resource};
use kinds::gates::Gate;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::certificates::Measure;
use crate::cgroups::Cgroups;
use crate::claims::Claims;
use crate::collect::logs::grown::Grown;
use crate::counts::Counts;
use crate::eviction::Pressure;
use crate::exclusive::Exclusive;
use crate::machine::Machine;
use crate::node::view::NodeView;
use crate::pods::Pods;
use crate::pods::admission::sysctls::Sysctls;
use crate::pods::env::ServiceView;
use crate::pods::ledger::Ledger;
use crate::pods::means::Means;
use crate::pods::pull_rate;
use crate::pods::pull_records::Records;
use crate::pods::userns::Users;
use crate::pods_api::Watched;
use crate::runtime::Runtime;
use crate::volumes::{OwnLogs, Volumes};

/// What a kubelet is told.
pub struct Config {
    /// The name of its node.
    pub node_name: String,
    /// Where pods' volumes are: `<root>/pods/<uid>/volumes/…`.
    pub root_dir: PathBuf,
    /// Where containers' logs are, as upstream's `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Where links to these are, as upstream's `/var/log/containers`.
    pub container_links: PathBuf,
    /// Whether both are folders of the node that its pods see as the machine's: `pods` and `containers` in one folder.
    pub owns_logs: bool,
    /// Such as `unix:///run/knarr/cri.sock`.
    pub cri_endpoint: String,
    /// The node's address.
    pub node_ip: IpAddr,
    /// Its address of the other family, if it has one.
    pub second_node_ip: Option<IpAddr>,
    /// The node's host name.
    pub hostname: String,
    /// Where its own HTTPS API listens.
    pub listen: SocketAddr,
    /// The certificate of that API.
    pub serving: Arc<Serving>,
    /// How the renewals of its own certificates go: the one it shows to the API server, and the one it serves with.
    pub renewals: (Option<Arc<Measure>>, Option<Arc<Measure>>),
    /// Whether there is no API server, and the client is [`alone::client`].
    pub alone: bool,
    /// The home of its user, beneath which credentials of registries may be; `None` where that is nobody's business.
    pub home: Option<PathBuf>,
    /// Who says where the node is.
    pub cloud: Cloud,
    /// Whose client certificates that API trusts; without, nobody's.
    pub clients: Option<Arc<Authorities>>,
    /// The cluster's DNS servers.
    pub cluster_dns: Vec<IpAddr>,
    /// Such as `cluster.local`.
    pub cluster_domain: String,
    /// The cgroup under which `kubepods` is, such as `/` or `/knarr/a`.
    pub cgroup_root: String,
    /// Whether the machine is the node's own, so that the kernel's settings are made as upstream's kubelet makes them.
    pub owns_machine: bool,
    /// A declared capacity: millicores and bytes of memory. Without it the machine's.
    pub capacity: Option<(u64, u64)>,
    /// The most pods.
    pub max_pods: u32,
    /// Further labels of the node.
    pub labels: BTreeMap<String, String>,
    /// When the node is short of something.
    pub eviction: EvictionSettings,
    /// When containers' logs are rotated.
    pub logs: LogRotation,
    /// What else a KubeletConfiguration says: who may use the HTTPS API, what is reserved, how often is told.
    pub configuration: Configuration,
    /// How it is heard that the machine shuts down.
    pub shutdown: ShutdownPaths,
    /// Programs that know who the node, or a pod, is at a registry.
    pub credential_providers: CredentialProviders,
    /// What was given on the command line, by the flag's name.
    pub flags: BTreeMap<String, String>,
    /// How it is changed how much is logged.
    pub verbosity: Option<Verbosity>,
    /// Manifests of static pods: a folder, or one file.
    pub static_pod_dir: Option<PathBuf>,
    /// The time.
    pub clock: SharedClock,
    /// Randomness.
    pub random: SharedRandom,
}

/// Changes how much is logged, to a number as klog's.
#[derive(Clone)]
pub struct Verbosity(Arc<dyn Fn(i32) -> Result<(), String> + Send + Sync>);

impl Verbosity {
    /// By this, which says why it cannot.
    pub fn new(set: impl Fn(i32) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(set))
    }

    /// Does it.
    ///
    /// # Errors
    /// Why not.
    pub fn set(&self, level: i32) -> Result<(), String> {
        (self.0)(level)
    }
}

impl Config {
    /// The node's addresses, the primary one first.
    pub fn node_ips(&self) -> Vec<String> {
        [Some(self.node_ip), self.second_node_ip].into_iter().flatten().map(|ip| ip.to_string()).collect()
    }
}

/// What all parts of a kubelet share.
pub(crate) struct Shared {
    pub config: Config,
    /// When it began, by the monotonic clock.
    pub began: Duration,
    pub client: kube::Client,
    pub runtime: Runtime,
    pub recorder: Recorder,
    pub services: Reflector<ServiceView>,
    pub volumes: Volumes,
    pub machine: Machine,
    /// What it makes of the resources that containers name.
    pub means: Means,
    pub cgroups: Cgroups,
    /// Who pulled which image.
    pub pulls: Records,
    /// How many images are pulled at the same time; without it, as many as are wanted.
    pub pulling: Option<Semaphore>,
    /// How many pulls may begin in a while; without it, as many as are wanted.
    pub pull_rate: Option<Rate>,
    /// Whom images' containers run as, by the images' references.
    pub image_users: Mutex<HashMap<String, (Option<i64>, String)>>,
    /// Who knows who we are at a registry.
    pub providers: credentials::Providers,
    /// What the metrics tell.
    pub counts: Arc<Counts>,
    /// What the node is short of.
    pub pressure: Pressure,
    /// Whether the node shuts down.
    pub shutdown: shutdown::Closing,
    /// Which users pods have for themselves.
    pub users: Users,
    /// Who has how much of the node.
    pub ledger: Ledger,
    /// Which settings of the kernel pods may make.
    pub sysctls: Sysctls,
    /// The node's own object.
    pub node: Reflector<NodeView>,
    /// Somebody else changed it.
    pub node_changed: Arc<Notify>,
    /// Who has what for itself.
    pub exclusive: Exclusive,
    /// Which claims pods use.
    pub claims: Arc<Claims>,
    /// Who wants to know what happens to pods.
    pub watched: Watched,
    /// What was used when the summary was asked for last.
    pub rates: api::Rates,
    /// Whose logs grow fast.
    pub grown: Grown,
    pub tasks: TaskGroup,
}

impl Shared {
    /// Changes control groups, and counts how long that takes.
    pub async fn cgroups<T>(&self, operation: &str, change: impl Future<Output = T>) -> T {
        let begun = self.config.clock.monotonic();
        let done = change.await;
        let took = self.config.clock.monotonic().saturating_sub(begun);
        self.counts.took(&counts::table::CGROUPS, &[operation], took);
        done
    }

    /// The node's object as it was seen last; before that, as it is registered.
    pub fn own_node(&self) -> NodeView {
        match self.node.get(&self.config.node_name) {
            Some(node) => NodeView::clone(&node),
            None => NodeView::from(&node::initial(&self.config)),
        }
    }
}

/// Runs a kubelet until the group stops. Containers go on afterwards.
///
/// # Errors
/// [`KubeletError`], when it cannot start.
pub async fn run(config: Config, client: kube::Client, tasks: &TaskGroup) -> Result<(), KubeletError> {
    let pods_dir = config.root_dir.join("pods");
    for path in
        [&pods_dir, &config.log_dir, &config.container_links].into_iter().chain(&config.static_pod_dir)
    {
        std::fs::create_dir_all(path)
            .map_err(|source| KubeletError::Directory { path: path.clone(), source })?;
    }
    // A folder for each pod.
    [&pods_dir, &config.log_dir].into_iter().for_each(|folder| base::spread(folder));
    node::process::apply(&config.configuration.fields);
    begin::prepare_kernel(&config)?;
    let machine = Machine::read(config.capacity)?;
    let began = config.clock.monotonic();
    let counts = Arc::new(Counts::default());
    let meter = counts::Meter { counts: counts.clone(), clock: config.clock.clone() };
    let client = counts::requests::counted(client, meter.clone());
    let client = throttle::throttled(client, &config.configuration, &config.clock);
    let runtime = begin::connect(&config, &counts, tasks).await?;
    let served = api::listen(&config).await?;
    let source = ("kubelet", config.node_name.as_str());
    let bound = Bound::All(begin::event_rate(&config.configuration.fields));
    let recorder = Recorder::new(client.clone(), config.clock.clone(), source, bound, tasks);
    let services = Informer::new(client.clone(), Resource::all("", "v1", "Service", "services"));
    let given = begin::given(&machine, &config)?;
    let together = node::allocatable::together(&machine, &config.configuration.fields);
    let memory = together.map_err(KubeletError::Reserved)?.get("memory").copied().unwrap_or(0);
    let ledger = Ledger::new(given);
    let sysctls = begin::sysctls(&config, &machine)?;
    let node_changed = Arc::new(Notify::new());
    let own = node::view::informer(&client, &config.node_name, node_changed.clone());
    let pulls = Records::new(&config.root_dir, begin::verify(&config.configuration)?);
    let pulling = begin::turns(&config.configuration);
    let pull_rate = pull_rate::named(&config.configuration);
    let providers = credentials::Providers::new(config.credential_providers.clone(), meter.clone());
    let fields = &config.configuration.fields;
    let has_options = runtime.mount_options && fields.gates.has(Gate::VolumeBindMountOptions);
    let can = (runtime.recursive_read_only, has_options);
    let how = (can, fields.sync_frequency, fields.gates);
    let own_logs = config.owns_logs.then(|| OwnLogs::new(&config.log_dir, &config.container_links));
    let volumes = Volumes::new(client.clone(), pods_dir.clone(), meter.clone(), how, own_logs);
    let exclusive = Exclusive::load(&config, &machine, &meter, tasks)?;
    let claims = {
        let root = &config.root_dir;
        Claims::load(root, client.clone(), &config.node_name, meter, tasks)?
    };
    let cgroups = begin::cgroups(&config, &runtime).await?;
    let means = Means::new(&machine, &config.configuration.fields, cgroups.version() == 2, memory);
    let shared = Arc::new(Shared {
        began,
        means,
        users: Users::load(&pods_dir, config.max_pods, begin::ids_per_pod(&config.configuration.fields))?,
        volumes,
        services: services.start(tasks),
        node: own.start(tasks),
        node_changed,
        config,
        client,
        runtime,
        recorder,
        ledger,
        sysctls,
        exclusive,
        claims,
        watched: Watched::default(),
        rates: api::Rates::default(),
        grown: Grown::new(),
        pulls,
        pulling,
        pull_rate,
        image_users: Mutex::default(),
        providers,
        counts,
        pressure: Pressure::default(),
        shutdown: shutdown::Closing::default(),
        cgroups,
        machine,
        tasks: tasks.clone(),
    });
    let fields = &shared.config.configuration.fields;
    let enforced = node::enforce::plan(&shared.machine, fields, &shared.config.cgroup_root);
    tasks.spawn(node::enforce::run(shared.clone(), enforced.map_err(KubeletError::Reserved)?));
    tasks.spawn(node::classes::run(shared.clone()));
    begin::serve_plugins(&shared)?;
    let pods = Pods::new(shared.clone());
    if shared.config.alone {
        tasks.spawn(alone::tell_pod_cidr(shared.clone()));
    } else {
        tasks.spawn(node::run(shared.clone()));
        tasks.spawn(node::lease::run(shared.clone()));
    }
    pods.start();
    pod_resources::serve(&shared, pods.clone())?;
    pods_api::serve(&shared, pods.clone())?;
    tasks.spawn(exclusive::run(shared.clone()));
    tasks.spawn(begin::tell_pods(shared.clone(), pods.clone()));
    tasks.spawn(eviction::run(shared.clone(), pods.clone()));
    tasks.spawn(shutdown::run(shared.clone(), pods.clone()));
    tasks.spawn(collect::images::run(shared.clone()));
    tasks.spawn(collect::logs::run(shared.clone(), pods.clone()));
    tasks.spawn(api::serve_health(shared.clone()));
    if let Some(listener) = api::read_only::listen(&shared).await? {
        tasks.spawn(api::read_only::serve(shared.clone(), pods.clone(), listener));
    }
    if let Some((listener, tls)) = served {
        tasks.spawn(api::serve(shared.clone(), pods, listener, tls));
    }
    tasks.shutdown().wait().await;
    Ok(())
}
