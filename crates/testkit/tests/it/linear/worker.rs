use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use base::{Random, SeededRandom};
use serde_json::{Value, json};
use testkit::http::Call;
use testkit::linear::{Answer, Ask, Operation};

use super::log::Objects;
use super::watcher::{objects, value};
use super::{ASKS, KEYS, OBJECTS};

/// A list and when it was asked for.
pub struct List {
    pub called: u64,
    pub returned: u64,
    pub revision: u64,
    pub state: Objects,
}

/// What clients asked and were told.
#[derive(Default)]
pub struct Record {
    pub operations: Vec<(String, Operation)>,
    pub lists: Vec<List>,
}

impl Record {
    pub fn extend(&mut self, other: Self) {
        self.operations.extend(other.operations);
        self.lists.extend(other.lists);
    }

    fn writes(&self) -> impl Iterator<Item = (&Operation, u64)> {
        self.operations.iter().filter_map(|(_, operation)| match (&operation.ask, &operation.answer) {
            (Ask::Read, _) => None,
            (_, Answer::Holds(_, revision)) => Some((operation, *revision)),
            _ => None,
        })
    }

    /// How many asks are known to have written.
    pub fn written(&self) -> usize {
        self.writes().count()
    }

    /// The newest revision that was acknowledged before a time.
    pub fn newest_before(&self, time: u64) -> u64 {
        self.writes().filter(|(write, _)| write.returned < time).map(|(_, at)| at).max().unwrap_or_default()
    }
}

/// One client, which asks one thing after the other, of either server.
pub struct Worker {
    number: u64,
    random: SeededRandom,
    clients: [kube::Client; 2],
    began: Instant,
    done: Arc<AtomicUsize>,
    record: Record,
    /// The newest revision of each object that this client was told.
    known: [u64; KEYS as usize],
}

impl Worker {
    pub fn new(
        number: u64,
        seed: u64,
        clients: [kube::Client; 2],
        began: Instant,
        done: Arc<AtomicUsize>,
    ) -> Self {
        let random = SeededRandom::new(seed);
        Self { number, random, clients, began, done, record: Record::default(), known: [1; KEYS as usize] }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }

    pub async fn run(mut self) -> Record {
        for round in 0..ASKS {
            let client = self.clients[self.random.below(2) as usize].clone();
            let fresh = (self.number + 1) * 1_000_000 + round;
            let key = self.random.below(KEYS) as usize;
            match self.random.below(100) {
                0..6 => self.list(&client).await,
                6..18 => self.ask(&client, key, Ask::Create(fresh)).await,
                18..48 => self.ask(&client, key, Ask::Update(fresh, self.known[key])).await,
                48..68 => self.ask(&client, key, Ask::Patch(fresh)).await,
                68..73 => self.ask(&client, key, Ask::Delete).await,
                _ => self.ask(&client, key, Ask::Read).await,
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        self.record
    }

    async fn list(&mut self, client: &kube::Client) {
        let called = self.now();
        let Ok(answer) = Call::get(OBJECTS).try_send(client).await else { return };
        if answer.code == 200 {
            let (list, returned) = (answer.json(), self.now());
            let revision = testkit::http::revision(&list);
            self.record.lists.push(List { called, returned, revision, state: objects(&list) });
        }
    }

    async fn ask(&mut self, client: &kube::Client, key: usize, ask: Ask) {
        let name = format!("k{key}");
        let call = call(&name, &ask);
        let called = self.now();
        let answered = call.try_send(client).await;
        let returned = self.now();
        let answer = match answered {
            Ok(answer) => told(&ask, answer.code, || answer.json()),
            Err(_) => Answer::Unknown,
        };
        if let Answer::Holds(_, revision) = answer {
            self.known[key] = revision;
        }
        self.record.operations.push((name, Operation { called, returned, ask, answer }));
    }
}

fn call(name: &str, ask: &Ask) -> Call {
    let path = format!("{OBJECTS}/{name}");
    let object = |value: &u64| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"v": value.to_string()}});
    match ask {
        Ask::Create(value) => Call::post(OBJECTS, &object(value)),
        Ask::Update(value, expected) => {
            let mut object = object(value);
            object["metadata"]["resourceVersion"] = Value::from(expected.to_string());
            Call::put(path, &object)
        }
        Ask::Patch(value) => Call::patch(path, &json!({"data": {"v": value.to_string()}})),
        Ask::Delete => Call::delete(path),
        Ask::Read => Call::get(path),
    }
}

fn told(ask: &Ask, code: u16, body: impl FnOnce() -> Value) -> Answer {
    match (ask, code) {
        (Ask::Delete, 200) => Answer::Removed,
        (_, 200 | 201) => {
            let object = body();
            Answer::Holds(value(&object), testkit::http::revision(&object))
        }
        (_, 404) => Answer::Absent,
        (Ask::Create(_), 409) => Answer::Exists,
        (Ask::Update(..), 409) => Answer::Changed,
        (_, 409 | 429) | (Ask::Read, _) => Answer::Refused,
        _ => Answer::Unknown,
    }
}
