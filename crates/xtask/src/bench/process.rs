//! What `/proc` tells of processes.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What a set of processes has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Processor time in user and kernel mode, all threads, the ended ones too: microseconds.
    pub cpu_us: u64,
    /// Bytes that were to go to a disk.
    pub written: u64,
}

impl Usage {
    /// What was used since.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_us: self.cpu_us.saturating_sub(before.cpu_us),
            written: self.written.saturating_sub(before.written),
        }
    }
}

/// What these processes have used together.
///
/// # Errors
/// When one of them has ended.
pub(super) fn usage(pids: &[u32]) -> Result<Usage> {
    let tick_us = 1_000_000 / ticks_per_second()?;
    let mut total = Usage::default();
    for pid in pids {
        let stat = read(*pid, "stat")?;
        total.cpu_us += cpu_ticks(&stat).with_context(|| format!("the form of /proc/{pid}/stat"))? * tick_us;
        total.written += field(&read(*pid, "io")?, "write_bytes:").unwrap_or_default();
    }
    Ok(total)
}

/// Their proportional share of memory together, in bytes. One that has ended by now has none.
pub(super) fn pss(pids: &[u32]) -> u64 {
    let of = |pid: &u32| field(&read(*pid, "smaps_rollup").ok()?, "Pss:");
    pids.iter().filter_map(of).sum::<u64>() * 1024
}

/// The processes whose program has one of these names.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn by_name(names: &[String]) -> Result<Vec<u32>> {
    let named = |pid: &u32| {
        let comm = read(*pid, "comm").unwrap_or_default();
        // The kernel keeps the first 15 bytes of a name.
        names.iter().any(|name| name.get(..15).unwrap_or(name) == comm.trim_end())
    };
    Ok(all()?.into_iter().filter(named).collect())
}

/// Every process.
///
/// # Errors
/// When `/proc` cannot be read.
pub(super) fn all() -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    Ok(found)
}

/// The cgroups of a process, a line each; nothing when it has ended.
pub(super) fn cgroups(pid: u32) -> String {
    read(pid, "cgroup").unwrap_or_default()
}

/// The command line of a process, its words parted by spaces; nothing when it has ended.
pub(super) fn command_line(pid: u32) -> String {
    read(pid, "cmdline").unwrap_or_default().replace('\0', " ")
}

/// The children of a process, the oldest first; none when it has ended.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let text = read(pid, &format!("task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether something is mounted at a path.
pub(super) fn is_mount(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split_whitespace().nth(1) == path.to_str())
}

/// Unmounts everything below a folder, the innermost first, as far as it goes.
pub(super) fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let paths = mounts.lines().filter_map(|line| line.split_whitespace().nth(1));
    let mut paths: Vec<&str> = paths.filter(|path| Path::new(path).starts_with(folder)).collect();
    paths.sort_unstable();
    for path in paths.into_iter().rev().filter(|path| Path::new(path) != folder) {
        if let Err(error) = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH) {
            eprintln!("unmounting {path}: {error}");
        }
    }
}

/// What the kernel itself has taken for page tables, stacks and its own objects, in bytes.
///
/// # Errors
/// When `/proc/meminfo` cannot be read.
pub(super) fn kernel_memory() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let names = ["SUnreclaim:", "KernelStack:", "PageTables:", "Percpu:"];
    Ok(names.iter().filter_map(|name| field(&text, name)).sum::<u64>() * 1024)
}

fn read(pid: u32, file: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{file}");
    let bytes = fs::read(&path).with_context(|| format!("reading {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn ticks_per_second() -> Result<u64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?;
    u64::try_from(ticks.context("the length of a clock tick")?).context("the length of a clock tick")
}

/// User and system time of `/proc/PID/stat`, fields 14 and 15.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may hold anything, spaces and parentheses included.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194560 104 0 0 0 21 9 0 0 20 0 1 0 5013 1 2";
        assert_eq!(cpu_ticks(stat), Some(30));
        assert_eq!(cpu_ticks("7 (a) S 1"), None);
        assert_eq!(cpu_ticks(""), None);
    }

    #[test]
    fn a_field_is_the_number_after_its_name() {
        let text = "Rss:    12 kB\nPss:     7 kB\nPss_Dirty: 3 kB\n";
        assert_eq!(field(text, "Pss:"), Some(7));
        assert_eq!(field(text, "Swap:"), None);
        assert_eq!(field("rchar: 3\nwrite_bytes: 4096\n", "write_bytes:"), Some(4096));
    }

    #[test]
    fn this_process_has_memory_and_used_some_time() {
        let own = [std::process::id()];
        assert!(pss(&own) > 0);
        assert_eq!(
            usage(&own).unwrap().since(Usage { cpu_us: u64::MAX, written: u64::MAX }),
            Usage::default()
        );
        assert!(usage(&[u32::MAX]).is_err());
    }
}
