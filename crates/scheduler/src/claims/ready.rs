//! Waits until the devices of a pod are ready (KEP-5007).

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use k8s_openapi::api::resource::v1::ResourceClaim as Claim;

use super::{BindError, Claims};
use crate::plan::claims::key;
use crate::plan::ready::{Readiness, is_late, readiness};

/// How long devices may take to get ready (`DynamicResourcesBindingTimeoutDefault`).
pub const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is looked at, even when nothing was heard.
const PERIOD: Duration = Duration::from_secs(5);

impl Claims {
    /// Until all devices of some claims are ready.
    ///
    /// # Errors
    /// [`BindError`] when one will not get ready, or not in time.
    pub async fn ready(&self, claims: &[Arc<Claim>], clock: &dyn Clock) -> Result<(), BindError> {
        let mut changes = self.changes.subscribe();
        let begun = clock.monotonic();
        loop {
            if self.are_ready(claims, clock)? {
                return Ok(());
            }
            if clock.monotonic().saturating_sub(begun) > PATIENCE {
                return Err(BindError::NotReady(
                    "device binding timeout: context deadline exceeded".to_owned(),
                ));
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    }

    fn are_ready(&self, claims: &[Arc<Claim>], clock: &dyn Clock) -> Result<bool, BindError> {
        for claim in claims {
            // What was written a moment ago may not have been heard of yet.
            let current = self.get(&key(claim)).unwrap_or_else(|| claim.clone());
            match readiness(&current) {
                Readiness::Ready => {}
                Readiness::Failed(why) => return Err(BindError::NotReady(why)),
                Readiness::Waiting if is_late(&current, clock.now(), PATIENCE) => {
                    let name = current.metadata.name.as_deref().unwrap_or_default();
                    return Err(BindError::NotReady(format!("device binding timeout: claim={name}")));
                }
                Readiness::Waiting => return Ok(false),
            }
        }
        Ok(true)
    }
}
