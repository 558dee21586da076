//! Leases that many short-lived objects share, so that a busy hour of events does not make thousands of leases
//! (`apiserver/pkg/storage/etcd3/lease_manager.go`).

use std::time::Duration;

use parking_lot::Mutex;

use crate::core::Core;
use crate::status::Result;

/// A lease is shared for a minute.
const SHARED_FOR: Duration = Duration::from_secs(60);

/// The lease that new objects get now.
#[derive(Debug, Default)]
pub struct SharedLease {
    current: Mutex<Option<(store::LeaseId, Duration)>>,
}

impl SharedLease {
    /// The lease of an object that is to live for `ttl` seconds (and up to a minute longer).
    ///
    /// # Errors
    /// Those of the store.
    pub async fn current(&self, core: &Core, ttl: i64) -> Result<store::LeaseId> {
        let now = core.clock.monotonic();
        if let Some((lease, since)) = *self.current.lock() {
            if now.saturating_sub(since) < SHARED_FOR {
                return Ok(lease);
            }
        }
        let lease = core.store.grant_lease(ttl + SHARED_FOR.as_secs() as i64).await?;
        *self.current.lock() = Some((lease, now));
        Ok(lease)
    }
}
