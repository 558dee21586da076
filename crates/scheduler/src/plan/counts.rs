//! How many there are of something, by the labels of nodes.

use crate::snapshot::{NodeInfo, Snapshot};

/// Numbers by the number of a label of nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    by_pair: Vec<i64>,
    /// How many of them are not zero.
    standing: usize,
}

impl Counts {
    pub fn get(&self, pair: u32) -> i64 {
        self.by_pair.get(pair as usize).copied().unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.standing == 0
    }

    pub fn add(&mut self, pair: u32, by: i64) {
        let at = pair as usize;
        if at >= self.by_pair.len() {
            self.by_pair.resize(at + 1, 0);
        }
        let Some(count) = self.by_pair.get_mut(at) else { return };
        let was = *count != 0;
        *count += by;
        match (was, *count != 0) {
            (false, true) => self.standing += 1,
            (true, false) => self.standing -= 1,
            _ => {}
        }
    }
}

/// What each pod adds for which labels of its node: by its kin, and by the rules that it has about others.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_kin: Vec<Vec<(u32, i64)>>,
    by_bond: Vec<Vec<(u32, i64)>>,
}

fn share(table: &mut Vec<Vec<(u32, i64)>>, number: u32, key: u32, amount: i64) {
    let at = number as usize;
    if at >= table.len() {
        table.resize(at + 1, Vec::new());
    }
    if let Some(shares) = table.get_mut(at) {
        shares.push((key, amount));
    }
}

impl Shares {
    /// Each pod of a kin adds this for the label with a key.
    pub fn of_kin(&mut self, kin: u32, key: u32, amount: i64) {
        share(&mut self.by_kin, kin, key, amount);
    }

    /// Each pod with such rules adds this for the label with a key.
    pub fn of_bond(&mut self, bond: u32, key: u32, amount: i64) {
        share(&mut self.by_bond, bond, key, amount);
    }

    /// All together. Nodes are looked at only if there is something to count.
    pub fn counted(&self, snapshot: &Snapshot) -> Counts {
        let mut counts = Counts::default();
        if self.by_kin.is_empty() && self.by_bond.is_empty() {
            return counts;
        }
        counts.by_pair = vec![0; snapshot.pairs()];
        for info in snapshot.nodes() {
            let kin = info.crowds().iter().map(|crowd| (self.by_kin.get(crowd.kin as usize), crowd.all));
            let bonds = info.bonds().iter().map(|(bond, count)| (self.by_bond.get(*bond as usize), *count));
            for (shares, count) in kin.chain(bonds) {
                for (key, amount) in shares.into_iter().flatten() {
                    if let Some(pair) = info.pair(*key) {
                        counts.add(pair, amount * count);
                    }
                }
            }
        }
        counts
    }
}

/// Whether one of a node's labels counts for something.
pub(super) fn any(counts: &Counts, info: &NodeInfo) -> bool {
    !counts.is_empty() && info.pairs().any(|pair| counts.get(pair) > 0)
}
