//! What cAdvisor tells of the machine: what it is made of, its file systems, their devices, and its interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use base::cgroup::Io;

use super::super::exposition::{Family, float};
use super::super::measures;
use super::super::system::is_others;
use super::labels::{Labels, with};
use crate::machine::Machine;

const SECTOR: u64 = 512;

/// What it is made of.
pub fn families(machine: &Machine) -> Vec<Family> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let (sockets, cores) = topology(&cpuinfo);
    let labels = [
        ("boot_id", machine.boot_id.as_str()),
        ("machine_id", machine.machine_id.as_str()),
        ("system_uuid", machine.system_uuid.as_str()),
    ];
    let family = |name, help, value: f64| {
        let mut family = Family::new(name, "gauge", help);
        family.add(&labels, Some(value), None);
        family
    };
    let help = "A metric with a constant '1' value labeled by kernel version, OS version, docker version, cadvisor version & cadvisor revision.";
    let mut version = Family::new("cadvisor_version_info", "gauge", help);
    let of = [
        ("cadvisorRevision", ""),
        ("cadvisorVersion", ""),
        ("dockerVersion", ""),
        ("kernelVersion", machine.kernel_version.as_str()),
        ("osVersion", machine.os_image.as_str()),
    ];
    version.add(&of, Some(1.0), None);
    let help = "1 if there was an error while getting machine metrics, 0 otherwise.";
    vec![
        version,
        Family::new("machine_scrape_error", "gauge", help).single(Some(0.0), None),
        family("machine_cpu_cores", "Number of logical CPU cores.", float(machine.cpu_millis) / 1000.0),
        family("machine_cpu_physical_cores", "Number of physical CPU cores.", float(cores)),
        family("machine_cpu_sockets", "Number of CPU sockets.", float(sockets)),
        family("machine_memory_bytes", "Amount of memory installed on the machine.", float(machine.memory)),
        family("machine_swap_bytes", "Amount of swap memory available on the machine.", float(machine.swap)),
    ]
}

/// Sockets and cores, in `/proc/cpuinfo`; where it does not tell them, each processor is a core of one socket.
fn topology(cpuinfo: &str) -> (u64, u64) {
    let (mut sockets, mut cores, mut processors) = (BTreeSet::new(), BTreeSet::new(), 0);
    let mut socket = "";
    for line in cpuinfo.lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        match (key.trim(), value.trim()) {
            ("processor", _) => processors += 1,
            ("physical id", id) => {
                socket = id;
                sockets.insert(id);
            }
            ("core id", id) => drop(cores.insert((socket, id))),
            _ => {}
        }
    }
    let or = |found: usize, usual: u64| if found == 0 { usual } else { found as u64 };
    (or(sockets.len(), 1), or(cores.len(), processors))
}

/// Devices with mounted file systems, by their numbers: what each is called, and where it is mounted first.
fn mounted(mountinfo: &str) -> BTreeMap<&str, (&str, PathBuf)> {
    let mut found = BTreeMap::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(2);
        let (Some(numbers), Some(at), Some(source)) = (left.next(), left.nth(1), right.split(' ').nth(1))
        else {
            continue;
        };
        if source.starts_with("/dev/") {
            // Blanks are written as their codes.
            let at = at.replace("\\040", " ");
            found.entry(numbers).or_insert((source, PathBuf::from(at)));
        }
    }
    found
}

/// What `/proc/diskstats` tells of a device: reads, of which merged, sectors, milliseconds; the same of writes; operations
/// under way, milliseconds with any, and with each counted.
fn disks(diskstats: &str) -> BTreeMap<String, [u64; 11]> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let numbers = format!("{}:{}", words.next()?, words.next()?);
        let counts: Vec<u64> = words.skip(1).map_while(|word| word.parse().ok()).collect();
        Some((numbers, counts.first_chunk().copied()?))
    };
    diskstats.lines().filter_map(line).collect()
}

/// The machine's file systems, their devices and its interfaces.
pub struct Seen {
    mountinfo: String,
    disks: BTreeMap<String, [u64; 11]>,
    interfaces: String,
}

impl Seen {
    /// Now. What the kernel does not tell is left out.
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            mountinfo: read("/proc/self/mountinfo"),
            disks: disks(&read("/proc/diskstats")),
            interfaces: read("/proc/thread-self/net/dev"),
        }
    }

    /// What its devices read and wrote.
    pub fn io(&self) -> Vec<Io> {
        let of = |numbers: &&str| {
            let [reads, _, read, _, writes, _, written, ..] = *self.disks.get(*numbers)?;
            Some(Io {
                device: (*numbers).to_owned(),
                read_bytes: read * SECTOR,
                written_bytes: written * SECTOR,
                reads,
                writes,
            })
        };
        mounted(&self.mountinfo).keys().filter_map(of).collect()
    }

    /// The families of its file systems and interfaces, in whose samples these labels are.
    pub fn families(&self, labels: &Labels, now: i64) -> Vec<Family> {
        let mut families = self.devices(labels, now);
        families.extend(self.file_systems(labels, now));
        families.extend(self.network(labels, now));
        families.retain(|family| !family.samples.is_empty());
        families
    }

    fn file_systems(&self, labels: &Labels, now: i64) -> Vec<Family> {
        let gauge = |name, help| Family::new(name, "gauge", help);
        let mut families = vec![
            gauge("container_fs_inodes_free", "Number of available Inodes"),
            gauge("container_fs_inodes_total", "Number of Inodes"),
            gauge(
                "container_fs_limit_bytes",
                "Number of bytes that can be consumed by the container on this filesystem.",
            ),
            gauge(
                "container_fs_usage_bytes",
                "Number of bytes that are consumed by the container on this filesystem.",
            ),
        ];
        for (device, at) in mounted(&self.mountinfo).values() {
            let Some(disk) = measures::disk(Path::new(at)) else { continue };
            let values = [disk.inodes_free, disk.inodes, disk.capacity, disk.used];
            let labels = with(labels, &[("device", device)]);
            for (family, value) in families.iter_mut().zip(values) {
                family.add(&labels, Some(float(value)), Some(now));
            }
        }
        families
    }

    fn devices(&self, labels: &Labels, now: i64) -> Vec<Family> {
        let counter = |name, help| Family::new(name, "counter", help);
        let mut families = vec![
            counter("container_fs_reads_merged_total", "Cumulative count of reads merged"),
            counter("container_fs_sector_reads_total", "Cumulative count of sector reads completed"),
            counter("container_fs_read_seconds_total", "Cumulative count of seconds spent reading"),
            counter("container_fs_writes_merged_total", "Cumulative count of writes merged"),
            counter("container_fs_sector_writes_total", "Cumulative count of sector writes completed"),
            counter("container_fs_write_seconds_total", "Cumulative count of seconds spent writing"),
            Family::new("container_fs_io_current", "gauge", "Number of I/Os currently in progress"),
            counter("container_fs_io_time_seconds_total", "Cumulative count of seconds spent doing I/Os"),
            counter("container_fs_io_time_weighted_seconds_total", "Cumulative weighted I/O time in seconds"),
        ];
        for (numbers, (device, _)) in mounted(&self.mountinfo) {
            let Some(counts) = self.disks.get(numbers) else { continue };
            let [_, read_merged, read, reading, _, write_merged, written, writing, now_at, busy, weighted] =
                counts.map(float);
            let values = [
                read_merged,
                read,
                reading / 1000.0,
                write_merged,
                written,
                writing / 1000.0,
                now_at,
                busy / 1000.0,
                weighted / 1000.0,
            ];
            let labels = with(labels, &[("device", device)]);
            for (family, value) in families.iter_mut().zip(values) {
                family.add(&labels, Some(value), Some(now));
            }
        }
        families
    }

    fn network(&self, labels: &Labels, now: i64) -> Vec<Family> {
        let mut families = super::network_families();
        for line in self.interfaces.lines() {
            let Some((name, counts)) = line.split_once(':') else { continue };
            let name = name.trim();
            if is_others(name) {
                continue;
            }
            let counts: Vec<u64> = counts.split_whitespace().map_while(|word| word.parse().ok()).collect();
            let [received, packets, errors, dropped, _, _, _, _, rest @ ..] = counts.as_slice() else {
                continue;
            };
            let [sent, sent_packets, sent_errors, sent_dropped, ..] = rest else { continue };
            let values = [received, errors, sent, sent_errors, packets, dropped, sent_packets, sent_dropped];
            let labels = with(labels, &[("interface", name)]);
            for (family, value) in families.iter_mut().zip(values) {
                family.add(&labels, Some(float(*value)), Some(now));
            }
        }
        families.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::exposition::text;
    use super::*;

    #[test]
    fn cores_and_sockets_are_counted_once() {
        let thread =
            |socket: u32, core: u32| format!("processor : 0\nphysical id : {socket}\ncore id : {core}\n\n");
        let two: String =
            [(0, 0), (0, 0), (0, 1), (1, 0)].map(|(socket, core)| thread(socket, core)).concat();
        assert_eq!(topology(&two), (2, 3));
        assert_eq!(topology("processor : 0\nprocessor : 1\n"), (1, 2));
    }

    #[test]
    fn the_machines_devices_and_interfaces_are_told() {
        let seen = Seen {
            mountinfo: "1 0 254:0 / / rw - ext4 /dev/vda rw\n2 1 254:0 /x /mnt rw - ext4 /dev/vda rw\n\
                        3 1 0:5 / /proc rw - proc proc rw\n"
                .to_owned(),
            disks: disks(" 254 0 vda 10 1 80 2000 20 2 160 4000 1 3000 6000 0 0\n 7 0 loop0 1 1\n"),
            interfaces:
                "head\n lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n eth0: 5 1 2 3 0 0 0 0 6 4 7 8 0 0 0 0\n"
                    .to_owned(),
        };
        let wanted = Io {
            device: "254:0".to_owned(),
            read_bytes: 80 * SECTOR,
            written_bytes: 160 * SECTOR,
            reads: 10,
            writes: 20,
        };
        assert_eq!(seen.io(), [wanted]);
        let told = text(&seen.families(&super::super::labels::of_group("/", None), 9));
        let own = r#"container="",id="/",image="",name="",namespace="",pod="""#;
        for line in [
            format!("container_fs_io_time_seconds_total{{{own},device=\"/dev/vda\"}} 3 9\n"),
            format!("container_network_receive_packets_dropped_total{{{own},interface=\"eth0\"}} 3 9\n"),
            format!("container_network_transmit_errors_total{{{own},interface=\"eth0\"}} 7 9\n"),
            format!("container_fs_limit_bytes{{{own},device=\"/dev/vda\"}} "),
        ] {
            assert!(told.contains(&line), "{line}: {told}");
        }
        assert!(!told.contains("\"lo\""), "{told}");
    }
}
