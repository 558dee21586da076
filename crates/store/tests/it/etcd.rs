use std::time::Duration;

use futures::StreamExt;
use store::etcd::{Etcd, EtcdOptions};
use store::testing::{EtcdServer, put};
use store::{Expect, KeyRange, RangeOptions, Store, StoreError};

fn impatient() -> EtcdOptions {
    EtcdOptions { request_timeout: Duration::from_secs(1), ..EtcdOptions::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_server_is_said_to_be_lost() {
    let mut server = EtcdServer::start().await;
    let etcd = Etcd::connect(&server.endpoints(), None, impatient()).await.unwrap();
    assert_eq!(etcd.commit(vec![put("/a", Expect::Absent, "a")]).await.unwrap().revision, 2);
    let mut watch = etcd.watch(&KeyRange::prefix("/"), 3).await.unwrap();
    server.kill();
    let commit = etcd.commit(vec![put("/b", Expect::Absent, "b")]).await.unwrap_err();
    assert!(matches!(commit, StoreError::Unknown(_) | StoreError::Unavailable(_)), "{commit:?}");
    let read = etcd.range(&KeyRange::prefix("/"), RangeOptions::default()).await.unwrap_err();
    assert!(matches!(read, StoreError::Unavailable(_)), "{read:?}");
    assert!(matches!(etcd.confirm().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(watch.next().await, Some(Err(StoreError::Unavailable(_)))));
    assert!(watch.next().await.is_none(), "a watch ends after its error");
}

#[tokio::test]
async fn nobody_there_is_an_error_that_names_the_address() {
    let connected = Etcd::connect(&["http://127.0.0.1:1".to_owned()], None, impatient()).await;
    let error = connected.err().unwrap().to_string();
    assert!(error.contains("127.0.0.1:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revision_larger_than_a_fragment_comes_whole() {
    let server = EtcdServer::start().await;
    let etcd = Etcd::connect(&server.endpoints(), None, EtcdOptions::default()).await.unwrap();
    let mut watch = etcd.watch(&KeyRange::prefix("/big/"), 2).await.unwrap();
    // Each transaction stays under etcd's request limit; with the previous values the event does not.
    for round in 0..2u8 {
        let ops = (0..12).map(|i| put(format!("/big/{i:02}"), Expect::Any, vec![round; 110_000])).collect();
        etcd.commit(ops).await.unwrap();
    }
    for round in 0..2u64 {
        let item = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap();
        let Some(Ok(store::WatchItem::Events(events))) = item else { panic!("{item:?}") };
        assert_eq!(events.len(), 12);
        assert!(events.iter().all(|event| event.revision == 2 + round));
    }
}
