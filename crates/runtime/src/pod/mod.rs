//! Sandboxes and containers: making, starting, watching, stopping and removing them.
//!
//! Each sandbox and each container does one thing at a time (`turn`); what is known of it can be
//! read at any time. A container's state is published after its record was written.

pub mod attach;
pub mod container;
pub mod exec;
pub mod members;
pub mod recover;
pub mod rootfs;
pub mod sandbox;
pub mod sweep;
pub mod volumes;
mod watch;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::TaskGroup;
use base::memory::{GiveBack, Pace};
use cri::v1::{ContainerConfig, ContainerEventResponse, ContainerEventType, PodSandboxConfig};
use parking_lot::Mutex;

use self::members::Members;
use crate::RuntimeError;
use crate::cgroup::Hierarchies;
use crate::config::Config;
use crate::embedded::Programs;
use crate::events::Events;
use crate::images::{ImageError, Store, text};
use crate::network::NetworkError;
use crate::plan::{Device, Machine, PlanError};
use crate::shim::{Shim, ShimError};
use crate::state::{ContainerState, RecordError, SandboxState};
use crate::sys::lean::Lean;
use crate::sys::{process, users};

pub use container::Container;
pub use sandbox::Sandbox;

/// Why something could not be done to a pod.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// No such sandbox.
    #[error("no sandbox {0:?}")]
    NoSandbox(String),
    /// No such container.
    #[error("no container {0:?}")]
    NoContainer(String),
    /// Not in this state.
    #[error("{0}")]
    State(String),
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It took too long.
    #[error("{0}")]
    Timeout(String),
    /// The configuration cannot be carried out.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The records.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The shim.
    #[error(transparent)]
    Shim(#[from] ShimError),
    /// The kernel.
    #[error("{what}")]
    Io {
        /// Doing what.
        what: String,
        /// Why.
        source: io::Error,
    },
}

impl PodError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PodError> + Send + 'static,
) -> Result<T, PodError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(PodError::Io { what: "a background task".into(), source: io::Error::other(error) })
    })
}

/// One runtime.
pub struct Core {
    pub config: Config,
    pub programs: Programs,
    pub images: Store,
    pub cgroups: Hierarchies,
    pub machine: Machine,
    pub boot: String,
    pub tasks: TaskGroup,
    pub events: Events,
    pub sandboxes: Mutex<Members<Sandbox>>,
    pub containers: Mutex<Members<Container>>,
    /// Where containers are started from, if the kernel lets us make it.
    pub lean: Option<Lean>,
    handles: AtomicU64,
    memory: GiveBack,
}

impl Core {
    /// Looks at the machine and prepares the folders.
    pub async fn new(config: Config, tasks: TaskGroup) -> Result<Arc<Self>, RuntimeError> {
        let cgroups = Hierarchies::detect().map_err(RuntimeError::setup("reading /proc/self/mountinfo"))?;
        let machine =
            machine(&cgroups, &config.root).map_err(RuntimeError::setup("looking at the machine"))?;
        let programs = Programs::write(&config.root.join("bin")).map_err(RuntimeError::setup(format!(
            "writing programs to {}",
            config.root.join("bin").display()
        )))?;
        let images = Store::open(&config.root)?;
        let boot = process::boot_id().map_err(RuntimeError::setup("reading the boot id"))?;
        // Handles are never used twice in a pod, whichever runtime chose them.
        let start = config.clock.now().as_nanosecond() as u64;
        let memory = GiveBack::start(&tasks, Pace::ANY);
        let lean = Lean::new(&[&config.run_dir, &config.root]).inspect_err(|error| {
            tracing::warn!(%error, "containers are started from among all mounts, which is slower");
        });
        let core = Self {
            config,
            programs,
            images,
            cgroups,
            machine,
            boot,
            tasks,
            events: Events::default(),
            sandboxes: Mutex::default(),
            containers: Mutex::default(),
            handles: AtomicU64::new(start.max(1)),
            lean: lean.ok(),
            memory,
        };
        // In each of them a folder for each sandbox or container.
        let bases = [&core.config.root, &core.config.run_dir];
        let folders = ["sandboxes", "containers"].iter().flat_map(|name| bases.map(|base| base.join(name)));
        for path in folders.chain([core.launcher_state()]) {
            fs::create_dir_all(&path).map_err(RuntimeError::setup(format!("making {}", path.display())))?;
            base::spread(&path);
        }
        Ok(Arc::new(core))
    }

    /// Nanoseconds since 1970.
    pub fn now(&self) -> i64 {
        i64::try_from(self.config.clock.now().as_nanosecond()).unwrap_or(i64::MAX)
    }

    /// An id as other runtimes make them.
    pub fn new_id(&self) -> String {
        let mut bytes = [0u8; 32];
        self.config.random.fill(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A name for a process within its shim.
    pub fn new_handle(&self) -> u64 {
        self.handles.fetch_add(1, Ordering::Relaxed)
    }

    /// Where libcontainer keeps its state.
    pub fn launcher_state(&self) -> PathBuf {
        self.config.run_dir.join("launcher")
    }

    /// A sandbox by its id, or by what its id alone begins with.
    pub fn sandbox(&self, id: &str) -> Option<Arc<Sandbox>> {
        self.sandboxes.lock().find(id)
    }

    /// A container by its id, or by what its id alone begins with.
    pub fn container(&self, id: &str) -> Option<Arc<Container>> {
        self.containers.lock().find(id)
    }

    /// A container that has to be there.
    pub fn need_container(&self, id: &str) -> Result<Arc<Container>, PodError> {
        self.container(id).ok_or_else(|| PodError::NoContainer(id.to_owned()))
    }

    /// A sandbox that has to be there.
    pub fn need_sandbox(&self, id: &str) -> Result<Arc<Sandbox>, PodError> {
        self.sandbox(id).ok_or_else(|| PodError::NoSandbox(id.to_owned()))
    }

    /// A sandbox's containers.
    pub fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.containers.lock().of(sandbox)
    }

    /// The ids of the images that containers have, and the volumes of containers.
    pub fn images_in_use(&self) -> Vec<String> {
        let containers = self.containers.lock().all();
        let images = containers.iter().flat_map(|c| volumes::images(&c.config));
        let mut images: Vec<String> = containers.iter().map(|c| c.state().image_id).chain(images).collect();
        images.sort();
        images.dedup();
        images
    }

    /// Removes layers that the last container of a removed image had. It can be done later, too.
    pub fn collect_layers(&self) {
        if let Err(error) = self.images.collect(&self.images_in_use()) {
            tracing::warn!(error = text(&error), "layers of removed images stay for now");
        }
    }

    /// Tells subscribers what happened to a container, or to a sandbox itself.
    pub fn announce(&self, id: &str, sandbox: &str, kind: ContainerEventType) {
        self.announce_of(id, self.sandbox(sandbox).as_ref(), kind);
    }

    /// The same of a sandbox that is at hand, for it may not be known any more.
    pub(crate) fn announce_of(&self, id: &str, sandbox: Option<&Arc<Sandbox>>, kind: ContainerEventType) {
        self.memory.busy();
        if !self.events.are_wanted() {
            return;
        }
        let containers = sandbox.map(|sandbox| self.containers_of(&sandbox.id)).unwrap_or_default();
        let statuses = containers.iter().map(|c| c.status()).collect();
        self.events.send(ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            created_at: self.now(),
            pod_sandbox_status: sandbox.map(|sandbox| sandbox.status()),
            containers_statuses: statuses,
        });
    }

    /// A pod's cgroup, complete. A kubelet that knows our parent has it in its path already.
    pub fn cgroup_of(&self, asked: &str, id: &str) -> String {
        let parent = self.config.cgroup_parent.trim_end_matches('/');
        let asked = asked.trim_matches('/');
        let asked = if asked.is_empty() { format!("pods/{id}") } else { asked.to_owned() };
        if !parent.is_empty() && format!("/{asked}/").starts_with(&format!("{parent}/")) {
            return format!("/{asked}");
        }
        format!("{parent}/{asked}")
    }

    /// Where a pod's shim is: beside the pods, since a kubelet kills whatever is left in a pod's cgroup.
    pub fn shim_cgroup(&self, id: &str) -> String {
        format!("{}/shims/{id}", self.config.cgroup_parent.trim_end_matches('/'))
    }
}

fn machine(cgroups: &Hierarchies, root: &Path) -> io::Result<Machine> {
    let capabilities = process::bounding_capabilities()?;
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    // Without the capability nobody may go below what they have.
    let lowest = if capabilities & CAP_SYS_RESOURCE != 0 { -1000 } else { process::oom_score_adj()? };
    Ok(Machine {
        unified_cgroups: cgroups.is_unified(),
        hugetlb: cgroups.has("hugetlb"),
        capabilities,
        lowest_oom_score: lowest,
        apparmor: fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with(b"Y")),
        no_user_namespaces: users::supported(root)
            .err()
            .map(|error| format!("this machine cannot map users in {}: {error}", root.display())),
        devices: devices()?,
    })
}

/// Every device node, but terminals and what each container gets for itself.
fn devices() -> io::Result<Vec<Device>> {
    const OWN: [&str; 5] = ["pts", "shm", "fd", "mqueue", "console"];
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if OWN.iter().any(|own| entry.file_name() == *own) {
                continue;
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if let Some(device) = device(&entry.path(), &entry.path().display().to_string())? {
                found.push(device);
            }
        }
    }
    Ok(found)
}

/// A device node, as it is to appear at another place; `None` for anything else.
pub fn device(path: &Path, appears: &str) -> io::Result<Option<Device>> {
    let meta = fs::symlink_metadata(path)?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => 'c',
        kind if kind.is_block_device() => 'b',
        _ => return Ok(None),
    };
    let number = meta.rdev();
    Ok(Some(Device {
        path: appears.to_owned(),
        kind,
        major: i64::from(libc::major(number)),
        minor: i64::from(libc::minor(number)),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    }))
}

/// The same by any name: volumes of block devices are links, and so are many names of disks.
pub fn named_device(path: &Path, appears: &str) -> io::Result<Option<Device>> {
    device(&fs::canonicalize(path)?, appears)
}

/// What both kinds of record begin with.
pub(crate) struct Loaded<C, S> {
    pub id: String,
    pub config: C,
    pub state: S,
}

pub(crate) type LoadedSandbox = Loaded<PodSandboxConfig, SandboxState>;
pub(crate) type LoadedContainer = Loaded<ContainerConfig, ContainerState>;

/// The present connection to a pod's shim.
#[derive(Default)]
pub(crate) struct ShimLink {
    pub shim: Option<Shim>,
    /// The pod is at its end: no other shim is to be started.
    pub closed: bool,
}

pub(crate) type ShimSlot = tokio::sync::Mutex<ShimLink>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_known_by_its_links_where_somebody_names_one() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert_eq!(device(&link, "/x").unwrap(), None, "of the machine's own, each is there once");
        let found = named_device(&link, "/x").unwrap().unwrap();
        assert_eq!((found.path.as_str(), found.kind, found.major, found.minor), ("/x", 'c', 1, 3));
        assert!(named_device(folder.path(), "/x").unwrap().is_none());
        assert!(named_device(&folder.path().join("no"), "/x").is_err());
    }
}
