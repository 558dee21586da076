//! What the kernel tells of one control group.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use base::cgroup::{Bounds, Detail, Hierarchies, Io, Pressure, Usage};

use super::groups::{Group, Kind};
use crate::machine::Meminfo;

/// All that is read of one.
#[derive(Default)]
pub struct Reading {
    pub usage: Usage,
    pub detail: Detail,
    pub bounds: Bounds,
    pub io: Vec<Io>,
    pub out_of_memory: u64,
    /// Of the processor, of memory, and of devices.
    pub pressure: [Option<Pressure>; 3],
    pub open: Option<Open>,
    /// When a group of pods was made, in seconds since 1970.
    pub made: Option<f64>,
}

/// What a container's processes have open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open {
    pub processes: u64,
    pub descriptors: u64,
    pub sockets: u64,
    /// How many files the first of them may have open; `None` for no limit.
    pub files: Option<u64>,
}

/// `None` for a group that is gone, or was never there.
pub fn read(hierarchies: &Hierarchies, group: &Group) -> Option<Reading> {
    let place = group.place.as_str();
    let folder = hierarchies.folder("memory", place).filter(|folder| folder.is_dir())?;
    let mut reading = Reading {
        usage: hierarchies.usage(place),
        detail: hierarchies.detail(place),
        bounds: hierarchies.bounds(place),
        io: hierarchies.io(place),
        out_of_memory: hierarchies.oom_kills(place),
        pressure: ["cpu", "memory", "io"].map(|what| hierarchies.pressure(what, place)),
        open: None,
        made: None,
    };
    match group.kind {
        Kind::Machine => {
            if let Ok(meminfo) = Meminfo::read() {
                whole(&mut reading, &meminfo);
            }
        }
        Kind::Container => reading.open = hierarchies.processes(place).ok().map(|pids| open(&pids)),
        Kind::Pods => reading.made = made(&folder),
    }
    Some(reading)
}

/// The first group of version 2 has no files of its memory: that is the machine's.
fn whole(reading: &mut Reading, meminfo: &Meminfo) {
    let of = |key| meminfo.bytes(key);
    reading.bounds.memory = of("MemTotal");
    reading.bounds.memory_and_swap = of("SwapTotal");
    if reading.usage.memory.is_none() {
        let used = of("MemTotal").zip(of("MemFree")).map(|(all, free)| all.saturating_sub(free));
        reading.usage.memory = used;
        reading.usage.working_set = used.map(|used| used.saturating_sub(of("Inactive(file)").unwrap_or(0)));
        reading.usage.rss = of("AnonPages");
    }
}

fn made(folder: &Path) -> Option<f64> {
    let since = fs::metadata(folder.join("cgroup.procs")).ok()?.modified().ok()?;
    Some(since.duration_since(UNIX_EPOCH).ok()?.as_secs_f64().floor())
}

/// One that ends meanwhile is not counted.
fn open(pids: &[i32]) -> Open {
    let mut found = Open { processes: pids.len() as u64, ..Open::default() };
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.flatten() {
            found.descriptors += 1;
            let is_socket = |target: PathBuf| target.to_string_lossy().starts_with("socket:");
            found.sockets += u64::from(fs::read_link(entry.path()).is_ok_and(is_socket));
        }
    }
    let first = pids.first().map(|pid| fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default());
    found.files = first.and_then(|limits| most_files(&limits));
    found
}

/// The soft limit of open files, in `/proc/PID/limits`.
fn most_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_bounded_by_what_there_is() {
        let meminfo = Meminfo::of(
            "MemTotal: 100 kB\nMemFree: 40 kB\nInactive(file): 20 kB\nAnonPages: 5 kB\nSwapTotal: 8 kB\n",
        );
        let mut second = Reading::default();
        whole(&mut second, &meminfo);
        assert_eq!((second.usage.memory, second.usage.working_set), (Some(60 << 10), Some(40 << 10)));
        assert_eq!((second.bounds.memory, second.bounds.memory_and_swap), (Some(100 << 10), Some(8 << 10)));
        let mut first =
            Reading { usage: Usage { memory: Some(1), ..Usage::default() }, ..Reading::default() };
        whole(&mut first, &meminfo);
        assert_eq!((first.usage.memory, first.bounds.memory), (Some(1), Some(100 << 10)));
    }

    #[test]
    fn what_processes_have_open_is_counted() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let found = open(&[own]);
        assert!(found.processes == 1 && found.descriptors > 2 && found.sockets >= 1, "{found:?}");
        assert!(found.files.is_some_and(|most| most > 2), "{found:?}");
        drop(socket);
        assert_eq!(
            most_files("Max open files            1024                 524288               files\n"),
            Some(1024)
        );
        assert_eq!(
            most_files("Max open files            unlimited            unlimited            files\n"),
            None
        );
    }
}
