//! Electors, each with a link and a clock of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Shutdown};
use client::leader::Election;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;

use super::link::{LeaseServer, Link, client};

/// Tokio's time, which tests stop, and a wall clock that can be set.
struct PausedClock {
    start: tokio::time::Instant,
    wall: Mutex<Timestamp>,
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        *self.wall.lock() + self.start.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

struct Elector {
    link: Arc<Mutex<Link>>,
    clock: Arc<PausedClock>,
    shutdown: Shutdown,
    task: tokio::task::JoinHandle<bool>,
}

/// Who leads now, and how many ever did at once.
#[derive(Default)]
struct Leading {
    now: Vec<String>,
    most: usize,
}

/// Counts as leading as long as it lives.
struct Work(Arc<Mutex<Leading>>, String);

impl Work {
    fn begin(leading: &Arc<Mutex<Leading>>, name: &str) -> Self {
        let mut state = leading.lock();
        state.now.push(name.to_owned());
        state.most = state.most.max(state.now.len());
        Self(leading.clone(), name.to_owned())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.lock().now.retain(|name| *name != self.1);
    }
}

/// Electors for one lease.
pub struct Bench {
    server: Arc<LeaseServer>,
    leading: Arc<Mutex<Leading>>,
    electors: Mutex<BTreeMap<String, Elector>>,
}

impl Bench {
    pub fn new(names: &[&str]) -> Self {
        let bench = Self { server: Arc::default(), leading: Arc::default(), electors: Mutex::default() };
        names.iter().for_each(|name| bench.elect(name));
        bench
    }

    /// Lets one compete, for the first time or again.
    pub fn elect(&self, name: &str) {
        let mut electors = self.electors.lock();
        let (link, clock) = match electors.get(name) {
            Some(old) => {
                old.task.abort();
                (old.link.clone(), old.clock.clone())
            }
            None => {
                let (start, wall) = (tokio::time::Instant::now(), "2030-01-01T00:00:00Z".parse().unwrap());
                (Arc::new(Mutex::new(Link::Up)), Arc::new(PausedClock { start, wall: Mutex::new(wall) }))
            }
        };
        let shutdown = Shutdown::new();
        let election = Election::new("test", name);
        let (client, leading) = (client(self.server.clone(), link.clone()), self.leading.clone());
        let (name, stop, time) = (name.to_owned(), shutdown.clone(), clock.clone());
        let who = name.clone();
        let task = tokio::spawn(async move {
            let work = || async {
                let _work = Work::begin(&leading, &who);
                std::future::pending::<()>().await;
            };
            election.run(client, time, stop, work).await
        });
        electors.insert(name, Elector { link, clock, shutdown, task });
    }

    /// Lets time pass.
    pub async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub fn set_link(&self, name: &str, link: Link) {
        *self.electors.lock()[name].link.lock() = link;
    }

    pub fn jump(&self, name: &str, by: SignedDuration) {
        *self.electors.lock()[name].clock.wall.lock() += by;
    }

    pub fn stop(&self, name: &str) {
        self.electors.lock()[name].shutdown.trigger();
    }

    pub fn has_ended(&self, name: &str) -> bool {
        self.electors.lock()[name].task.is_finished()
    }

    /// The next read is followed by somebody else's write.
    pub fn write_between(&self) {
        *self.server.strangers.lock() += 1;
    }

    pub fn leading(&self) -> Vec<String> {
        self.leading.lock().now.clone()
    }

    pub fn most_at_once(&self) -> usize {
        self.leading.lock().most
    }

    pub fn lease(&self) -> Value {
        self.server.lease()
    }

    pub fn transitions(&self) -> i64 {
        self.lease()["spec"]["leaseTransitions"].as_i64().unwrap()
    }
}
