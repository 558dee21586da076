//! What the kernel tells of control groups, under cAdvisor's names: of the machine's own, of those that hold pods, and of
//! each container's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use base::cgroup::{Bounds, Detail, Hierarchies, Io, Pressure, Usage};

use super::super::exposition::Family;
use super::labels::{Labels, with};
use crate::machine::Meminfo;

/// A group, by where it is below each hierarchy's root.
pub struct Group {
    pub labels: Labels,
    pub place: String,
    pub kind: Kind,
}

/// Of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The machine: it is bounded by what there is.
    Machine,
    /// Pods.
    Pods,
    /// One container, whose processes are looked at one by one.
    Container,
}

/// All that is read of one.
#[derive(Default)]
struct Reading {
    usage: Usage,
    detail: Detail,
    bounds: Bounds,
    io: Vec<Io>,
    out_of_memory: u64,
    /// Of the processor, of memory, and of devices.
    pressure: [Option<Pressure>; 3],
    open: Option<Open>,
    /// When a group of pods was made, in seconds since 1970.
    made: Option<f64>,
}

/// What a container's processes have open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Open {
    processes: u64,
    descriptors: u64,
    sockets: u64,
    /// How many files the first of them may have open; `None` for no limit.
    files: Option<u64>,
}

/// A family with one sample a group.
struct Row {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&Reading) -> Option<f64>,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&Reading) -> Option<f64>) -> Row {
    Row { name, kind: "counter", help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&Reading) -> Option<f64>) -> Row {
    Row { name, kind: "gauge", help, value }
}

fn float(number: u64) -> f64 {
    number as f64
}

/// Nanoseconds as seconds.
fn seconds(nanoseconds: u64) -> f64 {
    float(nanoseconds) / 1e9
}

/// A group that is not held back has no enforcement periods.
fn held(reading: &Reading, number: u64) -> Option<f64> {
    reading.bounds.quota.map(|_| float(number))
}

/// What is not bounded is told as 0.
fn bound(bytes: Option<u64>) -> Option<f64> {
    Some(float(bytes.unwrap_or(0)))
}

fn waited(reading: &Reading, of: usize, all: bool) -> Option<f64> {
    let pressure = reading.pressure.get(of).copied().flatten()?;
    Some(seconds(if all { pressure.full.total } else { pressure.some.total }))
}

const ROWS: &[Row] = &[
    counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", |r| {
        r.detail.user.map(seconds)
    }),
    counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", |r| {
        r.detail.system.map(seconds)
    }),
    counter("container_cpu_cfs_burst_periods_total", "Number of periods when burst occurs.", |r| {
        held(r, r.detail.bursts)
    }),
    counter(
        "container_cpu_cfs_burst_seconds_total",
        "Total time duration the container has been bursted.",
        |r| r.bounds.quota.map(|_| seconds(r.detail.burst)),
    ),
    counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", |r| {
        held(r, r.detail.periods)
    }),
    counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", |r| {
        held(r, r.detail.throttled_periods)
    }),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled.",
        |r| r.bounds.quota.map(|_| seconds(r.detail.throttled)),
    ),
    gauge("container_memory_cache", "Number of bytes of page cache memory.", |r| Some(float(r.detail.cache))),
    counter("container_memory_failcnt", "Number of memory usage hits limits", |r| {
        Some(float(r.detail.limit_hits))
    }),
    gauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes.", |r| {
        Some(float(r.detail.kernel))
    }),
    gauge("container_memory_mapped_file", "Size of memory mapped files in bytes.", |r| {
        Some(float(r.detail.mapped))
    }),
    gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", |r| {
        r.detail.peak.map(float)
    }),
    gauge("container_memory_rss", "Size of RSS in bytes.", |r| r.usage.rss.map(float)),
    gauge("container_memory_swap", "Container swap usage in bytes.", |r| Some(float(r.detail.swap))),
    gauge("container_memory_total_active_file_bytes", "Current total active file in bytes.", |r| {
        Some(float(r.detail.active_file))
    }),
    gauge("container_memory_total_inactive_file_bytes", "Current total inactive file in bytes.", |r| {
        Some(float(r.detail.inactive_file))
    }),
    gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        |r| r.usage.memory.map(float),
    ),
    gauge("container_memory_working_set_bytes", "Current working set in bytes.", |r| {
        r.usage.working_set.map(float)
    }),
    counter("container_oom_events_total", "Count of out of memory events observed for the container", |r| {
        Some(float(r.out_of_memory))
    }),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to CPU congestion.",
        |r| waited(r, 0, true),
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to CPU congestion.",
        |r| waited(r, 0, false),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to IO congestion.",
        |r| waited(r, 2, true),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to IO congestion.",
        |r| waited(r, 2, false),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to memory congestion.",
        |r| waited(r, 1, true),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to memory congestion.",
        |r| waited(r, 1, false),
    ),
    gauge("container_file_descriptors", "Number of open file descriptors for the container.", |r| {
        r.open.map(|open| float(open.descriptors))
    }),
    gauge("container_sockets", "Number of open sockets for the container.", |r| {
        r.open.map(|open| float(open.sockets))
    }),
    gauge("container_spec_cpu_period", "CPU period of the container.", |r| r.bounds.period.map(float)),
    gauge("container_spec_cpu_quota", "CPU quota of the container.", |r| r.bounds.quota.map(float)),
    gauge("container_spec_cpu_shares", "CPU share of the container.", |r| r.bounds.shares.map(float)),
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container.", |r| bound(r.bounds.memory)),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory reservation limit for the container.",
        |r| bound(r.bounds.reserved),
    ),
    gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", |r| {
        bound(r.bounds.memory_and_swap)
    }),
    gauge("container_threads", "Number of threads running inside the container", |r| r.usage.pids.map(float)),
    gauge(
        "container_threads_max",
        "Maximum number of threads allowed inside the container, infinity if value is zero",
        |r| r.usage.pids.map(|_| float(r.detail.pids_limit.unwrap_or(0))),
    ),
];

/// The families of all groups that are there. What the machine's devices did (`disks`) is counted elsewhere.
pub fn families(hierarchies: &Hierarchies, groups: &[Group], disks: &[Io], now: i64) -> Vec<Family> {
    let mut families: Vec<Family> =
        ROWS.iter().map(|row| Family::new(row.name, row.kind, row.help)).collect();
    let mut cpu = Family::new(
        "container_cpu_usage_seconds_total",
        "counter",
        "Cumulative cpu time consumed in seconds.",
    );
    let mut faults = Family::new(
        "container_memory_failures_total",
        "counter",
        "Cumulative count of memory allocation failures.",
    );
    let mut processes =
        Family::new("container_processes", "gauge", "Number of processes running inside the container.");
    let mut files = Family::new(
        "container_ulimits_soft",
        "gauge",
        "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
    );
    let mut start = Family::new(
        "container_start_time_seconds",
        "gauge",
        "Start time of the container since unix epoch in seconds.",
    );
    let mut devices = Devices::new();
    for group in groups {
        let Some(reading) = read(hierarchies, group) else { continue };
        let labels = &group.labels;
        for (row, family) in ROWS.iter().zip(&mut families) {
            // What a group may use is no measurement.
            let at = (!row.name.starts_with("container_spec_")).then_some(now);
            family.add(&with(labels, &[]), (row.value)(&reading), at);
        }
        cpu.add(&with(labels, &[("cpu", "total")]), reading.usage.cpu.map(seconds), Some(now));
        start.add(&with(labels, &[]), reading.made, None);
        for (scope, of) in [("container", reading.detail.own_faults), ("hierarchy", reading.usage.faults)] {
            let Some((all, major)) = of else { continue };
            for (what, count) in [("pgfault", all), ("pgmajfault", major)] {
                let labels = with(labels, &[("failure_type", what), ("scope", scope)]);
                faults.add(&labels, Some(float(count)), Some(now));
            }
        }
        if let Some(open) = reading.open {
            processes.add(&with(labels, &[]), Some(float(open.processes)), Some(now));
            let most = open.files.map_or(-1.0, float);
            files.add(&with(labels, &[("ulimit", "max_open_files")]), Some(most), Some(now));
        }
        let io = if group.kind == Kind::Machine { disks } else { &reading.io };
        for io in io {
            devices.add(labels, io, now);
        }
    }
    families.extend([cpu, faults, processes, files, start]);
    families.extend(devices.0);
    families.retain(|family| !family.samples.is_empty());
    families
}

/// Bytes and operations by device.
struct Devices([Family; 5]);

impl Devices {
    fn new() -> Self {
        let counter = |name, help| Family::new(name, "counter", help);
        Self([
            counter("container_fs_reads_bytes_total", "Cumulative count of bytes read"),
            counter("container_fs_writes_bytes_total", "Cumulative count of bytes written"),
            counter("container_fs_reads_total", "Cumulative count of reads completed"),
            counter("container_fs_writes_total", "Cumulative count of writes completed"),
            counter("container_blkio_device_usage_total", "Blkio Device bytes usage"),
        ])
    }

    fn add(&mut self, labels: &Labels, io: &Io, now: i64) {
        let device = io.name();
        let [read, written, reads, writes, usage] = &mut self.0;
        let named = with(labels, &[("device", &device)]);
        let values = [io.read_bytes, io.written_bytes, io.reads, io.writes];
        for (family, value) in [read, written, reads, writes].into_iter().zip(values) {
            family.add(&named, Some(float(value)), Some(now));
        }
        let (major, minor) = io.device.split_once(':').unwrap_or_default();
        for (operation, value) in [("Read", io.read_bytes), ("Write", io.written_bytes)] {
            let more =
                [("device", device.as_str()), ("major", major), ("minor", minor), ("operation", operation)];
            usage.add(&with(labels, &more), Some(float(value)), Some(now));
        }
    }
}

/// `None` for a group that is gone, or was never there.
fn read(hierarchies: &Hierarchies, group: &Group) -> Option<Reading> {
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
    fn a_group_is_told_under_its_labels_and_one_that_is_gone_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("kubepods");
        fs::create_dir(&group).unwrap();
        for (file, text) in [
            (
                "cpu.stat",
                "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 4\nnr_throttled 2\nthrottled_usec 250000\n",
            ),
            ("cpu.max", "50000 100000\n"),
            ("cpu.weight", "39\n"),
            ("memory.current", "9000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 100\nfile 200\ninactive_file 1000\npgfault 7\npgmajfault 1\n"),
            (
                "memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=2000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\n",
            ),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("cgroup.procs", ""),
        ] {
            fs::write(group.join(file), text).unwrap();
        }
        let hierarchies = Hierarchies { unified: Some(dir.path().to_owned()), ..Hierarchies::default() };
        let of = |place: &str, kind| Group {
            labels: super::super::labels::of_group(place, None),
            place: place.to_owned(),
            kind,
        };
        let groups = [of("/kubepods", Kind::Pods), of("/gone", Kind::Container)];
        let told = super::super::super::exposition::text(&families(&hierarchies, &groups, &[], 7));
        let own = r#"container="",id="/kubepods",image="",name="",namespace="",pod="""#;
        for line in [
            format!("container_cpu_usage_seconds_total{{{own},cpu=\"total\"}} 1.5 7\n"),
            format!("container_cpu_cfs_throttled_seconds_total{{{own}}} 0.25 7\n"),
            format!("container_spec_cpu_quota{{{own}}} 50000\n"),
            format!("container_spec_cpu_shares{{{own}}} 998\n"),
            format!("container_spec_memory_limit_bytes{{{own}}} 0\n"),
            format!("container_memory_working_set_bytes{{{own}}} 8000 7\n"),
            format!(
                "container_memory_failures_total{{{own},failure_type=\"pgmajfault\",scope=\"hierarchy\"}} 1 7\n"
            ),
            format!("container_pressure_memory_waiting_seconds_total{{{own}}} 2 7\n"),
            format!("container_threads_max{{{own}}} 0 7\n"),
            format!("container_start_time_seconds{{{own}}} 1"),
        ] {
            assert!(told.contains(&line), "{line}: {told}");
        }
        assert!(!told.contains("/gone") && !told.contains("container_pressure_io"), "{told}");
        assert!(!told.contains("container_processes"), "pods' processes are their containers'");
    }

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
