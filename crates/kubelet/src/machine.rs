//! What the kernel tells of the machine. Read once, at the start.

use std::fs;

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
        })
    }
}

fn cpus(cpuinfo: &str) -> u64 {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    u64::try_from(count).unwrap_or(1).max(1)
}

fn memory(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib =
        total.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
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
        assert_eq!(os_image("NAME=x\nPRETTY_NAME=\"Debian 13\"\n"), "Debian 13");
    }
}
