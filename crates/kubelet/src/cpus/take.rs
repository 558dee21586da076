//! Which processors to take: whole NUMA nodes and sockets first, then whole cores, and threads at last, out of the
//! fullest places, so that large requests still find large places (`takeByTopologyNUMAPacked`). Pure.

use std::collections::BTreeSet;

use super::layout::{Layout, Level};
use super::{CpuError, CpuSet};

/// What else is wanted of a choice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taste {
    /// Threads of different cores.
    pub spread: bool,
    /// As few caches as can be.
    pub align_uncore: bool,
}

/// Takes `count` of the free processors.
///
/// # Errors
/// [`CpuError::TooFew`].
pub fn pack(layout: &Layout, free: &CpuSet, count: usize, taste: Taste) -> Result<CpuSet, CpuError> {
    let mut taking = Taking::new(layout, free, count)?;
    let [first, second] = taking.outer();
    taking.whole(first);
    taking.whole(second);
    if taste.align_uncore {
        taking.caches();
    }
    if !taste.spread {
        taking.whole(Level::Core);
    }
    taking.threads(taste.spread);
    Ok(taking.taken)
}

/// A choice on its way.
pub(super) struct Taking<'l> {
    layout: &'l Layout,
    pub free: CpuSet,
    pub needed: usize,
    pub taken: CpuSet,
}

impl<'l> Taking<'l> {
    pub fn new(layout: &'l Layout, free: &CpuSet, count: usize) -> Result<Self, CpuError> {
        if free.len() < count {
            return Err(CpuError::TooFew { requested: count, available: free.len() });
        }
        Ok(Self { layout, free: free.and(&layout.all()), needed: count, taken: CpuSet::default() })
    }

    /// The larger of NUMA nodes and sockets, and the smaller.
    fn outer(&self) -> [Level; 2] {
        match self.layout.count(Level::Socket) >= self.layout.count(Level::Node) {
            true => [Level::Node, Level::Socket],
            false => [Level::Socket, Level::Node],
        }
    }

    /// Groups with anything free, those with the least first, level by level from the outside.
    fn order(&self, levels: &[Level]) -> Vec<i64> {
        let Some((first, rest)) = levels.split_first() else { return Vec::new() };
        let mut groups = self.sorted(*first, self.layout.groups(*first, &self.free));
        let mut outer = *first;
        for level in rest {
            let inside = |group: i64| {
                let free = self.layout.within(outer, group, &self.free);
                self.sorted(*level, self.layout.groups(*level, &free))
            };
            groups = groups.into_iter().flat_map(inside).collect();
            outer = *level;
        }
        groups
    }

    fn sorted(&self, level: Level, groups: BTreeSet<i64>) -> Vec<i64> {
        let mut groups: Vec<i64> = groups.into_iter().collect();
        groups.sort_by_key(|group| (self.layout.within(level, *group, &self.free).len(), *group));
        groups
    }

    fn path(&self, to: Level) -> Vec<Level> {
        let mut path = self.outer().to_vec();
        match path.iter().position(|level| *level == to) {
            Some(index) => path.truncate(index + 1),
            None => path.push(to),
        }
        path
    }

    /// NUMA nodes, in the order in which they are taken from.
    pub fn nodes(&self) -> Vec<i64> {
        self.order(&self.path(Level::Node))
    }

    pub fn take(&mut self, cpus: &CpuSet) {
        self.taken = self.taken.or(cpus);
        self.free = self.free.without(cpus);
        self.needed = self.needed.saturating_sub(cpus.len());
    }

    /// Takes groups that are free as a whole, as long as so much is needed.
    fn whole(&mut self, level: Level) {
        let all = self.layout.all();
        for group in self.order(&self.path(level)) {
            let cpus = self.layout.within(level, group, &all);
            let is_free = cpus.without(&self.free).is_empty();
            if is_free && !cpus.is_empty() && self.needed >= cpus.len() {
                self.take(&cpus);
            }
        }
    }

    /// Takes whole caches, and then the part of one that is enough.
    fn caches(&mut self) {
        let node_first = [self.path(Level::Node), vec![Level::Uncore]].concat();
        let size = self.layout.size(Level::Uncore);
        for cache in self.order(&node_first) {
            if self.needed >= size {
                self.whole_caches(&node_first);
            }
            if self.needed > 0 {
                self.part_of_cache(cache);
            }
            if self.needed == 0 {
                return;
            }
        }
    }

    fn whole_caches(&mut self, path: &[Level]) {
        let all = self.layout.all();
        for cache in self.order(path) {
            let cpus = self.layout.within(Level::Uncore, cache, &all);
            if cpus.without(&self.free).is_empty() && self.needed >= cpus.len() {
                self.take(&cpus);
            }
        }
    }

    fn part_of_cache(&mut self, cache: i64) {
        let threads = self.layout.size(Level::Core).max(1);
        let inside = self.layout.within(Level::Uncore, cache, &self.free);
        let cores = self.layout.groups(Level::Core, &inside);
        let cores: BTreeSet<i64> = cores.into_iter().take(self.needed.div_ceil(threads)).collect();
        let of_cores = |cpu: &u32| cores.contains(&self.layout.group(Level::Core, *cpu));
        let mut cpus: Vec<u32> = self.free.iter().filter(of_cores).collect();
        // Of the last core, one thread may be enough.
        if !self.needed.is_multiple_of(2) && threads > 1 && cpus.len() > self.needed {
            cpus.pop();
        }
        if cpus.len() == self.needed {
            self.take(&CpuSet::of(cpus));
        }
    }

    /// Takes what is still needed, thread by thread.
    fn threads(&mut self, spread: bool) {
        while self.needed > 0 {
            let level = if spread { Level::Socket } else { Level::Core };
            let path = match level {
                Level::Socket => self.path(Level::Socket),
                _ => self.path(Level::Core),
            };
            let order = self.order(&path);
            let next = order
                .iter()
                .flat_map(|group| self.layout.within(level, *group, &self.free).iter().collect::<Vec<_>>());
            let cpus = CpuSet::of(next.take(self.needed));
            if cpus.is_empty() {
                return;
            }
            self.take(&cpus);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpus::layout::tests::machine;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    fn picked(layout: &Layout, free: &str, count: usize, taste: Taste) -> String {
        pack(layout, &set(free), count, taste).map_or_else(|error| error.to_string(), |cpus| cpus.to_string())
    }

    /// The same cases as upstream's `TestTakeByTopologyNUMAPacked` has for these machines.
    #[test]
    fn large_requests_get_large_places_and_small_ones_fill_gaps() {
        let single = machine(1, 1, 4, 2);
        let dual = machine(2, 1, 3, 2);
        let plain = Taste::default();
        for (layout, free, count, wanted) in [
            (&single, "0-7", 1, "0"),
            (&single, "0-7", 2, "0,4"),
            (&single, "0-7", 5, "0-2,4-5"),
            (&single, "0,2-7", 5, "0,2,4-6"),
            (&single, "1,3,5-6", 2, "1,5"),
            (&single, "0-7", 8, "0-7"),
            (&single, "0-3", 9, "not enough cpus available to satisfy request: requested=9, available=4"),
            (&dual, "0-11", 6, "0-2,6-8"),
            (&dual, "0-11", 8, "0-3,6-9"),
            (&dual, "1-11", 6, "3-5,9-11"),
            (&dual, "1-11", 8, "1,3-5,7,9-11"),
            (&dual, "0,3-11", 1, "7"),
        ] {
            assert_eq!(picked(layout, free, count, plain), wanted, "{free} {count}");
        }
    }

    #[test]
    fn threads_are_spread_over_cores_and_caches_kept_when_that_is_wanted() {
        let layout = machine(1, 1, 4, 2);
        let spread = Taste { spread: true, ..Taste::default() };
        assert_eq!(picked(&layout, "0-7", 4, spread), "0-3");
        assert_eq!(picked(&layout, "0-7", 5, spread), "0-4");
        // Two caches of two cores in one node.
        let cpu = |core: u32| crate::cpus::Cpu { core, uncore: core / 2, ..crate::cpus::Cpu::default() };
        let caches = Layout::new((0..8).map(|id| (id, cpu(id % 4))).collect());
        let align = Taste { align_uncore: true, ..Taste::default() };
        assert_eq!(picked(&caches, "1-7", 4, align), "2-3,6-7");
        assert_eq!(picked(&caches, "1-7", 2, align), "2,6");
        assert_eq!(picked(&caches, "1-7", 3, align), "1,4-5");
    }
}
