//! Looks at the machine by trying things, where they vanish again: on a thread in namespaces of its own.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit};

/// Whether something works, and if not, why.
pub type Tried = Result<(), String>;

/// What the machine has.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Whether this is root.
    pub root: bool,
    /// Major and minor version.
    pub kernel: (u32, u32),
    /// As `uname -r` prints it.
    pub release: String,
    /// 1 (also where version 2 is mounted beside it) or 2.
    pub cgroup_version: u8,
    /// Such as `memory`.
    pub controllers: Vec<String>,
    /// Network, process, IPC and host name namespaces.
    pub namespaces: Tried,
    /// Mounting layers.
    pub overlay: Tried,
    /// Links between namespaces.
    pub veth: Tried,
    /// The table of Services.
    pub nftables: Tried,
    /// Filters of system calls.
    pub seccomp: Tried,
    /// Lowering an OOM score.
    pub oom_score: Tried,
    /// How many files a process may have open at the most.
    pub open_files: u64,
}

impl Facts {
    /// Looks at this machine.
    pub fn gather() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let (cgroup_version, controllers) = controllers();
        Self {
            root: nix::unistd::geteuid().is_root(),
            kernel: version(&release),
            release,
            cgroup_version,
            controllers,
            namespaces: apart(
                CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS,
                || found("/proc/self/ns/pid"),
            ),
            overlay: apart(CloneFlags::CLONE_NEWNS, overlay),
            veth: apart(CloneFlags::CLONE_NEWNET, veth),
            nftables: apart(CloneFlags::CLONE_NEWNET, nftables),
            seccomp: found("/proc/sys/kernel/seccomp/actions_avail"),
            oom_score: oom_score(),
            open_files: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard),
        }
    }
}

fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn found(path: &str) -> Tried {
    fs::metadata(path).map(|_| ()).map_err(|error| format!("{path}: {error}"))
}

/// The version of cgroups, and which controllers there are.
fn controllers() -> (u8, Vec<String>) {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
    if let Ok(text) = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
        return (2, words(text));
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let options = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(2);
        (fields.next()? == "cgroup").then(|| fields.next())?
    });
    (1, options.flat_map(|options| options.split(',')).map(str::to_owned).collect())
}

/// Tries something on a thread in namespaces of its own, which end with it.
fn apart(namespaces: CloneFlags, attempt: impl FnOnce() -> Tried + Send + 'static) -> Tried {
    let thread = std::thread::spawn(move || {
        unshare(namespaces).map_err(|error| format!("a new namespace: {}", error.desc()))?;
        attempt()
    });
    thread.join().unwrap_or_else(|_| Err("the attempt panicked".to_owned()))
}

fn overlay() -> Tried {
    let said = |what: &str, error: nix::Error| format!("{what}: {}", error.desc());
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|error| said("making mounts private", error))?;
    let base = Path::new("/tmp");
    mount(Some("tmpfs"), base, Some("tmpfs"), MsFlags::empty(), None::<&str>)
        .map_err(|error| said("mounting a tmpfs", error))?;
    for dir in ["lower", "upper", "work", "merged"] {
        fs::create_dir(base.join(dir)).map_err(|error| error.to_string())?;
    }
    let options = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work";
    mount(Some("overlay"), &base.join("merged"), Some("overlay"), MsFlags::empty(), Some(options))
        .map_err(|error| said("mounting an overlay", error))
}

fn veth() -> Tried {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .map_err(|error| error.to_string())?
        .block_on(async { net::link::Links::open()?.veth("knarr-a", "knarr-b").await })
        .map_err(|error| error.to_string())
}

fn nftables() -> Tried {
    let mut table =
        net::services::apply::Table::open("knarr-check", (0, 0)).map_err(|error| error.to_string())?;
    table.apply(&net::services::plan::Tables::default()).map_err(|error| error.to_string())
}

/// Whether a score may be lowered is known of the capability: to try would change our own.
fn oom_score() -> Tried {
    const SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    let effective = u64::from_str_radix(line.trim(), 16).unwrap_or_default();
    if effective & (1 << SYS_RESOURCE) != 0 { Ok(()) } else { Err("no CAP_SYS_RESOURCE".to_owned()) }
}
