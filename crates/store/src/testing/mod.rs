//! What tests of the store and of those who use it need: the contract as a test suite, and a real etcd.
//!
//! A failed expectation panics, as in any test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this module is a test suite: it fails by panicking"
)]

mod cases;
mod server;
mod watches;

use std::sync::Arc;

pub use server::{EtcdServer, etcd_binary};

use crate::{Change, Expect, Op, Store};

/// Runs every case of the contract, each on a store that `make` gives. The store need not be empty, but
/// nobody else may write to it.
pub async fn contract<F: Future<Output = Arc<dyn Store>>>(make: impl Fn() -> F) {
    cases::create_conflict_update_delete(&*make().await).await;
    cases::a_transaction_is_all_or_nothing(&*make().await).await;
    cases::ranges_page_and_count(&*make().await).await;
    cases::old_revisions_stay_readable(&*make().await).await;
    cases::the_future_is_refused(&*make().await).await;
    cases::confirm_is_as_new_as_the_last_commit(&*make().await).await;
    watches::from_the_past_then_live(&*make().await).await;
    watches::previous_values_and_whole_revisions(&*make().await).await;
    watches::progress_follows_a_confirmation(&*make().await).await;
    watches::concurrent_writers_are_seen_once_each(make().await).await;
    watches::an_ended_lease_takes_its_keys(&*make().await).await;
    cases::compacted_revisions_are_refused(&*make().await).await;
}

/// A put of `value` under `key`.
pub fn put(key: impl Into<bytes::Bytes>, expect: Expect, value: impl Into<bytes::Bytes>) -> Op {
    Op { key: key.into(), expect, change: Change::Put { value: value.into(), lease: None } }
}

/// A deletion of `key`.
pub fn delete(key: impl Into<bytes::Bytes>, expect: Expect) -> Op {
    Op { key: key.into(), expect, change: Change::Delete }
}
