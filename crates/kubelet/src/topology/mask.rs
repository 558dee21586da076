//! A set of NUMA nodes.

/// Nodes 0 to 63; upstream's bit mask knows no more either.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Mask(u64);

fn bit(node: i64) -> u64 {
    u32::try_from(node).ok().and_then(|node| 1_u64.checked_shl(node)).unwrap_or(0)
}

impl Mask {
    /// These nodes.
    #[cfg(test)]
    pub fn of(nodes: impl IntoIterator<Item = i64>) -> Self {
        Self(nodes.into_iter().fold(0, |mask, node| mask | bit(node)))
    }

    /// Whether a node is in it.
    pub fn has(self, node: i64) -> bool {
        self.0 & bit(node) != 0
    }
}
