//! Control groups of either version: finding, limiting and removing them, killing what is in them, reading their use.

mod detail;
mod devices;
mod kill;
mod make;

pub use detail::{Pressure, Waited};
pub use devices::{Devices, Rule};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::v1::LinuxContainerResources;

/// Where the machine's hierarchies are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 2 with controllers, the only one then.
    unified: Option<PathBuf>,
    /// Version 1: the controllers (or the name) of each hierarchy, and its mount point. A hybrid layout's mount of
    /// version 2 has none.
    split: Vec<(Vec<String>, PathBuf)>,
}

/// What a cgroup has used so far. What the kernel does not tell is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of processor time.
    pub cpu: Option<u64>,
    /// Bytes, caches included.
    pub memory: Option<u64>,
    /// Bytes without caches that can be dropped at once.
    pub working_set: Option<u64>,
    /// Bytes of anonymous memory.
    pub rss: Option<u64>,
    /// Page faults, and those that needed a disk.
    pub faults: Option<(u64, u64)>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The memory limit, where there is one.
    pub memory_limit: Option<u64>,
}

impl Hierarchies {
    /// Looks where they are mounted.
    pub fn detect() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let (mut left, mut right) = (left.split(' ').skip(4), right.split(' '));
            let (Some(at), Some(kind), _, Some(options)) =
                (left.next(), right.next(), right.next(), right.next())
            else {
                continue;
            };
            let at = PathBuf::from(at);
            match kind {
                "cgroup2" if at == Path::new("/sys/fs/cgroup") => found.unified = Some(at),
                "cgroup2" => found.split.push((Vec::new(), at)),
                "cgroup" => {
                    let names = options
                        .split(',')
                        .filter(|o| !matches!(*o, "rw" | "ro" | "xattr" | "clone_children"));
                    found.split.push((names.map(str::to_owned).collect(), at));
                }
                _ => {}
            }
        }
        if found.unified.is_some() {
            found.split.clear();
        }
        found
    }

    /// Whether version 2 is all there is.
    pub fn is_unified(&self) -> bool {
        self.unified.is_some()
    }

    /// Whether the kernel has a controller.
    pub fn has(&self, controller: &str) -> bool {
        match &self.unified {
            Some(at) => fs::read_to_string(at.join("cgroup.controllers"))
                .is_ok_and(|text| text.split_whitespace().any(|name| name == controller)),
            None => self.split.iter().any(|(names, _)| names.iter().any(|name| name == controller)),
        }
    }

    /// A cgroup's folder in every hierarchy.
    fn folders(&self, cgroup: &str) -> Vec<PathBuf> {
        let cgroup = cgroup.trim_start_matches('/');
        let mounts = self.unified.iter().chain(self.split.iter().map(|(_, at)| at));
        mounts.map(|at| at.join(cgroup)).collect()
    }

    fn folder(&self, controller: &str, cgroup: &str) -> Option<PathBuf> {
        let cgroup = cgroup.trim_start_matches('/');
        if let Some(at) = &self.unified {
            return Some(at.join(cgroup));
        }
        let has = |names: &Vec<String>| names.iter().any(|name| name == controller);
        self.split.iter().find(|(names, _)| has(names)).map(|(_, at)| at.join(cgroup))
    }

    /// Moves a process into a cgroup of the hierarchies that service managers kill by: version 2 and
    /// the named ones. Others would only cost time.
    pub fn shelter(&self, pid: i32, cgroup: &str) -> io::Result<()> {
        let cgroup = cgroup.trim_start_matches('/');
        let named =
            |names: &Vec<String>| names.is_empty() || names.iter().any(|name| name.starts_with("name="));
        let split = self.split.iter().filter(|(names, _)| named(names)).map(|(_, at)| at);
        for at in self.unified.iter().chain(split) {
            let folder = at.join(cgroup);
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Files that take "0" to bring a child of `from` into the cgroups of a process, where these are others: to
    /// enter a cgroup of version 2 takes an RCU grace period, also when one is there already.
    pub fn doors_of(&self, pid: i32, from: i32) -> io::Result<Vec<PathBuf>> {
        let mut doors = Vec::new();
        let here = fs::read_to_string(format!("/proc/{from}/cgroup")).unwrap_or_default();
        for line in fs::read_to_string(format!("/proc/{pid}/cgroup"))?.lines() {
            if here.lines().any(|one| one == line) {
                continue;
            }
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let path = path.trim_start_matches('/');
            if let Some(at) = &self.unified {
                doors.push(at.join(path).join("cgroup.procs"));
                continue;
            }
            let same = |have: &Vec<String>| have.join(",") == names || (have.is_empty() && names.is_empty());
            if let Some((_, at)) = self.split.iter().find(|(have, _)| same(have)) {
                // A single thread that moves itself need not wait for others, but only by this file.
                let door = if names.is_empty() { "cgroup.procs" } else { "tasks" };
                doors.push(at.join(path).join(door));
            }
        }
        Ok(doors)
    }

    /// Every process in a cgroup and below it.
    pub fn processes(&self, cgroup: &str) -> io::Result<Vec<i32>> {
        let mut pids = Vec::new();
        for folder in self.folders(cgroup) {
            for folder in descendants(&folder)? {
                match fs::read_to_string(folder.join("cgroup.procs")) {
                    Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                    Err(error) if gone(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Removes a cgroup and what is below it; one that is absent is removed already. A cgroup with
    /// processes cannot be removed.
    pub fn remove(&self, cgroup: &str) -> io::Result<()> {
        for folder in self.folders(cgroup) {
            for folder in descendants(&folder)?.into_iter().rev() {
                remove_empty(&folder)?;
            }
        }
        Ok(())
    }

    /// How often the kernel killed something there for want of memory.
    pub fn oom_kills(&self, cgroup: &str) -> u64 {
        let file = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        self.read("memory", cgroup, file).and_then(|text| keyed(&text, "oom_kill")).unwrap_or(0)
    }

    fn read(&self, controller: &str, cgroup: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.folder(controller, cgroup)?.join(file)).ok()
    }

    /// What a cgroup has used.
    pub fn usage(&self, cgroup: &str) -> Usage {
        let number = |controller: &str, file: &str| -> Option<u64> {
            self.read(controller, cgroup, file)?.trim().parse().ok()
        };
        let stat = self.read("memory", cgroup, "memory.stat").unwrap_or_default();
        let unified = self.is_unified();
        let (memory, inactive, rss) = if unified {
            (number("memory", "memory.current"), keyed(&stat, "inactive_file"), keyed(&stat, "anon"))
        } else {
            let bytes = number("memory", "memory.usage_in_bytes");
            (bytes, keyed(&stat, "total_inactive_file"), keyed(&stat, "total_rss"))
        };
        let cpu = if unified {
            let stat = self.read("cpu", cgroup, "cpu.stat").unwrap_or_default();
            keyed(&stat, "usage_usec").map(|usec| usec * 1000)
        } else {
            number("cpuacct", "cpuacct.usage")
        };
        let limit = number("memory", if unified { "memory.max" } else { "memory.limit_in_bytes" });
        let prefix = if unified { "" } else { "total_" };
        Usage {
            cpu,
            memory,
            working_set: memory.map(|bytes| bytes.saturating_sub(inactive.unwrap_or(0))),
            rss,
            faults: keyed(&stat, &format!("{prefix}pgfault"))
                .zip(keyed(&stat, &format!("{prefix}pgmajfault"))),
            pids: number("pids", "pids.current"),
            // Version 1 writes "none" as a number near 2⁶³.
            memory_limit: limit.filter(|limit| *limit < 1 << 62),
        }
    }

    /// Changes limits, but for fields that are 0 or empty. A cgroup that is gone is an error whatever is wanted.
    pub fn update(&self, cgroup: &str, wanted: &LinuxContainerResources) -> io::Result<()> {
        let folder = self.folder("memory", cgroup);
        folder.map_or(Ok(()), |at| fs::metadata(&at).map(drop).map_err(make::named(&at)))?;
        // Of memory, and memory with swap, version 1 takes only the one that fits beside the other's present value:
        // what fails is tried again after the rest.
        let mut again = Vec::new();
        for (controller, file, value) in changes(wanted, self.is_unified()) {
            let Some(path) = self.folder(controller, cgroup).map(|folder| folder.join(&file)) else {
                continue;
            };
            // A kernel that does not count swap has no limit of it either.
            if file.contains("sw") && !path.exists() {
                continue;
            }
            if fs::write(&path, &value).is_err() {
                again.push((path, value));
            }
        }
        for (path, value) in again {
            fs::write(&path, value).map_err(make::named(&path))?;
        }
        Ok(())
    }
}

/// What to write where: controller, file, value.
fn changes(wanted: &LinuxContainerResources, unified: bool) -> Vec<(&'static str, String, String)> {
    let mut changes = Vec::new();
    let mut set = |controller, file: &str, value: String| changes.push((controller, file.to_owned(), value));
    if wanted.cpu_shares > 0 {
        if unified {
            set("cpu", "cpu.weight", weight(wanted.cpu_shares as u64).to_string());
        } else {
            set("cpu", "cpu.shares", wanted.cpu_shares.to_string());
        }
    }
    let period = if wanted.cpu_period > 0 { wanted.cpu_period } else { 100_000 };
    if wanted.cpu_quota != 0 {
        if unified {
            let quota = if wanted.cpu_quota < 0 { "max".to_owned() } else { wanted.cpu_quota.to_string() };
            set("cpu", "cpu.max", format!("{quota} {period}"));
        } else {
            set("cpu", "cpu.cfs_period_us", period.to_string());
            set("cpu", "cpu.cfs_quota_us", wanted.cpu_quota.to_string());
        }
    }
    if wanted.memory_limit_in_bytes > 0 {
        let file = if unified { "memory.max" } else { "memory.limit_in_bytes" };
        set("memory", file, wanted.memory_limit_in_bytes.to_string());
    }
    match (wanted.memory_swap_limit_in_bytes, unified) {
        (0, _) => {}
        // The CRI's number is of memory and swap together, as version 1 has it.
        (both, false) => set("memory", "memory.memsw.limit_in_bytes", both.to_string()),
        (both, true) if both < 0 => set("memory", "memory.swap.max", "max".to_owned()),
        (both, true) => {
            let swap = both.saturating_sub(wanted.memory_limit_in_bytes).max(0);
            set("memory", "memory.swap.max", swap.to_string());
        }
    }
    if !wanted.cpuset_cpus.is_empty() {
        set("cpuset", "cpuset.cpus", wanted.cpuset_cpus.clone());
    }
    if !wanted.cpuset_mems.is_empty() {
        set("cpuset", "cpuset.mems", wanted.cpuset_mems.clone());
    }
    if unified {
        for (file, value) in &wanted.unified {
            set("", file, value.clone());
        }
    }
    changes
}

/// Shares of version 1 as the weight of version 2, by the formula that runc 1.3 and crun use: 1024
/// shares are weight 100, and both ends of the ranges meet.
pub fn weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144) as f64;
    let log = shares.log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// A process that has ended keeps its cgroup busy for a moment after it has left the list.
fn remove_empty(folder: &Path) -> io::Result<()> {
    let mut patience = 500;
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if gone(&error) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && patience > 0 => patience -= 1,
            Err(error) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// The folders directly below one; nothing when it is absent.
fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if gone(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let folder = |entry: fs::DirEntry| Ok(entry.file_type()?.is_dir().then(|| entry.path()));
    entries.filter_map(|entry| entry.and_then(folder).transpose()).collect()
}

/// A folder and all below it, parents first; nothing when it is absent.
fn descendants(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        next += 1;
        all.extend(below(&folder)?);
    }
    Ok(all)
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_hybrid_layout_is_version_1() {
        let found = Hierarchies::parse(HYBRID);
        assert!(!found.is_unified());
        assert_eq!(found.folder("cpuacct", "/a/b"), Some("/sys/fs/cgroup/cpu/a/b".into()));
        assert_eq!(found.folder("memory", "/a"), None);
        assert!(found.has("cpuacct") && !found.has("hugetlb"));
        assert_eq!(found.folders("/a").len(), 3);
    }

    #[test]
    fn one_mount_is_version_2() {
        let found = Hierarchies::parse("31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(found.is_unified());
        assert_eq!(found.folder("memory", "/a"), Some("/sys/fs/cgroup/a".into()));
    }

    #[test]
    fn shares_become_weights() {
        for (shares, expected) in [(2, 1), (1024, 100), (262_144, 10_000), (0, 1)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
    }

    #[test]
    fn only_what_is_given_changes() {
        let wanted = LinuxContainerResources { cpu_quota: 50_000, ..Default::default() };
        assert_eq!(changes(&wanted, true), [("cpu", "cpu.max".into(), "50000 100000".into())]);
        assert_eq!(changes(&LinuxContainerResources::default(), false), []);
        let swap = LinuxContainerResources {
            memory_limit_in_bytes: 100,
            memory_swap_limit_in_bytes: 150,
            ..Default::default()
        };
        assert_eq!(changes(&swap, true)[1], ("memory", "memory.swap.max".into(), "50".into()));
        assert_eq!(changes(&swap, false)[1], ("memory", "memory.memsw.limit_in_bytes".into(), "150".into()));
    }
}
