//! The control groups of pods: made before their sandbox, changed when a pod is resized, and removed after it.
//!
//! Containers' own groups below are the runtime's. It knows nothing of pods; whoever calls says which group and what
//! it may use. Version 1, hybrid and version 2 are all found by where they are mounted.
//!
//! A group is named as Kubernetes names it, `/kubepods/burstable/pod…`; where a runtime wants systemd to make groups, its
//! place is another one (`names`), and systemd is asked first (`units`).

mod names;
mod residents;
mod stat;
mod units;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base::cgroup::Hierarchies;
pub use units::Units;

/// What a group may use. What is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Weight of processor time, as version 1 counts it: 1024 for a whole processor.
    pub cpu_shares: Option<i64>,
    /// Microseconds of processor time in each period of 100 ms; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// Bytes; -1 is no limit.
    pub memory: Option<i64>,
    /// Processes and threads; -1 is no limit.
    pub pids: Option<i64>,
    /// Bytes of the node's disk, which no cgroup limits: the node looks after it.
    pub storage: Option<i64>,
    /// Bytes by page size, such as `2MB`.
    pub hugepages: Vec<(String, i64)>,
    /// Bytes that it keeps.
    pub kept: KeptMemory,
}

/// Memory that is not taken from a group while there is other; version 1 knows of none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeptMemory {
    /// Bytes that are never taken (`memory.min`).
    pub never_taken: Option<i64>,
    /// Bytes that are taken when nobody else has any to give (`memory.low`).
    pub taken_last: Option<i64>,
}

/// The period that quotas are meant for, in microseconds.
pub const PERIOD: i64 = 100_000;
/// The least quota that the kernel takes.
const MIN_QUOTA: i64 = 1000;
/// The controllers that pods need.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "hugetlb", "io"];

/// A hierarchy of version 1 without controllers. Upstream's kubelet takes a pod that has no group there for one whose
/// containers have to be killed, when it takes over a node.
const NAMED: &str = "name=systemd";

/// Where the machine's hierarchies are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// A runtime makes groups in all of them.
    found: Hierarchies,
    /// The period in which quotas hold, in microseconds.
    period: i64,
    /// Who makes them, if it is not us.
    units: Option<Units>,
}

/// What a quota of [`PERIOD`] is in another one.
pub fn quota_in(period: i64, quota: i64) -> i64 {
    if quota <= 0 || period == PERIOD { quota } else { (quota * period / PERIOD).max(MIN_QUOTA) }
}

impl Cgroups {
    /// Looks where they are. Quotas hold in periods of so many microseconds.
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn detect(period: i64) -> io::Result<Self> {
        Ok(Self { period, ..Self::parse(&fs::read_to_string("/proc/self/mountinfo")?) })
    }

    /// The same, where systemd makes them.
    #[must_use]
    pub fn by(self, units: Units) -> Self {
        Self { units: Some(units), ..self }
    }

    /// Whether systemd makes them.
    pub fn has_units(&self) -> bool {
        self.units.is_some()
    }

    /// Where a group is, below each hierarchy's root.
    pub fn place<'a>(&self, group: &'a str) -> Cow<'a, str> {
        match self.units {
            Some(_) => names::slices(group).into(),
            None => group.into(),
        }
    }

    /// The group that a configuration names: by its path, or by its slice where there are slices.
    pub fn named<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match self.units {
            Some(_) => names::group(name).into(),
            None => name.into(),
        }
    }

    fn parse(mountinfo: &str) -> Self {
        Self { found: Hierarchies::parse(mountinfo), period: PERIOD, units: None }
    }

    /// The hierarchies themselves, for whoever only reads what the kernel tells; their groups are named by their places.
    pub fn hierarchies(&self) -> &Hierarchies {
        &self.found
    }

    /// Where those hierarchies of version 1 are mounted that have controllers that pods need.
    fn split(&self) -> impl Iterator<Item = &PathBuf> {
        let needed = |name: &String| CONTROLLERS.contains(&name.as_str()) || name == NAMED;
        self.found.split.iter().filter(move |(names, _)| names.iter().any(needed)).map(|(_, root)| root)
    }

    /// Where all hierarchies are mounted.
    fn roots(&self) -> impl Iterator<Item = &PathBuf> {
        self.found.unified.iter().chain(self.found.split.iter().map(|(_, root)| root))
    }

    /// Makes a group in every hierarchy, and says what it may use.
    ///
    /// # Errors
    /// With the path of the file that refused, or what systemd says.
    pub async fn make(&self, group: &str, limits: &Limits) -> io::Result<()> {
        if let Some(units) = &self.units {
            units.start(&names::unit(group), limits).await?;
        }
        // systemd knows some of the controllers, and rounds.
        self.make_folders(group, limits)
    }

    fn make_folders(&self, group: &str, limits: &Limits) -> io::Result<()> {
        let place = self.place(group);
        let inside = place.trim_start_matches('/');
        match &self.found.unified {
            Some(root) => descend(root, inside)?,
            None => {
                for root in self.split() {
                    let folder = root.join(inside);
                    fs::create_dir_all(&folder).map_err(named(&folder))?;
                }
            }
        }
        self.write(group, limits)
    }

    /// Whether a group is there in every hierarchy in which [`Self::make`] makes it.
    pub fn exists(&self, group: &str) -> bool {
        let place = self.place(group);
        let inside = place.trim_start_matches('/');
        self.found.unified.iter().chain(self.split()).all(|root| root.join(inside).is_dir())
    }

    /// Changes what a group may use. A controller that the machine lacks limits nothing.
    ///
    /// # Errors
    /// With the path of the file that refused, or what systemd says.
    pub async fn apply(&self, group: &str, limits: &Limits) -> io::Result<()> {
        if let Some(units) = &self.units {
            units.set(&names::unit(group), limits).await?;
        }
        self.write(group, limits)
    }

    fn write(&self, group: &str, limits: &Limits) -> io::Result<()> {
        for (controller, file, value) in writes(limits, self.found.is_unified(), self.period) {
            let Some(folder) = self.folder(controller, group) else { continue };
            let path = folder.join(&file);
            match fs::write(&path, &value) {
                // A version 2 group has no files of controllers that are not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder.exists() => {
                    tracing::debug!(path = %path.display(), "a limit is not set: this kernel has no such controller");
                }
                other => other.map_err(named(&path))?,
            }
        }
        Ok(())
    }

    /// The version of control groups that limits pods.
    pub fn version(&self) -> u8 {
        if self.found.is_unified() { 2 } else { 1 }
    }

    /// Bytes of memory that a group uses, caches included; `None` without a memory controller.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn memory_usage(&self, group: &str) -> io::Result<Option<i64>> {
        let file = if self.found.is_unified() { "memory.current" } else { "memory.usage_in_bytes" };
        Ok(self.read("memory", group, file)?.and_then(|text| text.trim().parse().ok()))
    }

    /// Bytes of memory that a group uses, without those pages of files that the kernel would drop first; `None` without
    /// a memory controller.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn working_set(&self, group: &str) -> io::Result<Option<i64>> {
        let Some(usage) = self.memory_usage(group)? else { return Ok(None) };
        let inactive = self.memory_stat(group, "total_inactive_file", "inactive_file")?;
        Ok(Some((usage - inactive.unwrap_or(0)).max(0)))
    }

    /// Bytes of memory that a group may use; `None` for one that is not limited.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn memory_limit(&self, group: &str) -> io::Result<Option<i64>> {
        let file = if self.found.is_unified() { "memory.max" } else { "memory.limit_in_bytes" };
        let text = self.read("memory", group, file)?.unwrap_or_default();
        // Version 1 writes a very large number for none, and version 2 the word `max`.
        Ok(text.trim().parse().ok().filter(|limit| *limit < 1 << 62))
    }

    /// A file of a group; `None` when there is none.
    fn read(&self, controller: &str, group: &str, file: &str) -> io::Result<Option<String>> {
        let Some(path) = self.folder(controller, group).map(|folder| folder.join(file)) else {
            return Ok(None);
        };
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(&path)(error)),
        }
    }

    /// Processes and threads of a group; `None` when nobody counts them.
    pub fn pids(&self, group: &str) -> Option<i64> {
        let path = self.folder("pids", group)?.join("pids.current");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    /// Removes a group and all below it, in every hierarchy. What is not there is no error.
    ///
    /// # Errors
    /// When processes are still in it, or what systemd says.
    pub async fn remove(&self, group: &str) -> io::Result<()> {
        let place = self.place(group);
        let inside = place.trim_start_matches('/');
        if inside.is_empty() {
            return Ok(());
        }
        if let Some(units) = &self.units {
            units.stop(&names::unit(group)).await?;
        }
        self.roots().try_for_each(|root| remove_tree(&root.join(inside)))
    }

    /// The uids of the pods that have groups below one of `parents`.
    pub fn pods(&self, parents: &[String]) -> Vec<String> {
        let inside = |parent: &String| self.place(parent).trim_start_matches('/').to_owned();
        let folders =
            self.roots().flat_map(|root| parents.iter().map(move |parent| root.join(inside(parent))));
        // A hierarchy that was never used has no such folder.
        let entries = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().filter_map(Result::ok);
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let uid = |name: String| match self.units {
            Some(_) => names::pod_of(&name),
            None => name.strip_prefix("pod").map(str::to_owned),
        };
        names.filter_map(uid).collect()
    }

    fn folder(&self, controller: &str, group: &str) -> Option<PathBuf> {
        self.found.folder(controller, &self.place(group))
    }
}

fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Makes each group on the way, and hands the controllers down to it.
fn descend(root: &Path, inside: &str) -> io::Result<()> {
    let mut at = root.to_owned();
    for part in Path::new(inside) {
        let has = fs::read_to_string(at.join("cgroup.controllers")).map_err(named(&at))?;
        for controller in has.split_whitespace().filter(|name| CONTROLLERS.contains(name)) {
            let path = at.join("cgroup.subtree_control");
            fs::write(&path, format!("+{controller}")).map_err(named(&path))?;
        }
        at.push(part);
        match fs::create_dir(&at) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(named(&at)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// What to write where: controller, file, value.
fn writes(limits: &Limits, unified: bool, period: i64) -> Vec<(&'static str, String, String)> {
    let mut all = Vec::new();
    let mut write = |controller, file: &str, value: String| all.push((controller, file.to_owned(), value));
    let bounded = |value: i64| if value < 0 { "max".to_owned() } else { value.to_string() };
    if let Some(shares) = limits.cpu_shares {
        match unified {
            true => write("cpu", "cpu.weight", weight(shares).to_string()),
            false => write("cpu", "cpu.shares", shares.to_string()),
        }
    }
    if let Some(quota) = limits.cpu_quota.map(|quota| quota_in(period, quota)) {
        if unified {
            write("cpu", "cpu.max", format!("{} {period}", bounded(quota)));
        } else {
            write("cpu", "cpu.cfs_period_us", period.to_string());
            write("cpu", "cpu.cfs_quota_us", quota.to_string());
        }
    }
    if let Some(memory) = limits.memory {
        match unified {
            true => write("memory", "memory.max", bounded(memory)),
            false => write("memory", "memory.limit_in_bytes", memory.to_string()),
        }
    }
    for (file, bytes) in [("memory.min", limits.kept.never_taken), ("memory.low", limits.kept.taken_last)] {
        if let Some(bytes) = bytes.filter(|_| unified) {
            write("memory", file, bytes.to_string());
        }
    }
    if let Some(pids) = limits.pids {
        write("pids", "pids.max", bounded(pids));
    }
    for (size, bytes) in &limits.hugepages {
        let file = if unified { "max" } else { "limit_in_bytes" };
        write("hugetlb", &format!("hugetlb.{size}.{file}"), bytes.to_string());
    }
    all
}

/// Shares of version 1 as a weight of version 2, by upstream's kubelet's formula.
fn weight(shares: i64) -> i64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn remove_tree(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named(folder)(error)),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    // A process that has just ended keeps its group busy for a moment.
    for _ in 0..50 {
        match fs::remove_dir(folder) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return other.map_err(named(folder)),
        }
    }
    fs::remove_dir(folder).map_err(named(folder))
}

#[cfg(test)]
mod tests;
