//! Who wakes a worker, and who must not take that from it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::super::{Ending, Handle};
use super::simple;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn whoever_waits_for_a_pod_to_go_takes_no_wake_from_its_worker() {
    let handle = Handle::new("u", Arc::new(simple("Never")), false, Duration::ZERO);
    // The runtime told of an event while the pod was being taken.
    handle.ask_again();
    let mut leaving = pin!(handle.leaving());
    assert!(futures::poll!(&mut leaving).is_pending());
    tokio::time::timeout(SOON, handle.wake.notified()).await.expect("the worker was not woken");
    handle.remove();
    tokio::time::timeout(SOON, leaving).await.expect("the pod goes");
}

#[tokio::test]
async fn a_deletion_that_came_first_is_seen_too() {
    let mut deleted = simple("Never");
    let handle = Handle::new("u", Arc::new(deleted.clone()), false, Duration::ZERO);
    let mut leaving = pin!(handle.leaving());
    assert!(futures::poll!(&mut leaving).is_pending());
    deleted.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    handle.replace(&Arc::new(deleted));
    tokio::time::timeout(SOON, leaving).await.expect("the pod goes");
    tokio::time::timeout(SOON, handle.leaving()).await.expect("it still does");
}

#[tokio::test]
async fn whoever_pulls_hears_that_the_node_gives_the_pod_up() {
    let handle = Handle::new("u", Arc::new(simple("Never")), false, Duration::ZERO);
    let mut leaving = pin!(handle.leaving());
    assert!(futures::poll!(&mut leaving).is_pending());
    handle.fail(Ending { reason: "Evicted".to_owned(), ..Ending::default() });
    tokio::time::timeout(SOON, leaving).await.expect("the pod goes");
}
