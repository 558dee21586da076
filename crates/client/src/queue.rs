//! A queue of keys for reconcilers (the contract of client-go's `workqueue`).
//!
//! - A key that waits is there once, however often it was added.
//! - A key that is being worked on is not handed out again until it is done; if it was added meanwhile, it comes
//!   back then.
//! - A key that failed comes back after a pause that doubles with each failure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A queue; cloning it hands out the same queue.
pub struct WorkQueue<K> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    waiting: HashSet<K>,
    working: HashSet<K>,
    later: BTreeMap<Instant, BTreeSet<K>>,
    failures: HashMap<K, u32>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K: Eq + Hash + Ord + Clone> Default for WorkQueue<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Eq + Hash + Ord + Clone> WorkQueue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            working: HashSet::new(),
            later: BTreeMap::new(),
            failures: HashMap::new(),
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }) }
    }

    /// Adds a key.
    pub fn add(&self, key: K) {
        self.shared.state.lock().add(key);
        self.shared.changed.notify_one();
    }

    /// Adds a key after a while.
    pub fn add_after(&self, key: K, pause: Duration) {
        if pause.is_zero() {
            return self.add(key);
        }
        let at = Instant::now() + pause;
        self.shared.state.lock().later.entry(at).or_default().insert(key);
        self.shared.changed.notify_one();
    }

    /// Adds a key that failed, after a pause that doubles with each failure.
    pub fn retry(&self, key: K) {
        let failures = {
            let mut state = self.shared.state.lock();
            let count = state.failures.entry(key.clone()).or_insert(0);
            *count = count.saturating_add(1);
            *count
        };
        let factor = 1u32.checked_shl(failures.min(31) - 1).unwrap_or(u32::MAX);
        self.add_after(key, FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE));
    }

    /// Forgets the failures of a key that succeeded.
    pub fn forget(&self, key: &K) {
        self.shared.state.lock().failures.remove(key);
    }

    /// The next key. It is being worked on until [`WorkQueue::done`].
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.shared.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.waiting.remove(&key);
                    state.working.insert(key.clone());
                    if !state.ready.is_empty() {
                        self.shared.changed.notify_one();
                    }
                    return key;
                }
                state.later.keys().next().copied()
            };
            match due {
                Some(at) => {
                    tokio::select! {
                        () = self.shared.changed.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.shared.changed.notified().await,
            }
        }
    }

    /// Says that the work on a key has ended.
    pub fn done(&self, key: &K) {
        let mut state = self.shared.state.lock();
        state.working.remove(key);
        if state.waiting.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }

    /// How many keys wait, those that come back later included.
    pub fn len(&self) -> usize {
        let state = self.shared.state.lock();
        state.waiting.len() + state.later.values().map(BTreeSet::len).sum::<usize>()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs `reconcile` on every key, `workers` at a time, for as long as the future is polled. A failure brings
    /// the key back later.
    pub async fn run<F, Fut, E>(&self, workers: usize, reconcile: F)
    where
        F: Fn(K) -> Fut,
        Fut: Future<Output = Result<Option<Duration>, E>>,
        E: std::fmt::Display,
        K: std::fmt::Debug,
    {
        let worker = || async {
            loop {
                let key = self.next().await;
                match reconcile(key.clone()).await {
                    Ok(again) => {
                        self.forget(&key);
                        if let Some(pause) = again {
                            self.add_after(key.clone(), pause);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(?key, %error, "reconciling failed; trying again");
                        self.retry(key.clone());
                    }
                }
                self.done(&key);
            }
        };
        futures::future::join_all((0..workers.max(1)).map(|_| worker())).await;
    }
}

impl<K: Eq + Hash + Ord + Clone> State<K> {
    fn add(&mut self, key: K) {
        if self.waiting.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if *entry.key() > now {
                return;
            }
            for key in entry.remove() {
                self.add(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_waits_once_and_comes_back_if_added_while_worked_on() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(queue.shared.state.lock().ready.len(), 0);
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_ever_later() {
        let queue = WorkQueue::new();
        let mut pauses = Vec::new();
        for _ in 0..4 {
            let before = Instant::now();
            queue.retry("a");
            assert_eq!(queue.next().await, "a");
            pauses.push(before.elapsed().as_millis());
            queue.done(&"a");
        }
        assert_eq!(pauses, [5, 10, 20, 40]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_soonest_comes_first() {
        let queue = WorkQueue::new();
        queue.add_after("late", Duration::from_secs(2));
        queue.add_after("soon", Duration::from_secs(1));
        assert_eq!((queue.next().await, queue.next().await), ("soon", "late"));
    }
}
