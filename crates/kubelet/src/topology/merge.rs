//! Where a container is to be, from what each of its resources would like (`topologymanager.HintMerger`). Pure.

use std::collections::BTreeMap;

use super::{Mask, Policy};

/// One way to serve a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The nodes it takes; `None` when it does not matter.
    pub affinity: Option<Mask>,
    /// Whether it takes as few nodes as can be.
    pub preferred: bool,
}

/// What one provider would like, by resource: `None` is no wish, and an empty list cannot be served.
pub type Hints = BTreeMap<String, Option<Vec<Hint>>>;

/// The machine's NUMA nodes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numa {
    pub nodes: Vec<i64>,
    /// From each node to all in turn; only when near nodes are to be preferred.
    pub distances: BTreeMap<i64, Vec<u64>>,
    pub prefer_closest: bool,
}

impl Numa {
    fn all(&self) -> Mask {
        Mask::of(self.nodes.iter().copied())
    }

    /// The mean distance between the nodes of a set.
    fn spread(&self, mask: Mask) -> f64 {
        let distance = |from: i64, to: i64| {
            let list = self.distances.get(&from);
            let index = self.nodes.iter().position(|node| *node == to);
            let found = list.zip(index).and_then(|(list, index)| list.get(index));
            found.map_or(0.0, |distance| *distance as f64)
        };
        let pairs = mask.nodes().flat_map(|from| mask.nodes().map(move |to| (from, to)));
        let sum: f64 = pairs.map(|(from, to)| distance(from, to)).sum();
        sum / f64::from(mask.count().pow(2).max(1))
    }

    /// The better of two sets; the first, if they are equally good.
    fn better(&self, first: Mask, second: Mask) -> Mask {
        if self.prefer_closest && first.count() == second.count() {
            let (a, b) = (self.spread(first), self.spread(second));
            if a < b {
                return first;
            }
            if b < a {
                return second;
            }
        }
        first.min(second)
    }
}

/// The best place, and whether the policy takes a pod that gets it.
pub fn merge(policy: Policy, numa: &Numa, providers: &[Hints]) -> (Hint, bool) {
    let mut lists = lists(providers);
    let single = policy == Policy::SingleNumaNode;
    if single {
        let fits = |hint: &Hint| hint.preferred && hint.affinity.is_none_or(|mask| mask.count() == 1);
        lists.iter_mut().for_each(|list| list.retain(fits));
    }
    // Closeness does not matter to whoever takes one node only.
    let numa = &Numa { prefer_closest: numa.prefer_closest && !single, ..numa.clone() };
    let merger = Merger { numa, widest: widest(&lists) };
    let mut best = None;
    merger.each(&lists, Merged { mask: numa.all(), first: None, preferred: true }, &mut best);
    let default = (numa.all(), false);
    let (mask, preferred) = best.unwrap_or(default);
    let affinity = Some(mask).filter(|mask| !(single && *mask == numa.all()));
    let admitted = match policy {
        Policy::Restricted | Policy::SingleNumaNode => preferred,
        Policy::None | Policy::BestEffort => true,
    };
    (Hint { affinity, preferred }, admitted)
}

fn lists(providers: &[Hints]) -> Vec<Vec<Hint>> {
    let anywhere = |preferred| vec![Hint { affinity: None, preferred }];
    let mut lists = Vec::new();
    for hints in providers {
        if hints.is_empty() {
            lists.push(anywhere(true));
        }
        lists.extend(hints.values().map(|hints| match hints {
            None => anywhere(true),
            Some(none) if none.is_empty() => anywhere(false),
            Some(hints) => hints.clone(),
        }));
    }
    lists
}

/// How many nodes the resource takes that needs the most of them: without a preferred place, that many are best.
fn widest(lists: &[Vec<Hint>]) -> u32 {
    let narrowest = |list: &Vec<Hint>| list.iter().filter_map(|hint| hint.affinity).min();
    lists.iter().filter_map(narrowest).map(Mask::count).max().unwrap_or(0)
}

#[derive(Clone, Copy)]
struct Merged {
    mask: Mask,
    /// The first set that was named.
    first: Option<Mask>,
    preferred: bool,
}

type Best = Option<(Mask, bool)>;

struct Merger<'a> {
    numa: &'a Numa,
    widest: u32,
}

impl Merger<'_> {
    /// Looks at every choice of one hint from each list.
    fn each(&self, lists: &[Vec<Hint>], so_far: Merged, best: &mut Best) {
        let Some((list, rest)) = lists.split_first() else {
            *best = self.compare(*best, (so_far.mask, so_far.preferred));
            return;
        };
        for hint in list {
            let mut merged = so_far;
            merged.preferred &= hint.preferred;
            if let Some(mask) = hint.affinity {
                merged.mask = merged.mask.and(mask);
                let first = *merged.first.get_or_insert(mask);
                merged.preferred &= first == mask;
            }
            self.each(rest, merged, best);
        }
    }

    fn compare(&self, current: Best, candidate: (Mask, bool)) -> Best {
        let (mask, preferred) = candidate;
        let Some((held, held_preferred)) = current.filter(|_| !mask.is_empty()) else {
            return current.or(Some(candidate).filter(|_| !mask.is_empty()));
        };
        let better = || Some((self.numa.better(held, mask), preferred));
        match (held_preferred, preferred) {
            (false, true) => return Some(candidate),
            (true, false) => return current,
            (true, true) => return better(),
            (false, false) => {}
        }
        // Neither is preferred: as close as can be to what the most demanding resource needs, from below.
        let (has, gets) = (held.count(), mask.count());
        if has > self.widest || has == gets && gets <= self.widest {
            return better();
        }
        match has < gets && gets <= self.widest {
            true => Some(candidate),
            false => current,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(nodes: &str, preferred: bool) -> Hint {
        let digits = nodes.chars().filter_map(|c| c.to_digit(10)).map(i64::from);
        Hint { affinity: (nodes != "any").then(|| Mask::of(digits)), preferred }
    }

    /// `0* 01` is a list with node 0, preferred, and nodes 0 and 1.
    fn wishes(text: &str) -> Hints {
        let list = match text {
            "none" => return Hints::new(),
            "whatever" => None,
            text => Some(
                text.split_whitespace()
                    .map(|word| hint(word.trim_end_matches('*'), word.ends_with('*')))
                    .collect(),
            ),
        };
        Hints::from([("r".to_owned(), list)])
    }

    #[test]
    fn places_are_merged_and_taken_as_the_policy_says() {
        use Policy::{BestEffort, Restricted, SingleNumaNode};
        let numa = Numa { nodes: vec![0, 1], ..Numa::default() };
        for (policy, providers, wanted, admitted) in [
            (BestEffort, &["none"][..], hint("01", true), true),
            (BestEffort, &["whatever", ""], hint("01", false), true),
            (BestEffort, &["0* 1* 01", "none"], hint("0", true), true),
            (BestEffort, &["0* 1* 01", "1* 01"], hint("1", true), true),
            (BestEffort, &["0* 01", "1* 01"], hint("0", false), true),
            (BestEffort, &["0*", "1*"], hint("01", false), true),
            (BestEffort, &["01*", "0* 1* 01"], hint("01", false), true),
            (BestEffort, &["01*", "01*"], hint("01", true), true),
            (Restricted, &["0* 01", "1* 01"], hint("0", false), false),
            (Restricted, &["01*", "01*"], hint("01", true), true),
            (Restricted, &["whatever", ""], hint("01", false), false),
            (SingleNumaNode, &["01*"], hint("any", false), false),
            (SingleNumaNode, &["0* 1* 01", "1* 01"], hint("1", true), true),
            (SingleNumaNode, &["none", "whatever"], hint("any", true), true),
            (SingleNumaNode, &["0*", "1*"], hint("any", false), false),
        ] {
            let hints: Vec<Hints> = providers.iter().map(|text| wishes(text)).collect();
            assert_eq!(merge(policy, &numa, &hints), (wanted, admitted), "{policy:?} {providers:?}");
        }
    }

    #[test]
    fn without_a_preferred_place_as_many_nodes_are_best_as_are_needed() {
        let numa = Numa { nodes: vec![0, 1, 2, 3], ..Numa::default() };
        let place = |providers: &[&str]| {
            let hints: Vec<Hints> = providers.iter().map(|text| wishes(text)).collect();
            merge(Policy::BestEffort, &numa, &hints).0
        };
        assert_eq!(place(&["01 23 0123", "0 1 2 012"]), hint("01", false));
        assert_eq!(place(&["01 0123", "23 0123"]), hint("01", false));
        assert_eq!(place(&["0123", "0 1"]), hint("0", false));
    }

    #[test]
    fn near_nodes_are_better_when_that_is_wanted() {
        let distances =
            [(0, vec![10, 30, 12]), (1, vec![30, 10, 30]), (2, vec![12, 30, 10])].into_iter().collect();
        let mut numa = Numa { nodes: vec![0, 1, 2], distances, prefer_closest: true };
        let hints = [wishes("01* 02* 12*")];
        assert_eq!(merge(Policy::Restricted, &numa, &hints).0, hint("02", true));
        numa.prefer_closest = false;
        assert_eq!(merge(Policy::Restricted, &numa, &hints).0, hint("01", true));
    }
}
