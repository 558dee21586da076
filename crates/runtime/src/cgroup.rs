//! Control groups of either version: limiting and removing them, and killing what is in them. Where they are, and what
//! they use, is found by [`base::cgroup`].

mod devices;
mod kill;
mod make;

pub use base::cgroup::{Pressure, Usage, Waited};
use base::cgroup::{below, descendants, gone};
pub use devices::{Devices, Rule};

use std::fs;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri::v1::LinuxContainerResources;

/// Where the machine's hierarchies are mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies(base::cgroup::Hierarchies);

impl Deref for Hierarchies {
    type Target = base::cgroup::Hierarchies;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Hierarchies {
    /// Looks where they are mounted.
    pub fn detect() -> io::Result<Self> {
        base::cgroup::Hierarchies::detect().map(Self)
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

#[cfg(test)]
mod tests {
    use super::*;

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
