//! What the kernel tells of the memory of a group.

use std::io;

use super::Cgroups;

impl Cgroups {
    /// Bytes of memory of a group that no file stands behind.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn resident(&self, group: &str) -> io::Result<Option<i64>> {
        self.memory_stat(group, "total_rss", "anon")
    }

    /// How often a group's processes met a page that was not there, and how often it had to be read.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn page_faults(&self, group: &str) -> io::Result<[Option<i64>; 2]> {
        Ok([
            self.memory_stat(group, "pgfault", "pgfault")?,
            self.memory_stat(group, "pgmajfault", "pgmajfault")?,
        ])
    }

    /// A number of a group's `memory.stat`, by its name in version 1 and in version 2.
    pub(super) fn memory_stat(&self, group: &str, first: &str, second: &str) -> io::Result<Option<i64>> {
        let key = if self.found.is_unified() { second } else { first };
        let stat = self.read("memory", group, "memory.stat")?.unwrap_or_default();
        let value = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
        Ok(stat.lines().find_map(value))
    }
}
