//! Which processor is where: its core, its cache, its socket and its NUMA node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::CpuSet;

/// One processor, which may be one of several threads of a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cpu {
    pub node: i64,
    pub socket: u32,
    /// The number of its core's first thread.
    pub core: u32,
    /// The last cache that it shares.
    pub uncore: u32,
}

/// What processors are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Node,
    Socket,
    Uncore,
    Core,
}

/// All processors of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout(BTreeMap<u32, Cpu>);

impl Layout {
    /// Of these, by number.
    pub fn new(cpus: BTreeMap<u32, Cpu>) -> Self {
        Self(cpus)
    }

    /// All of them.
    pub fn all(&self) -> CpuSet {
        CpuSet::of(self.0.keys().copied())
    }

    /// The group that a processor is in.
    pub fn group(&self, level: Level, cpu: u32) -> i64 {
        self.0.get(&cpu).map_or(-1, |cpu| match level {
            Level::Node => cpu.node,
            Level::Socket => i64::from(cpu.socket),
            Level::Uncore => i64::from(cpu.uncore),
            Level::Core => i64::from(cpu.core),
        })
    }

    /// The groups that these processors are in.
    pub fn groups(&self, level: Level, of: &CpuSet) -> BTreeSet<i64> {
        of.iter().map(|cpu| self.group(level, cpu)).collect()
    }

    /// Those of these processors that are in a group.
    pub fn within(&self, level: Level, group: i64, of: &CpuSet) -> CpuSet {
        CpuSet::of(of.iter().filter(|cpu| self.group(level, *cpu) == group))
    }

    /// How many groups there are.
    pub fn count(&self, level: Level) -> usize {
        self.groups(level, &self.all()).len()
    }

    /// How many processors a group has on average; 0 without any.
    pub fn size(&self, level: Level) -> usize {
        self.0.len().checked_div(self.count(level)).unwrap_or(0)
    }

    /// These processors and all threads of their cores.
    pub fn with_siblings(&self, cpus: &CpuSet) -> CpuSet {
        let cores = self.groups(Level::Core, cpus);
        CpuSet::of(self.0.iter().filter(|(_, cpu)| cores.contains(&i64::from(cpu.core))).map(|(id, _)| *id))
    }
}

/// Machines for tests.
#[cfg(test)]
pub mod tests {
    use super::*;

    /// So many sockets, NUMA nodes in each, cores in each of these and threads in each; threads of a core are as far
    /// apart as there are cores, as most machines number them.
    pub fn machine(sockets: u32, nodes: u32, cores: u32, threads: u32) -> Layout {
        let all = sockets * nodes * cores;
        let cpu = |core: u32| Cpu {
            node: i64::from(core / cores),
            socket: core / (cores * nodes),
            core,
            uncore: core / cores,
        };
        let threads = (0..threads).flat_map(|thread| (0..all).map(move |core| (core + thread * all, core)));
        Layout::new(threads.map(|(id, core)| (id, cpu(core))).collect())
    }

    #[test]
    fn groups_are_found() {
        let layout = machine(2, 1, 2, 2);
        assert_eq!(layout.all().to_string(), "0-7");
        assert_eq!(layout.within(Level::Socket, 1, &layout.all()).to_string(), "2-3,6-7");
        assert_eq!(
            (layout.count(Level::Core), layout.size(Level::Core), layout.size(Level::Node)),
            (4, 2, 4)
        );
        assert_eq!(layout.with_siblings(&CpuSet::of([0, 7])).to_string(), "0,3-4,7");
    }
}
