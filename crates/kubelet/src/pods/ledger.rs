//! What the node has given to whom: what one pod has, no other can have.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::admission::fit::{self, Failure};
use super::admission::node::Verdict;
use super::admission::{Demand, preempt::Candidate};
use super::resources::Asked;

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// What the node can give; the processor in thousandths.
    capacity: BTreeMap<String, i64>,
    taken: Mutex<HashMap<String, Demand>>,
    /// What pods ask for together.
    asked: watch::Sender<Asked>,
    /// One critical pod at a time takes the place of others, so that two do not count on the same room.
    pub replacing: tokio::sync::Mutex<()>,
}

/// Why a pod that runs does not get more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Even an empty node would have too little.
    pub hopeless: bool,
    /// Why, as metrics name it; empty unless it is hopeless.
    pub kind: &'static str,
    pub message: String,
}

impl Ledger {
    /// Of a node that can give so much.
    pub fn new(capacity: BTreeMap<String, i64>) -> Self {
        Self {
            capacity,
            taken: Mutex::default(),
            asked: watch::Sender::default(),
            replacing: tokio::sync::Mutex::default(),
        }
    }

    /// What the node can give to all.
    pub fn allocatable(&self) -> &BTreeMap<String, i64> {
        &self.capacity
    }

    /// Notes what a pod has, whatever the node can give.
    pub fn note(&self, uid: &str, demand: Demand) {
        let mut taken = self.taken.lock();
        taken.insert(uid.to_owned(), demand);
        self.tell(&taken);
    }

    /// What pods ask for together, whenever it changes.
    pub fn asked(&self) -> watch::Receiver<Asked> {
        self.asked.subscribe()
    }

    fn tell(&self, taken: &HashMap<String, Demand>) {
        let mut asked = Asked::default();
        for demand in taken.values() {
            match demand.class {
                "Burstable" => {
                    asked.burstable_cpu += demand.of("cpu");
                    asked.burstable_memory += demand.of("memory");
                }
                "Guaranteed" => asked.guaranteed_memory += demand.of("memory"),
                _ => {}
            }
        }
        self.asked.send_if_modified(|known| std::mem::replace(known, asked) != asked);
    }

    /// Gives a new pod what it asks for. `more` are resources of which the node's object tells alone, and `verdict` is
    /// what else stands against the pod.
    ///
    /// # Errors
    /// All that stands against it, in upstream's order; then nothing is given.
    pub fn admit(
        &self,
        uid: &str,
        demand: &Demand,
        more: &BTreeMap<String, i64>,
        verdict: &Verdict,
    ) -> Result<(), Vec<Failure>> {
        let mut taken = self.taken.lock();
        let others = taken.iter().filter(|(other, _)| *other != uid).map(|(_, demand)| demand);
        let mut capacity = self.capacity.clone();
        for (name, amount) in more {
            capacity.entry(name.clone()).or_insert(*amount);
        }
        let mut failures = fit::resources(demand, others.clone(), &capacity);
        failures.extend(verdict.selected.iter().cloned());
        failures.extend(fit::ports(demand, others));
        failures.extend(verdict.tainted.clone());
        if !failures.is_empty() {
            return Err(failures);
        }
        taken.insert(uid.to_owned(), demand.clone());
        self.tell(&taken);
        Ok(())
    }

    /// Of pods that could go: what they would free.
    pub fn candidates(&self, pods: Vec<(String, &'static str)>) -> Vec<Candidate> {
        let taken = self.taken.lock();
        let of = |(uid, qos): (String, &'static str)| {
            let demand = taken.get(&uid)?.clone();
            Some(Candidate { uid, qos, demand })
        };
        pods.into_iter().filter_map(of).collect()
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
            return Err(Shortage { hopeless: true, kind: "insufficient_node_allocatable", message });
        }
        let others = taken.iter().filter(|(other, _)| *other != uid).map(|(_, demand)| demand);
        if let Some(failure) = fit::resources(&more, others, &self.capacity).first() {
            return Err(Shortage { hopeless: false, kind: "", message: failure.refusal().message });
        }
        taken.insert(uid.to_owned(), demand);
        self.tell(&taken);
        Ok(())
    }

    /// Forgets a pod that is gone or over.
    pub fn release(&self, uid: &str) {
        let mut taken = self.taken.lock();
        if taken.remove(uid).is_some() {
            self.tell(&taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(milli: i64) -> Demand {
        Demand {
            amounts: BTreeMap::from([("cpu".to_owned(), milli)]),
            class: "Burstable",
            ..Demand::default()
        }
    }

    fn admit(ledger: &Ledger, uid: &str, demand: &Demand) -> Result<(), Vec<String>> {
        let admitted = ledger.admit(uid, demand, &BTreeMap::new(), &Verdict::default());
        admitted.map_err(|failures| failures.iter().map(|failure| failure.refusal().reason).collect())
    }

    #[test]
    fn nothing_is_given_twice_and_less_is_always_granted() {
        let ledger = Ledger::new(BTreeMap::from([("cpu".to_owned(), 2000)]));
        admit(&ledger, "a", &cpu(1500)).unwrap();
        assert_eq!(admit(&ledger, "b", &cpu(600)).unwrap_err(), ["OutOfcpu"]);
        admit(&ledger, "b", &cpu(500)).unwrap();
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
    #[test]
    fn what_the_nodes_object_alone_tells_of_is_counted_too() {
        let ledger = Ledger::new(BTreeMap::from([("cpu".to_owned(), 2000)]));
        let mut wants = cpu(500);
        wants.amounts.insert("example.com/dongle".to_owned(), 1);
        let more = BTreeMap::from([("example.com/dongle".to_owned(), 1), ("cpu".to_owned(), 9000)]);
        let fine = Verdict::default();
        ledger.admit("a", &wants, &more, &fine).unwrap();
        let failures = ledger.admit("b", &wants, &more, &fine).unwrap_err();
        assert_eq!(failures[0].refusal().reason, "OutOfexample.com/dongle");
        wants.amounts.insert("cpu".to_owned(), 1900);
        assert_eq!(ledger.admit("b", &wants, &more, &fine).unwrap_err().len(), 2, "what is known counts");
        let gone = ledger.candidates(vec![("a".to_owned(), "Burstable"), ("x".to_owned(), "Burstable")]);
        assert_eq!((gone.len(), gone[0].demand.of("cpu")), (1, 500));
    }

    #[test]
    fn it_is_told_what_pods_ask_for_together() {
        let ledger = Ledger::new(BTreeMap::from([("cpu".to_owned(), 1000), ("pods".to_owned(), 9)]));
        let mut told = ledger.asked();
        let mut next = || told.has_changed().unwrap().then(|| told.borrow_and_update().burstable_cpu);
        assert_eq!(next(), None);
        ledger.admit("a", &cpu(300), &BTreeMap::new(), &Verdict::default()).unwrap();
        ledger.note("g", Demand { class: "Guaranteed", ..cpu(100) });
        assert_eq!(next(), Some(300));
        ledger.exchange("a", cpu(400)).unwrap();
        assert_eq!(next(), Some(400));
        ledger.release("g");
        assert_eq!(next(), None, "nothing changed for them");
        ledger.release("a");
        assert_eq!(next(), Some(0));
        for class in ["Guaranteed", "Burstable", "BestEffort"] {
            let amounts = BTreeMap::from([("memory".to_owned(), 7)]);
            ledger.note(class, Demand { amounts, class, ..Demand::default() });
        }
        let memory = Asked { burstable_cpu: 0, burstable_memory: 7, guaranteed_memory: 7 };
        assert_eq!(*ledger.asked().borrow(), memory);
    }
}
