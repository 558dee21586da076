//! Pods' network by CNI plugins, <https://www.cni.dev/docs/spec/> up to 1.1.0.
//!
//! While the folder of configurations has one, the first by name connects pods; while it has none, another network
//! does, if there is one. A pod is always disconnected by whoever connected it, with the configuration of that time:
//! the [`cache`] on disk knows.
//!
//! `list`, `request` and `result` only decide; `plugin` runs programs, `chain` asks one after the other, `folder`
//! watches.

mod cache;
mod chain;
mod folder;
mod list;
mod plugin;
mod request;
mod result;

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use base::{SharedClock, TaskGroup};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::RwLock;

use crate::network::{NetworkError, PodIps, PodNetwork, SandboxMeta, loopback};
use cache::{Attachment, Cache, CacheError};
use chain::ChainError;
use folder::{Found, Watch};
use list::NetworkList;
use plugin::Programs;

/// The pod's interface, as every runtime calls it.
const INTERFACE: &str = "eth0";
/// How long a plugin's word that it is ready counts. One that is not is asked again each time.
const READY_FOR: Duration = Duration::from_secs(30);

/// Where CNI's files are.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Configurations.
    pub conf_dir: PathBuf,
    /// Plugins' programs, those that count most first.
    pub bin_dirs: Vec<PathBuf>,
    /// What is remembered of connected pods. Two runtimes must not share it.
    pub cache_dir: PathBuf,
    /// Pods wait until there is a configuration: no other network connects them.
    pub required: bool,
    /// How long a plugin may take.
    pub timeout: Duration,
}

/// What plugins last said of themselves.
struct Said {
    at: Timestamp,
    of: Arc<Found>,
    ready: Result<(), String>,
}

/// Connects pods by plugins, or by another network while there are none.
pub struct Network {
    settings: Settings,
    programs: Programs,
    cache: Cache,
    /// Who connects pods while there is no configuration.
    other: Option<Arc<dyn PodNetwork>>,
    found: Mutex<Arc<Found>>,
    said: Mutex<Option<Said>>,
    cidrs: Mutex<Vec<String>>,
    /// Plugins that clear up must not meet a pod that is just being connected.
    gate: RwLock<()>,
    clock: SharedClock,
    tasks: TaskGroup,
    this: Weak<Self>,
}

fn failed(error: ChainError) -> NetworkError {
    NetworkError::because(error.to_string())
}

fn unreadable(error: CacheError) -> NetworkError {
    NetworkError::because(error.to_string())
}

impl Network {
    /// Reads the folder, and follows it from then on.
    ///
    /// # Errors
    /// When the cache cannot be made.
    pub fn start(
        settings: Settings,
        other: Arc<dyn PodNetwork>,
        clock: SharedClock,
        tasks: &TaskGroup,
    ) -> Result<Arc<Self>, NetworkError> {
        let cache = Cache::open(settings.cache_dir.clone()).map_err(unreadable)?;
        let cidrs = match fs::read_to_string(settings.cache_dir.join("pod-cidr")) {
            Ok(text) => ranges(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(NetworkError { message: "pod-cidr".into(), source: Some(error) }),
        };
        let network = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            programs: Programs { dirs: settings.bin_dirs.clone(), timeout: settings.timeout },
            cache,
            other: (!settings.required).then_some(other),
            found: Mutex::new(Arc::new(folder::read(&settings.conf_dir))),
            said: Mutex::default(),
            cidrs: Mutex::new(cidrs),
            gate: RwLock::default(),
            clock,
            tasks: tasks.clone(),
            settings,
        });
        tasks.spawn(follow(network.clone()));
        Ok(network)
    }

    fn found(&self) -> Arc<Found> {
        self.found.lock().clone()
    }

    async fn connect(
        &self,
        list: &NetworkList,
        netns: &Path,
        pod: &SandboxMeta,
    ) -> Result<PodIps, NetworkError> {
        let _gate = self.gate.read().await;
        loopback(netns).await?;
        let capabilities = request::capabilities(pod, &self.cidrs.lock())?;
        let pin = netns.display().to_string();
        let mut attachment = Attachment::new(list, &pod.id, pin, INTERFACE, request::args(pod), capabilities);
        // Whatever happens from here on, somebody will find it and undo it.
        self.cache.save(&attachment).map_err(unreadable)?;
        let mut turn = self.cache.turn(&attachment, self.settings.timeout).await.map_err(unreadable)?;
        let result = self.programs.add(&attachment, &mut turn).await.map_err(failed)?;
        let ips = result::addresses(&result, INTERFACE);
        attachment.result = Some(result);
        self.cache.save(&attachment).map_err(unreadable)?;
        some(ips, &pod.id)
    }

    async fn disconnect(&self, attachment: &Attachment) -> Result<(), ChainError> {
        let mut turn = self.cache.turn(attachment, self.settings.timeout).await?;
        self.programs.delete(attachment, &mut turn).await?;
        self.cache.forget(attachment)?;
        Ok(())
    }

    /// Undoes what earlier runtimes left, then lets plugins look for more.
    async fn clear(&self, stale: Vec<Attachment>) {
        for attachment in &stale {
            match self.disconnect(attachment).await {
                Ok(()) => {
                    tracing::info!(sandbox = attachment.container, "a network that nobody has was undone")
                }
                // It stays written down, and the next runtime tries again.
                Err(error) => tracing::warn!(sandbox = attachment.container, %error, "a network is left"),
            }
        }
        let Found::Network(list) = &*self.found() else { return };
        let _gate = self.gate.write().await;
        let valid = match self.cache.all() {
            Ok(all) => all.into_iter().filter(|attachment| attachment.network == list.name),
            Err(error) => return tracing::warn!(%error, "plugins are not told to clear up"),
        };
        let valid: Vec<_> = valid.map(|attachment| (attachment.container, attachment.interface)).collect();
        if let Err(error) = self.programs.collect(list, &valid).await {
            tracing::warn!(%error, "a plugin did not clear up");
        }
    }

    /// What plugins say of themselves, asked for seldom while they are well.
    async fn status(&self, found: &Arc<Found>, list: &NetworkList) -> Result<(), String> {
        let now = self.clock.now();
        if let Some(said) = &*self.said.lock()
            && Arc::ptr_eq(&said.of, found)
            && said.ready.is_ok()
            && Duration::try_from(now.duration_since(said.at)).is_ok_and(|age| age < READY_FOR)
        {
            return Ok(());
        }
        let ready = self.programs.status(list).await.map_err(|error| error.to_string());
        *self.said.lock() = Some(Said { at: now, of: found.clone(), ready: ready.clone() });
        ready
    }
}

/// A pod without an address is not connected.
fn some(ips: Vec<IpAddr>, id: &str) -> Result<PodIps, NetworkError> {
    if ips.is_empty() {
        return Err(NetworkError::because(format!("failed to find network info for sandbox {id:?}")));
    }
    Ok(PodIps(ips))
}

/// Node's ranges, as the CRI has them: several are parted by a comma.
fn ranges(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|cidr| !cidr.is_empty()).map(str::to_owned).collect()
}

/// How long until it is tried again to watch the folder.
const UNWATCHED: Duration = Duration::from_millis(200);

/// Keeps what is known of the folder true until the group stops.
async fn follow(network: Arc<Network>) {
    let dir = network.settings.conf_dir.clone();
    loop {
        // Anew each time: the folder, or folders in it, may have come or gone.
        let watch = match Watch::start(&dir) {
            Ok(watch) => watch,
            Err(error) => {
                // It went a moment ago: then what is left of the way to it can be watched.
                if error.kind() != std::io::ErrorKind::NotFound {
                    tracing::error!(dir = %dir.display(), %error, "CNI's folder is not watched; trying again");
                }
                tokio::time::sleep(UNWATCHED).await;
                continue;
            }
        };
        // Whatever happened before the watch is in what is read now, and whatever happens after it is told.
        let found = folder::read(&dir);
        if watch.is_stale() {
            continue;
        }
        if *network.found() != found {
            match &found {
                Found::Nothing => tracing::info!(dir = %dir.display(), "no CNI configuration"),
                Found::Network(list) => {
                    tracing::info!(network = list.name, "pods are connected by CNI plugins")
                }
                Found::Unusable(why) => tracing::warn!(why, "the CNI configuration cannot be used"),
            }
            *network.found.lock() = Arc::new(found);
        }
        if let Err(error) = watch.changed().await {
            tracing::error!(dir = %dir.display(), %error, "CNI's folder is not watched any more; trying again");
            tokio::time::sleep(UNWATCHED).await;
        }
    }
}

#[async_trait]
impl PodNetwork for Network {
    async fn setup(&self, netns: &Path, pod: &SandboxMeta) -> Result<PodIps, NetworkError> {
        for attachment in self.cache.of(&pod.id).map_err(unreadable)? {
            match &attachment.result {
                Some(result) => return some(result::addresses(result, INTERFACE), &pod.id),
                None => self.disconnect(&attachment).await.map_err(failed)?,
            }
        }
        match (&*self.found(), &self.other) {
            (Found::Network(list), _) => self.connect(list, netns, pod).await,
            (Found::Nothing, Some(other)) => other.setup(netns, pod).await,
            (Found::Nothing, None) => Err(NetworkError::because(uninitialized(&self.settings.conf_dir))),
            (Found::Unusable(why), _) => Err(NetworkError::because(why.clone())),
        }
    }

    async fn teardown(&self, netns: &Path, pod: &SandboxMeta) -> Result<(), NetworkError> {
        let attachments = self.cache.of(&pod.id).map_err(unreadable)?;
        for attachment in &attachments {
            self.disconnect(attachment).await.map_err(failed)?;
        }
        match &self.other {
            Some(other) if attachments.is_empty() => other.teardown(netns, pod).await,
            _ => Ok(()),
        }
    }

    fn set_pod_cidr(&self, cidr: &str) {
        let path = self.settings.cache_dir.join("pod-cidr");
        if let Err(error) = crate::state::replace(&path, cidr.as_bytes()) {
            tracing::error!(%error, path = %path.display(), "the node's pod network is not remembered");
        }
        *self.cidrs.lock() = ranges(cidr);
        if let Some(other) = &self.other {
            other.set_pod_cidr(cidr);
        }
    }

    async fn ready(&self) -> Result<(), String> {
        let found = self.found();
        match (&*found, &self.other) {
            (Found::Network(list), _) => self.status(&found, list).await,
            (Found::Nothing, Some(other)) => other.ready().await,
            (Found::Nothing, None) => Err(uninitialized(&self.settings.conf_dir)),
            (Found::Unusable(why), _) => Err(why.clone()),
        }
    }

    async fn check(&self, netns: &Path, pod: &SandboxMeta) -> Result<(), NetworkError> {
        let attachments = self.cache.of(&pod.id).map_err(unreadable)?;
        for attachment in &attachments {
            let mut turn = self.cache.turn(attachment, self.settings.timeout).await.map_err(unreadable)?;
            // It may have gone while its turn was waited for.
            if self.cache.of(&pod.id).map_err(unreadable)?.contains(attachment) {
                self.programs.check(attachment, &mut turn).await.map_err(failed)?;
            }
        }
        match &self.other {
            Some(other) if attachments.is_empty() => other.check(netns, pod).await,
            _ => Ok(()),
        }
    }

    async fn collect(&self, sandboxes: &[String]) -> Result<(), NetworkError> {
        let mut stale = self.cache.all().map_err(unreadable)?;
        stale.retain(|attachment| !sandboxes.contains(&attachment.container));
        if let Some(network) = self.this.upgrade() {
            // Plugins may be slow, and a runtime is waited for.
            self.tasks.spawn(async move { network.clear(stale).await });
        }
        match &self.other {
            Some(other) => other.collect(sandboxes).await,
            None => Ok(()),
        }
    }
}

fn uninitialized(dir: &Path) -> String {
    format!("cni plugin not initialized: no network config found in {}", dir.display())
}
