//! What the kernel tells of the machine. Read once, at the start.

use std::fs;
use std::path::Path;

use crate::KubeletError;

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
}

impl Machine {
    /// Reads the machine, or takes a declared capacity (millicores, bytes).
    pub fn read(declared: Option<(u64, u64)>) -> Result<Self, KubeletError> {
        let needed = |path: &'static str| {
            fs::read_to_string(path).map_err(|source| KubeletError::Machine { path, source })
        };
        let (cpu_millis, memory) = match declared {
            Some(capacity) => capacity,
            None => (cpus(&needed("/proc/cpuinfo")?) * 1000, memory(&needed("/proc/meminfo")?)),
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
            swap: field(&optional("/proc/meminfo"), "SwapTotal:"),
        })
    }
}

fn cpus(cpuinfo: &str) -> u64 {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    u64::try_from(count).unwrap_or(1).max(1)
}

fn memory(meminfo: &str) -> u64 {
    field(meminfo, "MemTotal:")
}

fn field(meminfo: &str, name: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix(name));
    let kib =
        total.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
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
    fn the_kernels_files_are_understood() {
        assert_eq!(cpus("processor\t: 0\nmodel\t: x\n\nprocessor\t: 1\n"), 2);
        assert_eq!(memory("MemTotal:       16384 kB\nMemFree: 1 kB\n"), 16 << 20);
        let dir = tempfile::tempdir().unwrap();
        for (name, count) in [("hugepages-2048kB", "3\n"), ("hugepages-1048576kB", "0\n")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("nr_hugepages"), count).unwrap();
        }
        let pages = [("1Gi".to_owned(), 0), ("2Mi".to_owned(), 6 << 20)];
        assert_eq!(huge_pages(dir.path(), false), pages);
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 13\"\n"), "Debian 13");
    }
}
