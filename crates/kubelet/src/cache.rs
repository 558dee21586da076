//! Answers of others that hold for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use base::SharedClock;
use parking_lot::Mutex;

/// More answers than this are not kept.
const MOST: usize = 4096;

/// Answers that hold for a while.
pub struct Cache<K, V> {
    clock: SharedClock,
    known: Mutex<HashMap<K, (Duration, V)>>,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// An answer that still holds.
    pub fn get(&self, key: &K) -> Option<V> {
        let now = self.clock.monotonic();
        self.known.lock().get(key).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
    }

    /// Keeps an answer. When there are too many, those that hold no more go, or else all.
    pub fn put(&self, key: K, value: V, time: Duration) {
        let now = self.clock.monotonic();
        let mut known = self.known.lock();
        if known.len() >= MOST {
            known.retain(|_, (until, _)| now < *until);
            if known.len() >= MOST {
                known.clear();
            }
        }
        known.insert(key, (now + time, value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::ManualClock;

    use super::*;

    #[test]
    fn answers_hold_for_their_time_and_no_longer() {
        let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let cache: Cache<&str, u8> = Cache::new(clock.clone());
        assert_eq!(cache.get(&"a"), None);
        cache.put("a", 1, Duration::from_secs(10));
        clock.advance(Duration::from_secs(9));
        assert_eq!(cache.get(&"a"), Some(1));
        clock.advance(Duration::from_secs(1));
        assert_eq!(cache.get(&"a"), None);
    }

    #[test]
    fn a_full_cache_forgets_rather_than_grows() {
        let cache: Cache<usize, ()> = Cache::new(Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH)));
        for key in 0..=MOST {
            cache.put(key, (), Duration::from_secs(60));
        }
        assert_eq!(cache.known.lock().len(), 1);
    }
}
