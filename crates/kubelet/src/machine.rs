//! What the kernel tells of the machine. Read once, at the start; how much memory is left, whenever it is asked.

use std::fs;
use std::io;
use std::path::Path;

use crate::KubeletError;

const MEMINFO: &str = "/proc/meminfo";

/// What the kernel tells of memory: lines of `KEY: NUMBER kB`, of the whole machine or of one process.
#[derive(Debug)]
pub struct Meminfo(String);

impl Meminfo {
    /// The machine's, now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read() -> io::Result<Self> {
        fs::read_to_string(MEMINFO).map(Self)
    }

    /// In another file of that form.
    pub fn of(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Bytes, by the key, such as `MemTotal`.
    pub fn bytes(&self, key: &str) -> Option<u64> {
        let rest = self.0.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(rest.split_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
    }
}

/// Processes and threads of the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tasks {
    pub running: i64,
    /// No more of them can be: the kernel has a limit of their numbers and one of their count.
    pub most: i64,
}

impl Tasks {
    /// Now.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read() -> io::Result<Self> {
        let limit = |file: &str| -> io::Result<i64> {
            fs::read_to_string(Path::new("/proc/sys/kernel").join(file))?
                .trim()
                .parse()
                .map_err(io::Error::other)
        };
        let load = fs::read_to_string("/proc/loadavg")?;
        let running = Self::running(&load).ok_or_else(|| io::Error::other("/proc/loadavg"))?;
        Ok(Self { running, most: limit("pid_max")?.min(limit("threads-max")?) })
    }

    fn running(load: &str) -> Option<i64> {
        load.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()
    }
}

/// The machine.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// What may be used: millicores.
    pub cpu_millis: u64,
    /// What may be used: bytes.
    pub memory: u64,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel_version: String,
    pub os_image: String,
    /// Sizes, such as `2Mi`, and how many bytes there are of each.
    pub huge_pages: Vec<(String, u64)>,
    /// Bytes of swap.
    pub swap: u64,
    /// Whether the kernel confines by AppArmor profiles.
    pub apparmor: bool,
    /// Whether this is root of a user namespace only (KEP-2033).
    pub in_user_namespace: bool,
}

impl Machine {
    /// Reads the machine, or takes a declared capacity (millicores, bytes).
    pub fn read(declared: Option<(u64, u64)>) -> Result<Self, KubeletError> {
        let needed = |path: &'static str| {
            fs::read_to_string(path).map_err(|source| KubeletError::Machine { path, source })
        };
        let meminfo = Meminfo(needed(MEMINFO)?);
        let (cpu_millis, memory) = match declared {
            Some(capacity) => capacity,
            None => (cpus(&needed("/proc/cpuinfo")?) * 1000, meminfo.bytes("MemTotal").unwrap_or(0)),
        };
        // These three are missing in many containers and virtual machines; upstream reports them empty then.
        let optional = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Ok(Self {
            cpu_millis,
            memory,
            machine_id: optional("/etc/machine-id"),
            system_uuid: optional("/sys/class/dmi/id/product_uuid"),
            boot_id: needed("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            kernel_version: needed("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            os_image: os_image(&optional("/etc/os-release")),
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages"), declared.is_some()),
            swap: meminfo.bytes("SwapTotal").unwrap_or(0),
            apparmor: apparmor(Path::new("/sys")),
            in_user_namespace: maps_users(&optional("/proc/self/uid_map")),
        })
    }
}

/// Whether not every user is who it is. A kernel without such namespaces has no map.
fn maps_users(uid_map: &str) -> bool {
    let whole = ["0", "0", "4294967295"];
    !uid_map.is_empty() && !uid_map.split_whitespace().eq(whole)
}

fn cpus(cpuinfo: &str) -> u64 {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    u64::try_from(count).unwrap_or(1).max(1)
}

/// As upstream's kubelet finds out: its file system has to be there, too.
fn apparmor(sys: &Path) -> bool {
    sys.join("kernel/security/apparmor").exists()
        && fs::read(sys.join("module/apparmor/parameters/enabled")).is_ok_and(|on| on.starts_with(b"Y"))
}

/// The sizes that the kernel knows. A node of a declared capacity has none of the machine's pages.
fn huge_pages(folder: &Path, declared: bool) -> Vec<(String, u64)> {
    // A kernel without them has no such folder.
    let Ok(sizes) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(String, u64)> = sizes
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: u64 =
                fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((page_size(kib), if declared { 0 } else { count * kib * 1024 }))
        })
        .collect();
    found.sort();
    found
}

/// A size of pages as resources are named by it: `2Mi`.
pub fn page_size(kib: u64) -> String {
    match kib {
        kib if kib % (1 << 20) == 0 => format!("{}Gi", kib >> 20),
        kib if kib % (1 << 10) == 0 => format!("{}Mi", kib >> 10),
        kib => format!("{kib}Ki"),
    }
}

fn os_image(os_release: &str) -> String {
    let pretty = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    pretty.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_everybody_is_no_namespace_of_its_own() {
        assert!(!maps_users("") && !maps_users("         0          0 4294967295"));
        assert!(maps_users("0 1000 1\n1 100000 65536") && maps_users("0 100000 65536"));
    }

    #[test]
    fn the_kernels_files_are_understood() {
        assert_eq!(cpus("processor\t: 0\nmodel\t: x\n\nprocessor\t: 1\n"), 2);
        let meminfo = Meminfo::of("MemTotalX: 1 kB\nMemTotal:       16384 kB\nMemFree: 1 kB\n");
        assert_eq!((meminfo.bytes("MemTotal"), meminfo.bytes("Swap")), (Some(16 << 20), None));
        let dir = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "0\n")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("nr_hugepages"), count).unwrap();
        }
        let pages = [("1Gi".to_owned(), 0), ("2Mi".to_owned(), 6 << 20)];
        assert_eq!(huge_pages(dir.path(), false), pages);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 13\"\n"), "Debian 13");
    }
    #[test]
    fn the_kernel_says_whether_it_confines() {
        let dir = tempfile::tempdir().unwrap();
        let parameters = dir.path().join("module/apparmor/parameters");
        fs::create_dir_all(&parameters).unwrap();
        fs::write(parameters.join("enabled"), "Y\n").unwrap();
        assert!(!apparmor(dir.path()), "its file system is not mounted");
        fs::create_dir_all(dir.path().join("kernel/security/apparmor")).unwrap();
        assert!(apparmor(dir.path()));
        fs::write(parameters.join("enabled"), "N\n").unwrap();
        assert!(!apparmor(dir.path()));
    }
}
