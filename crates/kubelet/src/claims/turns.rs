//! One pod at a time for each claim: what is prepared for one must not be taken back for another. Claims of different
//! names do not wait for each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Namespace and name.
pub type Key = (String, String);

/// See the module.
#[derive(Default)]
pub struct Turns(Mutex<BTreeMap<Key, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the turn at all of these claims. They are waited for in order, so that nobody waits in a circle.
    pub async fn take(&self, claims: BTreeSet<Key>) -> Vec<OwnedMutexGuard<()>> {
        self.0.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
        let mut turns = Vec::new();
        for claim in claims {
            let turn = self.0.lock().entry(claim).or_default().clone();
            turns.push(turn.lock_owned().await);
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_same_claims_wait_for_each_other() {
        let key = |name: &str| ("n".to_owned(), name.to_owned());
        let turns = Turns::default();
        let held = turns.take([key("a"), key("b")].into()).await;
        assert_eq!(turns.take([key("c")].into()).await.len(), 1);
        let mut waiting = std::pin::pin!(turns.take([key("b")].into()));
        assert!(futures::poll!(&mut waiting).is_pending());
        drop(held);
        assert_eq!(waiting.await.len(), 1);
    }
}
