//! What the node has given to whom: what one pod has, no other can have.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::admission::{Demand, Refusal, fits};

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// What the node can give; the processor in thousandths.
    capacity: BTreeMap<String, i64>,
    taken: Mutex<HashMap<String, Demand>>,
}

/// Why a pod that runs does not get more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Even an empty node would have too little.
    pub hopeless: bool,
    pub message: String,
}

impl Ledger {
    /// Of a node that can give so much.
    pub fn new(capacity: BTreeMap<String, i64>) -> Self {
        Self { capacity, taken: Mutex::default() }
    }

    /// Notes what a pod has, whatever the node can give.
    pub fn note(&self, uid: &str, demand: Demand) {
        self.taken.lock().insert(uid.to_owned(), demand);
    }

    /// Gives a new pod what it asks for.
    ///
    /// # Errors
    /// [`Refusal`], and nothing is given.
    pub fn admit(&self, uid: &str, demand: Demand) -> Result<(), Refusal> {
        let mut taken = self.taken.lock();
        let others = taken.iter().filter(|(other, _)| *other != uid).map(|(_, demand)| demand);
        fits(&demand, others, &self.capacity)?;
        taken.insert(uid.to_owned(), demand);
        Ok(())
    }

    /// Gives a pod other resources than it had, or says what is missing; then it keeps what it had.
    ///
    /// # Errors
    /// [`Shortage`]. Whoever asks for less of a resource than before gets it in any case.
    pub fn exchange(&self, uid: &str, demand: Demand) -> Result<(), Shortage> {
        let mut taken = self.taken.lock();
        let had = taken.get(uid).cloned().unwrap_or_default();
        let mut more = demand.clone();
        more.ports.clear();
        more.amounts.retain(|name, amount| *amount > had.amounts.get(name).copied().unwrap_or(0));
        for (name, requested) in &more.amounts {
            let Some(capacity) = self.capacity.get(name).filter(|capacity| requested > *capacity) else {
                continue;
            };
            let message = format!(
                "Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}"
            );
            return Err(Shortage { hopeless: true, message });
        }
        let others = taken.iter().filter(|(other, _)| *other != uid).map(|(_, demand)| demand);
        fits(&more, others, &self.capacity)
            .map_err(|refusal| Shortage { hopeless: false, message: refusal.message })?;
        taken.insert(uid.to_owned(), demand);
        Ok(())
    }

    /// Forgets a pod that is gone or over.
    pub fn release(&self, uid: &str) {
        self.taken.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(milli: i64) -> Demand {
        Demand { amounts: BTreeMap::from([("cpu".to_owned(), milli)]), ports: Vec::new() }
    }

    #[test]
    fn nothing_is_given_twice_and_less_is_always_granted() {
        let ledger = Ledger::new(BTreeMap::from([("cpu".to_owned(), 2000)]));
        ledger.admit("a", cpu(1500)).unwrap();
        assert_eq!(ledger.admit("b", cpu(600)).unwrap_err().reason, "OutOfcpu");
        ledger.admit("b", cpu(500)).unwrap();
        let shortage = ledger.exchange("b", cpu(600)).unwrap_err();
        assert_eq!(
            (shortage.hopeless, shortage.message.as_str()),
            (false, "Node didn't have enough resource: cpu, requested: 600, used: 1500, capacity: 2000")
        );
        assert!(ledger.exchange("b", cpu(3000)).unwrap_err().hopeless);
        ledger.note("b", cpu(9000));
        ledger.exchange("b", cpu(8000)).unwrap();
        ledger.release("a");
        ledger.exchange("b", cpu(2000)).unwrap();
    }
}
