//! Who has how much of the node's processors and memory: what is given to one pod, no other can have.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Millicores and bytes.
type Demand = (i64, i64);

/// Too little is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// `cpu` in millicores, or `memory` in bytes.
    pub resource: &'static str,
    pub requested: i64,
    pub used: i64,
    pub capacity: i64,
}

impl Shortage {
    /// Even an empty node would have too little.
    pub fn is_hopeless(&self) -> bool {
        self.requested > self.capacity
    }

    /// As upstream says it (`lifecycle.InsufficientResourceError`).
    pub fn message(&self) -> String {
        let Self { resource, requested, used, capacity } = self;
        if self.is_hopeless() {
            return format!(
                "Node didn't have enough capacity: {resource}, requested: {requested}, capacity: {capacity}"
            );
        }
        format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        )
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    capacity: Demand,
    taken: Mutex<HashMap<String, Demand>>,
}

impl Ledger {
    /// Of a node that can give so much.
    pub fn new(capacity: Demand) -> Self {
        Self { capacity, taken: Mutex::default() }
    }

    /// Notes what a pod has, whatever the node can give.
    pub fn note(&self, uid: &str, demand: Demand) {
        self.taken.lock().insert(uid.to_owned(), demand);
    }

    /// Gives a pod so much instead of what it had, or says what is missing; then it keeps what it had.
    ///
    /// # Errors
    /// [`Shortage`]. Whoever asks for less of a resource than before gets it in any case.
    pub fn exchange(&self, uid: &str, demand: Demand) -> Result<(), Shortage> {
        let mut taken = self.taken.lock();
        let had = taken.get(uid).copied().unwrap_or_default();
        let others = taken.iter().filter(|(other, _)| *other != uid);
        let used = others.fold((0, 0), |sum, (_, (cpu, memory))| (sum.0 + cpu, sum.1 + memory));
        let checks = [
            ("cpu", demand.0, had.0, used.0, self.capacity.0),
            ("memory", demand.1, had.1, used.1, self.capacity.1),
        ];
        for (resource, requested, had, used, capacity) in checks {
            if requested > had && requested + used > capacity {
                return Err(Shortage { resource, requested, used, capacity });
            }
        }
        taken.insert(uid.to_owned(), demand);
        Ok(())
    }

    /// Forgets a pod that is gone.
    pub fn release(&self, uid: &str) {
        self.taken.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_twice_and_less_is_always_granted() {
        let ledger = Ledger::new((2000, 1 << 30));
        ledger.note("a", (1500, 0));
        let shortage = ledger.exchange("b", (600, 0)).unwrap_err();
        assert_eq!(
            shortage.message(),
            "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000"
        );
        assert!(ledger.exchange("b", (3000, 0)).unwrap_err().is_hopeless());
        ledger.exchange("b", (500, 0)).unwrap();
        ledger.note("b", (9000, 0));
        ledger.exchange("b", (8000, 0)).unwrap();
        ledger.release("a");
        ledger.exchange("b", (2000, 1 << 30)).unwrap();
    }
}
