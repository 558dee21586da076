//! What the kernel tells of control groups, under cAdvisor's names: of the machine's own, of those that hold pods, and of
//! each container's.

use base::cgroup::{Hierarchies, Io};

use super::super::exposition::{Family, float, seconds};
use super::labels::{Labels, with};
use super::reading::read;
use super::rows::ROWS;

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
    let mut last =
        Family::new("container_last_seen", "gauge", "Last time a container was seen by the exporter");
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
        last.add(&with(labels, &[]), Some((now / 1000) as f64), Some(now));
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
    families.extend([cpu, faults, processes, files, start, last]);
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

#[cfg(test)]
mod tests {
    use std::fs;

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
}
