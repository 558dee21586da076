//! What else a cgroup's files tell: for metrics and statistics, not for decisions.

use super::{Hierarchies, keyed};

/// What else a cgroup's files tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detail {
    /// Nanoseconds of processor time outside the kernel, and in it.
    pub user: Option<u64>,
    /// See [`Self::user`].
    pub system: Option<u64>,
    /// Enforcement periods; those in which it was held back; nanoseconds of being held back.
    pub periods: u64,
    /// See [`Self::periods`].
    pub throttled_periods: u64,
    /// See [`Self::periods`].
    pub throttled: u64,
    /// Periods in which it used what it had saved, and nanoseconds of that.
    pub bursts: u64,
    /// See [`Self::bursts`].
    pub burst: u64,
    /// Bytes of cached files, of mapped ones, of what is swapped out, and of the kernel's.
    pub cache: u64,
    /// See [`Self::cache`].
    pub mapped: u64,
    /// See [`Self::cache`].
    pub swap: u64,
    /// See [`Self::cache`].
    pub kernel: u64,
    /// How often the memory limit was hit.
    pub limit_hits: u64,
    /// The most bytes that were used.
    pub peak: Option<u64>,
    /// The limit of processes and threads, where there is one.
    pub pids_limit: Option<u64>,
    /// Bytes of files that were used lately.
    pub active_file: u64,
    /// See [`Self::active_file`]; those that were not.
    pub inactive_file: u64,
    /// Page faults, and those that needed a disk, without those of groups below it where that is told.
    pub own_faults: Option<(u64, u64)>,
}

/// What a cgroup may use, or is to have before others. What does not bind it is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Weight of processor time, as version 1 counts it: 1024 for a whole processor.
    pub shares: Option<u64>,
    /// Microseconds of an enforcement period, and of processor time in each of them.
    pub period: Option<u64>,
    /// See [`Self::period`].
    pub quota: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together.
    pub memory_and_swap: Option<u64>,
    /// Bytes that it keeps when memory is short (`memory.soft_limit_in_bytes`, `memory.low`).
    pub reserved: Option<u64>,
}

/// What went to and from one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Io {
    /// `major:minor`.
    pub device: String,
    /// Bytes and operations.
    pub read_bytes: u64,
    /// See [`Self::read_bytes`].
    pub written_bytes: u64,
    /// See [`Self::read_bytes`].
    pub reads: u64,
    /// See [`Self::read_bytes`].
    pub writes: u64,
}

impl Io {
    /// The device as `/dev` has it; where the kernel does not tell, its numbers.
    pub fn name(&self) -> String {
        let event = std::fs::read_to_string(format!("/sys/dev/block/{}/uevent", self.device));
        let name =
            event.as_deref().unwrap_or_default().lines().find_map(|line| line.strip_prefix("DEVNAME="));
        name.map_or_else(|| self.device.clone(), |name| format!("/dev/{name}"))
    }
}

/// How long processes waited for something: the share of the last 10, 60 and 300 seconds, and altogether.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Waited {
    /// Per cent.
    pub shares: [f64; 3],
    /// Nanoseconds.
    pub total: u64,
}

/// Pressure: time in which some waited, and in which all did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one.
    pub some: Waited,
    /// Every one.
    pub full: Waited,
}

impl Hierarchies {
    /// The pressure on `cpu`, `memory` or `io`; `None` where the kernel does not measure it.
    pub fn pressure(&self, what: &'static str, cgroup: &str) -> Option<Pressure> {
        // Version 1 has none.
        let file = format!("{what}.pressure");
        self.is_unified().then(|| self.read(what, cgroup, &file)).flatten().and_then(|text| pressure(&text))
    }

    /// Bytes of swap that are used, and that may still be.
    pub fn swap(&self, cgroup: &str) -> Option<(u64, Option<u64>)> {
        let number = |file: &str| -> Option<u64> { self.read("memory", cgroup, file)?.trim().parse().ok() };
        if self.is_unified() {
            let used = number("memory.swap.current")?;
            return Some((used, number("memory.swap.max").map(|most| most.saturating_sub(used))));
        }
        // Version 1 counts memory and swap together.
        let used = super::keyed(&self.read("memory", cgroup, "memory.stat")?, "total_swap")?;
        Some((used, None))
    }

    /// What else is known of a cgroup's use.
    pub fn detail(&self, cgroup: &str) -> Detail {
        let text = |controller: &str, file: &str| self.read(controller, cgroup, file).unwrap_or_default();
        let number = |controller: &str, file: &str| text(controller, file).trim().parse::<u64>().ok();
        let (cpu, memory) = (text("cpu", "cpu.stat"), text("memory", "memory.stat"));
        let of = |text: &str, key: &str| keyed(text, key).unwrap_or(0);
        let common = Detail {
            periods: of(&cpu, "nr_periods"),
            throttled_periods: of(&cpu, "nr_throttled"),
            bursts: of(&cpu, "nr_bursts"),
            pids_limit: number("pids", "pids.max"),
            own_faults: keyed(&memory, "pgfault").zip(keyed(&memory, "pgmajfault")),
            ..Detail::default()
        };
        if self.is_unified() {
            let microseconds = |key: &str| keyed(&cpu, key).map(|n| n * 1000);
            return Detail {
                user: microseconds("user_usec"),
                system: microseconds("system_usec"),
                throttled: microseconds("throttled_usec").unwrap_or(0),
                burst: microseconds("burst_usec").unwrap_or(0),
                cache: of(&memory, "file"),
                active_file: of(&memory, "active_file"),
                inactive_file: of(&memory, "inactive_file"),
                mapped: of(&memory, "file_mapped"),
                swap: number("memory", "memory.swap.current").unwrap_or(0),
                kernel: of(&memory, "kernel"),
                limit_hits: of(&text("memory", "memory.events"), "max"),
                peak: number("memory", "memory.peak"),
                ..common
            };
        }
        // Version 1 counts these in ticks, of which Linux tells a hundred a second everywhere.
        let ticks = |key: &str| keyed(&text("cpuacct", "cpuacct.stat"), key).map(|n| n * 10_000_000);
        Detail {
            user: ticks("user"),
            system: ticks("system"),
            throttled: of(&cpu, "throttled_time"),
            burst: of(&cpu, "burst_time"),
            cache: of(&memory, "total_cache"),
            active_file: of(&memory, "total_active_file"),
            inactive_file: of(&memory, "total_inactive_file"),
            mapped: of(&memory, "total_mapped_file"),
            swap: of(&memory, "total_swap"),
            kernel: number("memory", "memory.kmem.usage_in_bytes").unwrap_or(0),
            limit_hits: number("memory", "memory.failcnt").unwrap_or(0),
            peak: number("memory", "memory.max_usage_in_bytes"),
            ..common
        }
    }

    /// What a cgroup may use.
    pub fn bounds(&self, cgroup: &str) -> Bounds {
        let text = |controller: &str, file: &str| self.read(controller, cgroup, file).unwrap_or_default();
        // Version 1 writes "none" as a number near 2⁶³, and as -1; version 2 writes "max".
        let bound = |text: &str| text.trim().parse::<u64>().ok().filter(|bytes| *bytes < 1 << 62);
        if self.is_unified() {
            let most = text("cpu", "cpu.max");
            let (quota, period) = most.trim().split_once(' ').unwrap_or_default();
            let memory = bound(&text("memory", "memory.max"));
            return Bounds {
                shares: bound(&text("cpu", "cpu.weight")).map(shares),
                period: bound(period),
                quota: bound(quota),
                memory,
                memory_and_swap: memory.zip(bound(&text("memory", "memory.swap.max"))).map(|(a, b)| a + b),
                reserved: bound(&text("memory", "memory.low")),
            };
        }
        Bounds {
            shares: bound(&text("cpu", "cpu.shares")),
            period: bound(&text("cpu", "cpu.cfs_period_us")),
            quota: bound(&text("cpu", "cpu.cfs_quota_us")),
            memory: bound(&text("memory", "memory.limit_in_bytes")),
            memory_and_swap: bound(&text("memory", "memory.memsw.limit_in_bytes")),
            reserved: bound(&text("memory", "memory.soft_limit_in_bytes")),
        }
    }

    /// What a cgroup read and wrote, by device.
    pub fn io(&self, cgroup: &str) -> Vec<Io> {
        if self.is_unified() {
            return unified_io(&self.read("io", cgroup, "io.stat").unwrap_or_default());
        }
        let text = |file: &str| self.read("blkio", cgroup, file).unwrap_or_default();
        split_io(&text("blkio.throttle.io_service_bytes"), &text("blkio.throttle.io_serviced"))
    }
}

/// The weight of version 2 as shares of version 1, as upstream's kubelet sets and cAdvisor reads them.
fn shares(weight: u64) -> u64 {
    2 + weight.saturating_sub(1) * 262_142 / 9999
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same of `full`.
fn pressure(text: &str) -> Option<Pressure> {
    let line = |which: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(' '))?;
        let field = |key: &str| rest.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let share = |key: &str| field(key)?.parse::<f64>().ok();
        let shares = [share("avg10")?, share("avg60")?, share("avg300")?];
        Some(Waited { shares, total: field("total")?.parse::<u64>().ok()? * 1000 })
    };
    // Older kernels have no line for all processes that wait for the processor.
    Some(Pressure { some: line("some")?, full: line("full").unwrap_or_default() })
}

/// `254:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn unified_io(text: &str) -> Vec<Io> {
    let line = |line: &str| {
        let (device, rest) = line.split_once(' ')?;
        let of = |key: &str| {
            rest.split(' ')
                .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
                .unwrap_or(0)
        };
        let (read_bytes, written_bytes) = (of("rbytes"), of("wbytes"));
        Some(Io {
            device: device.to_owned(),
            read_bytes,
            written_bytes,
            reads: of("rios"),
            writes: of("wios"),
        })
    };
    text.lines().filter_map(line).collect()
}

/// `254:0 Read 1`, `254:0 Write 2`, of bytes and of operations.
fn split_io(bytes: &str, operations: &str) -> Vec<Io> {
    let mut found: Vec<Io> = Vec::new();
    for (text, counts_bytes) in [(bytes, true), (operations, false)] {
        for line in text.lines() {
            let mut fields = line.split(' ');
            let (Some(device), Some(what), Some(Ok(value))) =
                (fields.next(), fields.next(), fields.next().map(str::parse::<u64>))
            else {
                continue;
            };
            if !found.iter().any(|io| io.device == device) {
                found.push(Io { device: device.to_owned(), ..Io::default() });
            }
            let Some(io) = found.iter_mut().find(|io| io.device == device) else { continue };
            match (what, counts_bytes) {
                ("Read", true) => io.read_bytes = value,
                ("Write", true) => io.written_bytes = value,
                ("Read", false) => io.reads = value,
                ("Write", false) => io.writes = value,
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_line_by_line() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let found = pressure(text).unwrap();
        assert_eq!(
            (found.some, found.full.total),
            (Waited { shares: [1.5, 0.25, 0.0], total: 12_000 }, 3_000)
        );
        assert_eq!(pressure("some avg10=x"), None);
    }

    #[test]
    fn bounds_are_read_in_either_version() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |file: &str, text: &str| std::fs::write(folder.path().join("g").join(file), text).unwrap();
        std::fs::create_dir(folder.path().join("g")).unwrap();
        let split = ["cpu", "memory"].map(str::to_owned).to_vec();
        let first = Hierarchies { split: vec![(split, folder.path().to_owned())], ..Hierarchies::default() };
        let second = Hierarchies { unified: Some(folder.path().to_owned()), ..Hierarchies::default() };
        assert_eq!([first.bounds("/g"), second.bounds("/g")], [Bounds::default(); 2], "nothing is told");
        for (file, text) in [
            ("cpu.shares", "1024\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("cpu.cfs_quota_us", "-1\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.soft_limit_in_bytes", "4096\n"),
            ("cpu.weight", "39\n"),
            ("cpu.max", "50000 100000\n"),
            ("memory.max", "8192\n"),
            ("memory.swap.max", "0\n"),
        ] {
            write(file, text);
        }
        let period = Some(100_000);
        let wanted = Bounds { shares: Some(1024), period, reserved: Some(4096), ..Bounds::default() };
        assert_eq!(first.bounds("/g"), wanted);
        let wanted = Bounds {
            shares: Some(998),
            period,
            quota: Some(50_000),
            memory: Some(8192),
            memory_and_swap: Some(8192),
            reserved: None,
        };
        assert_eq!(second.bounds("g"), wanted);
        write("cpu.max", "max 100000\n");
        assert_eq!((second.bounds("g").quota, second.bounds("g").period), (None, period));
    }

    #[test]
    fn a_device_that_is_not_known_is_called_by_its_numbers() {
        let io = Io { device: "0:0".to_owned(), ..Io::default() };
        assert_eq!(io.name(), "0:0");
    }

    #[test]
    fn what_devices_did_in_either_version() {
        let unified = unified_io("254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n");
        let split = split_io(
            "254:0 Read 10\n254:0 Write 20\n254:0 Sync 5\nTotal 30\n",
            "254:0 Read 1\n254:0 Write 2\n",
        );
        let expected = Io { device: "254:0".into(), read_bytes: 10, written_bytes: 20, reads: 1, writes: 2 };
        assert_eq!((unified, split), (vec![expected.clone()], vec![expected]));
    }
}
