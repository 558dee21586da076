//! Leases: which there are, and when they end.
//!
//! A lease's end is monotonic time, so a corrected wall clock moves nothing. The table keeps its length
//! only: after a restart every lease begins anew, as with etcd.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::LeaseId;

#[derive(Default)]
pub(super) struct Leases(BTreeMap<LeaseId, Duration>);

impl Leases {
    pub fn insert(&mut self, id: LeaseId, ttl_seconds: u64, now: Duration) {
        self.0.insert(id, now.saturating_add(Duration::from_secs(ttl_seconds)));
    }

    pub fn remove(&mut self, id: LeaseId) {
        self.0.remove(&id);
    }

    pub fn contains(&self, id: LeaseId) -> bool {
        self.0.contains_key(&id)
    }

    /// An id that was never given out while this one's predecessors exist.
    pub fn next_id(&self) -> LeaseId {
        self.0.last_key_value().map_or(1, |(id, _)| id.saturating_add(1))
    }

    /// The leases that have ended.
    pub fn ended(&self, now: Duration) -> Vec<LeaseId> {
        self.0.iter().filter(|(_, end)| **end <= now).map(|(id, _)| *id).collect()
    }

    /// How long until the next one ends.
    pub fn next_end(&self, now: Duration) -> Option<Duration> {
        self.0.values().min().map(|end| end.saturating_sub(now))
    }
}
