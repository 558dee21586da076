//! A set of NUMA nodes.

use std::fmt;

/// Nodes 0 to 63; upstream's bit mask knows no more either. Of two masks, the narrower one is less: it has fewer
/// nodes, or as many with lower numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mask(u64);

fn bit(node: i64) -> u64 {
    u32::try_from(node).ok().and_then(|node| 1_u64.checked_shl(node)).unwrap_or(0)
}

impl Mask {
    /// These nodes.
    pub fn of(nodes: impl IntoIterator<Item = i64>) -> Self {
        Self(nodes.into_iter().fold(0, |mask, node| mask | bit(node)))
    }

    /// Whether a node is in it.
    pub fn has(self, node: i64) -> bool {
        self.0 & bit(node) != 0
    }

    /// Whether all of another is in it.
    pub fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// How many nodes.
    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The nodes, in order.
    pub fn nodes(self) -> impl Iterator<Item = i64> {
        (0..64).filter(move |node| self.has(*node))
    }
}

impl Ord for Mask {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.count(), self.0).cmp(&(other.count(), other.0))
    }
}

impl PartialOrd for Mask {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:b}", self.0)
    }
}

/// All choices of `count` of these, in order.
pub fn combinations<T: Copy>(of: &[T], count: usize) -> Vec<Vec<T>> {
    match (count, of.split_first()) {
        (0, _) => vec![Vec::new()],
        (_, None) => Vec::new(),
        (_, Some((first, rest))) => {
            let mut all: Vec<Vec<T>> = combinations(rest, count - 1);
            for chosen in &mut all {
                chosen.insert(0, *first);
            }
            all.extend(combinations(rest, count));
            all
        }
    }
}

/// All sets of these nodes but the empty one, small ones first.
pub fn subsets(nodes: &[i64]) -> Vec<Mask> {
    let of_size = |count| combinations(nodes, count).into_iter().map(Mask::of);
    (1..=nodes.len()).flat_map(of_size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_come_small_first_and_narrow_ones_are_less() {
        let of = |nodes: &[i64]| Mask::of(nodes.iter().copied());
        let all = [of(&[0]), of(&[1]), of(&[3]), of(&[0, 1]), of(&[0, 3]), of(&[1, 3]), of(&[0, 1, 3])];
        assert_eq!(subsets(&[0, 1, 3]), all);
        assert!(all.is_sorted());
        assert!(of(&[0, 1]).covers(of(&[1])) && !of(&[0]).covers(of(&[1])));
        assert_eq!(of(&[-1, 64, 5]).nodes().collect::<Vec<_>>(), [5]);
    }
}
