//! What a controller has done and its informer has not yet told: until it has, counting pods would be wrong, and
//! the controller would make them twice (`controller.ControllerExpectations`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use base::SharedClock;
use parking_lot::Mutex;

/// After so long an expectation that never came true is given up.
const GIVE_UP: Duration = Duration::from_secs(300);

/// The expectations of one controller, by the key of what it reconciles.
pub struct Expectations {
    clock: SharedClock,
    open: Mutex<HashMap<String, Open>>,
}

struct Open {
    since: Duration,
    /// UIDs that must appear, and UIDs that must go.
    appear: HashSet<String>,
    vanish: HashSet<String>,
    /// UIDs that were seen before their creation was answered.
    seen: HashSet<String>,
}

impl Expectations {
    /// None yet.
    pub fn new(clock: SharedClock) -> Self {
        Self { clock, open: Mutex::default() }
    }

    fn with(&self, key: &str, change: impl FnOnce(&mut Open)) {
        let mut open = self.open.lock();
        let now = self.clock.monotonic();
        let entry = open.entry(key.to_owned()).or_insert_with(|| Open {
            since: now,
            appear: HashSet::new(),
            vanish: HashSet::new(),
            seen: HashSet::new(),
        });
        entry.since = now;
        change(entry);
    }

    /// Creations are about to be sent: what is seen from now on counts.
    pub fn begin(&self, key: &str) {
        self.with(key, |_| {});
    }

    /// An object was made.
    pub fn created(&self, key: &str, uid: &str) {
        self.with(key, |open| {
            if !open.seen.remove(uid) {
                open.appear.insert(uid.to_owned());
            }
        });
    }

    /// An object is about to be deleted.
    pub fn deleting(&self, key: &str, uid: &str) {
        self.with(key, |open| {
            open.vanish.insert(uid.to_owned());
        });
    }

    /// The informer told of an object; `gone` when it is deleted or going.
    pub fn observed(&self, key: &str, uid: &str, gone: bool) {
        if let Some(open) = self.open.lock().get_mut(key) {
            if !open.appear.remove(uid) && !gone {
                open.seen.insert(uid.to_owned());
            }
            if gone {
                open.vanish.remove(uid);
            }
        }
    }

    /// Whether everything that was done has been told.
    pub fn satisfied(&self, key: &str) -> bool {
        let mut open = self.open.lock();
        let Some(entry) = open.get(key) else { return true };
        let old = self.clock.monotonic().saturating_sub(entry.since) > GIVE_UP;
        if old || (entry.appear.is_empty() && entry.vanish.is_empty()) {
            open.remove(key);
            return true;
        }
        false
    }

    /// What is reconciled is gone.
    pub fn forget(&self, key: &str) {
        self.open.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn a_creation_counts_once_told_even_if_told_before_it_was_answered() {
        let clock = Arc::new(base::ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
        let expectations = Expectations::new(clock.clone());
        expectations.begin("k");
        expectations.observed("k", "early", false);
        expectations.created("k", "early");
        assert!(expectations.satisfied("k"));
        expectations.created("k", "late");
        assert!(!expectations.satisfied("k"));
        expectations.observed("k", "late", false);
        assert!(expectations.satisfied("k"));
        expectations.deleting("k", "x");
        clock.advance(Duration::from_secs(301));
        assert!(expectations.satisfied("k"));
    }
}
