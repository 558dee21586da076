//! What was acknowledged, and whether the cluster's end and what watchers saw agree with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use k8s_openapi::api::core::v1::ConfigMap;

use super::watcher::Seen;

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Acknowledged,
    /// It was not done.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// Everything that the writers did.
#[derive(Default)]
pub struct History {
    created: Mutex<BTreeMap<String, Outcome>>,
    counted: Mutex<BTreeMap<usize, Vec<(u64, Outcome)>>>,
}

impl History {
    /// One attempt to make an object; it is never repeated.
    pub fn created(&self, attempt: String, outcome: Outcome) {
        self.created.lock().unwrap().insert(attempt, outcome);
    }

    /// One attempt to set a writer's register.
    pub fn counted(&self, writer: usize, value: u64, outcome: Outcome) {
        self.counted.lock().unwrap().entry(writer).or_default().push((value, outcome));
    }

    /// How many writes were acknowledged, and of how many nothing is known.
    pub fn counts(&self) -> (usize, usize) {
        let created = self.created.lock().unwrap();
        let counted = self.counted.lock().unwrap();
        let all: Vec<Outcome> = created
            .values()
            .copied()
            .chain(counted.values().flatten().map(|(_, outcome)| *outcome))
            .collect();
        let of = |wanted| all.iter().filter(|outcome| **outcome == wanted).count();
        (of(Outcome::Acknowledged), of(Outcome::Unknown))
    }
}

/// Everything that is wrong; empty when nothing was lost, doubled or invented.
pub fn check(history: &History, last: &[ConfigMap], watchers: &[Vec<Seen>]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut registers: BTreeMap<String, u64> = BTreeMap::new();
    for map in last {
        let labels = map.metadata.labels.clone().unwrap_or_default();
        if let Some(attempt) = labels.get("attempt") {
            *found.entry(attempt.clone()).or_default() += 1;
        }
        if let Some(value) = map.data.as_ref().and_then(|data| data.get("value")?.parse().ok()) {
            registers.insert(map.metadata.name.clone().unwrap_or_default(), value);
        }
    }
    for (attempt, outcome) in &*history.created.lock().unwrap() {
        let times = found.remove(attempt).unwrap_or(0);
        let fine = match outcome {
            Outcome::Acknowledged => times == 1,
            Outcome::Refused => times == 0,
            Outcome::Unknown => times <= 1,
        };
        if !fine {
            problems.push(format!("attempt {attempt} was {outcome:?} and is there {times} times"));
        }
    }
    problems.extend(found.keys().map(|attempt| format!("nobody made {attempt}")));
    for (writer, writes) in &*history.counted.lock().unwrap() {
        let value = registers.get(&format!("register-{writer}")).copied().unwrap_or(0);
        let acknowledged = writes.iter().filter(|(_, outcome)| *outcome == Outcome::Acknowledged);
        let at_least = acknowledged.map(|(value, _)| *value).max().unwrap_or(0);
        let possible = value == 0 || writes.iter().any(|(v, o)| *v == value && *o != Outcome::Refused);
        if value < at_least || !possible {
            problems.push(format!("register {writer} holds {value}, although {at_least} was acknowledged"));
        }
    }
    for (number, seen) in watchers.iter().enumerate() {
        problems
            .extend(check_watcher(history, last, seen).into_iter().map(|p| format!("watcher {number}: {p}")));
    }
    problems
}

/// A watcher that lists and follows is told of each revision once, in order, of every object, and of every
/// acknowledged value of a register.
fn check_watcher(history: &History, last: &[ConfigMap], seen: &[Seen]) -> Vec<String> {
    let mut problems = Vec::new();
    let told: Vec<u64> = seen.iter().filter(|event| !event.listed).map(|event| event.revision).collect();
    for pair in told.windows(2) {
        if pair[1] <= pair[0] {
            problems.push(format!("revision {} after {}", pair[1], pair[0]));
        }
    }
    let mut added: BTreeMap<&str, usize> = BTreeMap::new();
    for event in seen.iter().filter(|event| event.added) {
        *added.entry(&event.name).or_default() += 1;
    }
    for map in last {
        let name = map.metadata.name.as_deref().unwrap_or_default();
        match added.get(name) {
            Some(1) => {}
            times => problems.push(format!("{name} was told as new {} times", times.unwrap_or(&0))),
        }
    }
    let told: BTreeSet<(&str, u64)> = seen.iter().filter_map(|e| Some((e.name.as_str(), e.value?))).collect();
    for (writer, writes) in &*history.counted.lock().unwrap() {
        let name = format!("register-{writer}");
        let first = told.iter().filter(|(n, _)| *n == name).map(|(_, value)| *value).min().unwrap_or(0);
        for (value, outcome) in writes.iter().filter(|(value, _)| *value >= first) {
            let was_told = told.contains(&(name.as_str(), *value));
            if (*outcome == Outcome::Acknowledged && !was_told) || (*outcome == Outcome::Refused && was_told)
            {
                problems.push(format!("{name} = {value} was {outcome:?}; told: {was_told}"));
            }
        }
    }
    problems
}
