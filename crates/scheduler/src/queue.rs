//! Pods that wait for a node: the most important first, then the oldest. What was found unschedulable waits until
//! something changes in the cluster that may help, or five minutes have gone by.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use base::SharedClock;
use parking_lot::Mutex;
use tokio::sync::Notify;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const PARKED_FOR: Duration = Duration::from_secs(300);

/// The order of the queue: higher priority first, then first come.
type Order = (std::cmp::Reverse<i64>, u64);

/// The queue.
pub struct Queue {
    clock: SharedClock,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    counter: u64,
    active: BTreeMap<Order, String>,
    active_keys: HashMap<String, Order>,
    backing_off: BTreeSet<(Duration, String)>,
    parked: HashMap<String, Duration>,
    attempts: HashMap<String, (u32, i64)>,
    /// Pods that are being looked at, and whether something changed meanwhile that may help them.
    in_hand: HashMap<String, bool>,
}

impl Queue {
    /// An empty queue.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, state: Mutex::default(), changed: Notify::new() }
    }

    /// A pod wants a node.
    pub fn add(&self, key: &str, priority: i64) {
        {
            let mut state = self.state.lock();
            state.attempts.entry(key.to_owned()).or_insert((0, priority)).1 = priority;
            if state.parked.contains_key(key) || state.backing_off.iter().any(|(_, waiting)| waiting == key) {
                return;
            }
            state.activate(key);
        }
        self.changed.notify_one();
    }

    /// A pod has a node, or is gone.
    pub fn remove(&self, key: &str) {
        let mut state = self.state.lock();
        if let Some(order) = state.active_keys.remove(key) {
            state.active.remove(&order);
        }
        state.parked.remove(key);
        state.in_hand.remove(key);
        state.attempts.remove(key);
        state.backing_off.retain(|(_, waiting)| waiting != key);
    }

    /// No node was found: the pod waits for a change, or comes back after a pause if there was one since it was taken off.
    pub fn park(&self, key: &str) {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        let has_changed = state.in_hand.remove(key) == Some(true);
        let Some((attempts, _)) = state.attempts.get_mut(key) else { return };
        *attempts = attempts.saturating_add(1);
        let pause = pause(*attempts);
        if !has_changed {
            state.parked.insert(key.to_owned(), now);
            return;
        }
        state.backing_off.insert((now + pause, key.to_owned()));
        drop(state);
        self.changed.notify_one();
    }

    /// Something went wrong that has nothing to do with nodes: the pod comes back after a pause.
    pub fn back_off(&self, key: &str) {
        let now = self.clock.monotonic();
        let mut state = self.state.lock();
        state.in_hand.remove(key);
        if let Some((attempts, _)) = state.attempts.get_mut(key) {
            *attempts = attempts.saturating_add(1);
            let pause = pause(*attempts);
            state.backing_off.insert((now + pause, key.to_owned()));
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Something changed that may help: every parked pod comes back, after the pause that its failures have earned.
    pub fn retry_parked(&self) {
        let mut state = self.state.lock();
        for (key, since) in std::mem::take(&mut state.parked) {
            let attempts = state.attempts.get(&key).map_or(1, |(attempts, _)| *attempts);
            state.backing_off.insert((since + pause(attempts), key));
        }
        state.in_hand.values_mut().for_each(|has_changed| *has_changed = true);
        drop(state);
        self.changed.notify_one();
    }

    /// Something changed that may help one pod: it comes back, if it is parked, after the pause that it has earned.
    pub fn retry(&self, key: &str) {
        let mut state = self.state.lock();
        let Some(since) = state.parked.remove(key) else {
            if let Some(has_changed) = state.in_hand.get_mut(key) {
                *has_changed = true;
            }
            return;
        };
        let attempts = state.attempts.get(key).map_or(1, |(attempts, _)| *attempts);
        state.backing_off.insert((since + pause(attempts), key.to_owned()));
        drop(state);
        self.changed.notify_one();
    }

    /// The next pod.
    pub async fn next(&self) -> String {
        loop {
            let wait = {
                let mut state = self.state.lock();
                let now = self.clock.monotonic();
                state.promote(now);
                if let Some((_, key)) = state.active.pop_first() {
                    state.active_keys.remove(&key);
                    state.in_hand.insert(key.clone(), false);
                    return key;
                }
                let soonest = state.backing_off.first().map(|(at, _)| at.saturating_sub(now));
                soonest.unwrap_or(Duration::from_secs(30))
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// How many wait, in whatever part of the queue.
    pub fn len(&self) -> usize {
        let state = self.state.lock();
        state.active.len() + state.parked.len() + state.backing_off.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn pause(attempts: u32) -> Duration {
    let factor = 1u32.checked_shl(attempts.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

impl State {
    fn activate(&mut self, key: &str) {
        if self.active_keys.contains_key(key) {
            return;
        }
        let priority = self.attempts.get(key).map_or(0, |(_, priority)| *priority);
        self.counter += 1;
        let order = (std::cmp::Reverse(priority), self.counter);
        self.active.insert(order, key.to_owned());
        self.active_keys.insert(key.to_owned(), order);
    }

    fn promote(&mut self, now: Duration) {
        while let Some((at, key)) = self.backing_off.first().cloned() {
            if at > now {
                break;
            }
            self.backing_off.pop_first();
            self.activate(&key);
        }
        let late: Vec<String> = self
            .parked
            .iter()
            .filter(|(_, since)| now.saturating_sub(**since) >= PARKED_FOR)
            .map(|(key, _)| key.clone())
            .collect();
        for key in late {
            self.parked.remove(&key);
            self.activate(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn queue() -> (Queue, Arc<base::ManualClock>) {
        let clock = Arc::new(base::ManualClock::new(Default::default()));
        (Queue::new(clock.clone()), clock)
    }

    #[tokio::test]
    async fn the_important_come_first_then_the_old() {
        let (queue, _) = queue();
        queue.add("a", 0);
        queue.add("b", 0);
        queue.add("c", 10);
        assert_eq!([queue.next().await, queue.next().await, queue.next().await], ["c", "a", "b"]);
    }

    #[tokio::test]
    async fn the_parked_come_back_after_a_change_and_their_pause() {
        let (queue, clock) = queue();
        queue.add("a", 0);
        let key = queue.next().await;
        queue.park(&key);
        queue.retry_parked();
        assert!(queue.state.lock().active.is_empty());
        clock.advance(Duration::from_secs(1));
        assert_eq!(queue.next().await, "a");
    }

    #[tokio::test]
    async fn what_changes_while_a_pod_is_looked_at_is_not_missed() {
        let (queue, clock) = queue();
        for change in [|queue: &Queue| queue.retry("a"), Queue::retry_parked] {
            queue.add("a", 0);
            let key = queue.next().await;
            change(&queue);
            queue.park(&key);
            clock.advance(LONGEST_PAUSE);
            assert_eq!(queue.next().await, "a");
            // What was heard earlier is old.
            queue.park("a");
            assert!(queue.state.lock().parked.contains_key("a"));
            queue.remove("a");
        }
    }

    #[tokio::test]
    async fn a_pod_that_is_gone_does_not_come_back() {
        let (queue, clock) = queue();
        queue.add("a", 0);
        let key = queue.next().await;
        queue.back_off(&key);
        queue.remove("a");
        clock.advance(Duration::from_secs(60));
        assert!(queue.is_empty());
    }
}
