//! Which processors to take when a request that needs several NUMA nodes is to be spread evenly over them
//! (`takeByTopologyNUMADistributed`, KEP-2902). Pure.

use std::collections::BTreeMap;

use super::layout::{Layout, Level};
use super::take::{Taking, Taste, pack};
use super::{CpuError, CpuSet};
use crate::topology::combinations;

/// Takes `count` of the free processors, in groups of `group` (the threads of a core, or 1).
///
/// # Errors
/// [`CpuError::TooFew`].
pub fn distribute(
    layout: &Layout,
    free: &CpuSet,
    count: usize,
    group: usize,
    taste: Taste,
) -> Result<CpuSet, CpuError> {
    let taste = Taste { align_uncore: false, ..taste };
    let group = group.max(1);
    if count == 0 || !count.is_multiple_of(group) {
        return pack(layout, free, count, taste);
    }
    let taking = Taking::new(layout, free, count)?;
    let nodes = taking.nodes();
    let room: BTreeMap<i64, usize> =
        nodes.iter().map(|node| (*node, layout.within(Level::Node, *node, &taking.free).len())).collect();
    let wanted = Wanted { nodes: &nodes, room: &room, count, group };
    let needed = (count - 1) / group + 1;
    let groups = (layout.all().len().max(1) - 1) / group + 1;
    let per_node = (groups - 1) / layout.count(Level::Node).max(1) + 1;
    let (least, most) = ((needed - 1) / per_node + 1, needed.min(nodes.len()));
    for size in least..=most {
        if let Some(shares) = wanted.best(size) {
            return give(layout, &taking.free, &shares, group, taste);
        }
    }
    pack(layout, free, count, taste)
}

/// From which node how many.
type Shares = BTreeMap<i64, usize>;

/// Takes the even part of each node first, and then what is over, a group at a time.
fn give(
    layout: &Layout,
    free: &CpuSet,
    shares: &Shares,
    group: usize,
    taste: Taste,
) -> Result<CpuSet, CpuError> {
    let even = shares.values().min().copied().unwrap_or(0);
    let mut taken = CpuSet::default();
    for (node, count) in shares {
        let inside = layout.within(Level::Node, *node, free);
        taken = taken.or(&pack(layout, &inside, even, taste)?);
        for _ in 0..(count - even) / group {
            taken = taken.or(&pack(layout, &inside.without(&taken), group, taste)?);
        }
    }
    Ok(taken)
}

struct Wanted<'a> {
    nodes: &'a [i64],
    /// Free processors by node.
    room: &'a BTreeMap<i64, usize>,
    count: usize,
    group: usize,
}

impl Wanted<'_> {
    fn room(&self, node: i64) -> usize {
        self.room.get(&node).copied().unwrap_or(0)
    }

    /// The shares over so many nodes that leave all nodes as equally full as can be.
    fn best(&self, size: usize) -> Option<Shares> {
        let mut best: Option<(f64, Shares)> = None;
        for combo in combinations(self.nodes, size) {
            if best.as_ref().is_some_and(|(balance, _)| *balance == 0.0) {
                break;
            }
            let Some((balance, shares)) = self.shares(&combo) else { continue };
            if best.as_ref().is_none_or(|(known, _)| balance < *known) {
                best = Some((balance, shares));
            }
        }
        best.map(|(_, shares)| shares)
    }

    fn shares(&self, combo: &[i64]) -> Option<(f64, Shares)> {
        let room: usize = combo.iter().map(|node| self.room(*node) / self.group * self.group).sum();
        let even = self.count / combo.len() / self.group * self.group;
        if room < self.count || combo.iter().any(|node| self.room(*node) < even) {
            return None;
        }
        let shares: Shares = combo.iter().map(|node| (*node, even)).collect();
        let rest = self.count - even * combo.len();
        if rest == 0 {
            return Some((self.balance(&shares), shares));
        }
        let with_room: Vec<i64> =
            combo.iter().copied().filter(|node| self.room(*node) - even >= self.group).collect();
        let mut best: Option<(f64, Shares)> = None;
        for size in (1..=with_room.len()).rev() {
            for subset in combinations(&with_room, size) {
                let Some(shares) = self.with_rest(shares.clone(), &subset, rest) else { continue };
                let balance = self.balance(&shares);
                if best.as_ref().is_none_or(|(known, _)| balance < *known) {
                    best = Some((balance, shares));
                }
            }
        }
        best
    }

    /// Adds what is over, a group at a time from each of these nodes in turn.
    fn with_rest(&self, mut shares: Shares, subset: &[i64], mut rest: usize) -> Option<Shares> {
        while rest > 0 {
            let before = rest;
            for node in subset {
                let has = shares.get(node).copied().unwrap_or(0);
                if rest > 0 && self.room(*node).saturating_sub(has) >= self.group {
                    shares.insert(*node, has + self.group);
                    rest = rest.saturating_sub(self.group);
                }
            }
            if rest == before {
                return None;
            }
        }
        Some(shares)
    }

    /// How differently full all nodes are afterwards, to a thousandth.
    fn balance(&self, shares: &Shares) -> f64 {
        let left = |node: &i64| self.room(*node) as f64 - shares.get(node).copied().unwrap_or(0) as f64;
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let count = self.nodes.len() as f64;
        let mean = round(self.nodes.iter().map(left).sum::<f64>() / count);
        let squares: f64 = self.nodes.iter().map(|node| (left(node) - mean).powi(2)).sum();
        round((squares / count).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpus::layout::tests::machine;

    #[test]
    fn what_one_node_cannot_give_is_given_evenly() {
        let dual = machine(2, 1, 3, 2);
        let four = machine(2, 2, 2, 2);
        for (layout, free, count, group, wanted) in [
            (&dual, "0-11", 1, 1, "0"),
            (&dual, "0-11", 5, 1, "0-2,6-7"),
            (&dual, "0-11", 8, 1, "0-1,3-4,6-7,9-10"),
            (&dual, "0-11", 9, 1, "0-4,6-7,9-10"),
            (&dual, "0-11", 10, 2, "0-2,3-4,6-8,9-10"),
            (&four, "0-15", 6, 1, "0-3,8,10"),
            (&four, "0-15", 12, 1, "0-5,8-13"),
            (&dual, "1-11", 10, 1, "1-10"),
        ] {
            let taken = distribute(layout, &free.parse().unwrap(), count, group, Taste::default()).unwrap();
            assert_eq!(taken.len(), count, "{taken}");
            let per_node = |node| layout.within(Level::Node, node, &taken).len();
            let wanted: CpuSet = wanted.parse().unwrap();
            let wanted_per_node = |node| layout.within(Level::Node, node, &wanted).len();
            let nodes = layout.groups(Level::Node, &layout.all());
            let found: Vec<usize> = nodes.iter().map(|node| per_node(*node)).collect();
            let expected: Vec<usize> = nodes.iter().map(|node| wanted_per_node(*node)).collect();
            assert_eq!(found, expected, "{free} {count}: {taken}");
        }
        // What is over comes after the even parts, which fill gaps first.
        let taken = distribute(&dual, &"0-1,3-8,10".parse().unwrap(), 7, 1, Taste::default()).unwrap();
        assert_eq!(taken.to_string(), "0-1,3-4,6,8,10");
        let few = distribute(&dual, &CpuSet::of([0]), 2, 1, Taste::default());
        assert!(matches!(few, Err(CpuError::TooFew { .. })));
    }
}
