//! Control groups of either version: where they are, and what the kernel tells of them. Who makes, limits and removes
//! them does so by the folders that are found here.

mod detail;

pub use detail::{Bounds, Detail, Io, Pressure, Waited};

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the machine's hierarchies are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 2 with controllers, the only one then.
    pub unified: Option<PathBuf>,
    /// Version 1: the controllers (or the name) of each hierarchy, and its mount point. A hybrid layout's mount of
    /// version 2 has none.
    pub split: Vec<(Vec<String>, PathBuf)>,
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
    ///
    /// # Errors
    /// When the mount table cannot be read.
    pub fn detect() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mountinfo")?))
    }

    /// By a mount table in the form of `/proc/self/mountinfo`. Pure.
    pub fn parse(mountinfo: &str) -> Self {
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
    pub fn folders(&self, cgroup: &str) -> Vec<PathBuf> {
        let cgroup = cgroup.trim_start_matches('/');
        let mounts = self.unified.iter().chain(self.split.iter().map(|(_, at)| at));
        mounts.map(|at| at.join(cgroup)).collect()
    }

    /// Its folder in the hierarchy of a controller, if that is mounted.
    pub fn folder(&self, controller: &str, cgroup: &str) -> Option<PathBuf> {
        let cgroup = cgroup.trim_start_matches('/');
        if let Some(at) = &self.unified {
            return Some(at.join(cgroup));
        }
        let has = |names: &Vec<String>| names.iter().any(|name| name == controller);
        self.split.iter().find(|(names, _)| has(names)).map(|(_, at)| at.join(cgroup))
    }

    /// Every process in a cgroup and below it.
    ///
    /// # Errors
    /// When a list of them is there and cannot be read.
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

    /// How often the kernel killed something there for want of memory.
    pub fn oom_kills(&self, cgroup: &str) -> u64 {
        let file = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        self.read("memory", cgroup, file).and_then(|text| keyed(&text, "oom_kill")).unwrap_or(0)
    }

    /// A file of a cgroup, in the hierarchy of a controller.
    pub fn read(&self, controller: &str, cgroup: &str, file: &str) -> Option<String> {
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
}

/// Whether an error says that a cgroup is not there any more.
pub fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

/// The folders directly below one; nothing when it is absent.
///
/// # Errors
/// When it is there and cannot be read.
pub fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if gone(&error) => return Ok(Vec::new()),
        entries => entries?,
    };
    let folder = |entry: fs::DirEntry| Ok(entry.file_type()?.is_dir().then(|| entry.path()));
    entries.filter_map(|entry| entry.and_then(folder).transpose()).collect()
}

/// A folder and all below it, parents first; nothing when it is absent.
///
/// # Errors
/// When one of them is there and cannot be read.
pub fn descendants(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next).cloned() {
        next += 1;
        all.extend(below(&folder)?);
    }
    Ok(all)
}

/// A number by its key, in lines of `KEY NUMBER`.
pub fn keyed(text: &str, key: &str) -> Option<u64> {
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
}
