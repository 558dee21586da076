use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base::ManualClock;
use futures::StreamExt;
use store::embedded::{Embedded, EmbeddedOptions};
use store::testing::{delete, put};
use store::{Change, Expect, KeyRange, Op, RangeOptions, Store, StoreError, WatchItem};

#[tokio::test]
async fn a_reopened_store_has_its_past_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path());
    let uuid = store.uuid().to_owned();
    assert_eq!(store.confirm().await.unwrap(), 1);
    assert_eq!(store.commit(vec![put("/a", Expect::Absent, "1")]).await.unwrap().revision, 2);
    store.commit(vec![put("/a", Expect::Revision(2), "2")]).await.unwrap();
    store.commit(vec![delete("/a", Expect::Any), put("/b", Expect::Any, "b")]).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(store.get(b"/a", None).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.commit(vec![put("/c", Expect::Any, "")]).await, Err(StoreError::Unavailable(_))));

    let store = crate::open(dir.path());
    assert_eq!((store.uuid(), store.revision()), (&uuid[..], 4));
    assert_eq!(store.get(b"/a", Some(3)).await.unwrap().1.unwrap().value, "2");
    assert_eq!(store.get(b"/a", None).await.unwrap().1, None);
    let mut watch = store.watch(&KeyRange::prefix("/"), 2).await.unwrap();
    for revision in 2..=4 {
        let Some(Ok(WatchItem::Events(events))) = watch.next().await else { panic!("no events") };
        assert_eq!(events[0].revision, revision);
    }
    assert_eq!(store.commit(vec![put("/a", Expect::Absent, "3")]).await.unwrap().revision, 5);
}

#[tokio::test]
async fn a_store_that_rests_has_what_it_had_in_tables() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path());
    let value = "x".repeat(2048);
    for number in 0..500 {
        store.commit(vec![put(format!("/{number:03}"), Expect::Absent, value.clone())]).await.unwrap();
    }
    // Compressed they are a few kilobytes, and not there before.
    let before = store.size().await.unwrap();
    store.rest().await;
    assert!(store.size().await.unwrap() > before, "{before}");
    let all = async |store: &Embedded| {
        store.range(&KeyRange::prefix("/"), RangeOptions::default()).await.unwrap().count
    };
    assert_eq!(all(&store).await, 500);
    store.commit(vec![put("/more", Expect::Absent, "1")]).await.unwrap();
    assert_eq!(store.get(b"/000", Some(2)).await.unwrap().1.unwrap().value, value);
    store.rest().await;
    store.close().await.unwrap();
    store.rest().await;
    assert_eq!(all(&crate::open(dir.path())).await, 501);
}

#[tokio::test]
async fn a_second_open_says_which_directory_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let _store = crate::open(dir.path());
    let error = Embedded::open(dir.path(), EmbeddedOptions::default()).err().unwrap().to_string();
    assert!(error.contains(&dir.path().display().to_string()), "{error}");
    assert!(error.contains("another process has it open"), "{error}");
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(crate::open(dir.path()));
    let record = dir.path().join("format");
    let written = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, written.replace("format = 1", "format = 2")).unwrap();
    let error = Embedded::open(dir.path(), EmbeddedOptions::default()).err().unwrap();
    assert!(matches!(error, StoreError::NewerFormat { found: 2, known: 1, .. }), "{error}");
    std::fs::write(&record, "nonsense").unwrap();
    assert!(Embedded::open(dir.path(), EmbeddedOptions::default()).is_err());
    std::fs::write(&record, written).unwrap();
    crate::open(dir.path());
}

#[tokio::test]
async fn a_failed_commit_poisons_everything_until_the_store_is_reopened() {
    for (point, survives) in [("before-write", false), ("after-write", true)] {
        let dir = tempfile::tempdir().unwrap();
        let broken = Arc::new(AtomicBool::new(false));
        let fault = {
            let broken = Arc::clone(&broken);
            move |at: &str| {
                (at == point && broken.load(Ordering::SeqCst)).then(|| std::io::Error::other("injected"))
            }
        };
        let options = EmbeddedOptions { fault: Some(Arc::new(fault)), ..EmbeddedOptions::default() };
        let store = Embedded::open(dir.path(), options).unwrap();
        store.commit(vec![put("/a", Expect::Any, "kept")]).await.unwrap();
        let mut watch = store.watch(&KeyRange::prefix("/"), 3).await.unwrap();
        assert_eq!(store.lost(), None);
        broken.store(true, Ordering::SeqCst);
        let failed = store.commit(vec![put("/b", Expect::Any, "lost")]).await.unwrap_err();
        assert!(matches!(&failed, StoreError::Unknown(why) if why.contains("injected")), "{failed:?}");
        broken.store(false, Ordering::SeqCst);

        let poisoned =
            |error: &StoreError| matches!(error, StoreError::Poisoned(why) if why.contains("injected"));
        assert!(poisoned(&store.commit(vec![put("/c", Expect::Any, "")]).await.unwrap_err()));
        assert!(poisoned(&store.get(b"/a", None).await.unwrap_err()));
        assert!(poisoned(&store.range(&KeyRange::prefix("/"), RangeOptions::default()).await.unwrap_err()));
        assert!(poisoned(&store.confirm().await.unwrap_err()));
        assert!(store.lost().is_some_and(|why| why.contains("injected")));
        assert!(poisoned(&store.watch(&KeyRange::prefix("/"), 2).await.err().unwrap()));
        let ended = loop {
            match watch.next().await.unwrap() {
                Ok(WatchItem::Progress(1 | 2)) => {}
                other => break other.unwrap_err(),
            }
        };
        assert!(poisoned(&ended), "nothing of the failed commit was seen");
        drop((watch, store));
        let store = crate::open(dir.path());
        assert_eq!(store.get(b"/a", None).await.unwrap().1.unwrap().value, "kept");
        assert_eq!(store.get(b"/b", None).await.unwrap().1.is_some(), survives);
    }
}

#[tokio::test]
async fn leases_end_by_monotonic_time_and_begin_anew_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let options = || EmbeddedOptions { clock: clock.clone(), ..EmbeddedOptions::default() };
    let store = Embedded::open(dir.path(), options()).unwrap();
    let lease = store.grant_lease(60).await.unwrap();
    let op = Op {
        key: "/l".into(),
        expect: Expect::Any,
        change: Change::Put { value: "".into(), lease: Some(lease) },
    };
    store.commit(vec![op.clone()]).await.unwrap();
    clock.jump_to("2050-01-01T00:00:00Z".parse().unwrap());
    clock.advance(Duration::from_secs(59));
    store.commit(vec![put("/nudge", Expect::Any, "")]).await.unwrap();
    assert!(store.get(b"/l", None).await.unwrap().1.is_some());
    drop(store);

    let store = Embedded::open(dir.path(), options()).unwrap();
    clock.advance(Duration::from_secs(59));
    store.commit(vec![op]).await.unwrap();
    clock.advance(Duration::from_secs(2));
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut watch = store.watch(&KeyRange::prefix("/l"), store.revision() + 1).await.unwrap();
    loop {
        let item = tokio::time::timeout_at(deadline.into(), watch.next()).await.unwrap();
        if let Some(Ok(WatchItem::Events(events))) = item {
            assert!(events[0].current.is_none());
            break;
        }
    }
    drop((watch, store));
    let store = Embedded::open(dir.path(), options()).unwrap();
    assert!(store.get(b"/l", None).await.unwrap().1.is_none());
}

#[tokio::test]
async fn a_transaction_that_makes_no_sense_is_refused_before_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::open(dir.path());
    let twice = vec![put("/a", Expect::Any, "1"), put("/a", Expect::Any, "2")];
    assert!(matches!(store.commit(twice).await, Err(StoreError::Io { .. })));
    assert!(matches!(store.commit(vec![put("", Expect::Any, "1")]).await, Err(StoreError::Io { .. })));
    assert_eq!(store.confirm().await.unwrap(), 1);
}

#[tokio::test]
async fn a_watcher_that_stands_still_is_cut_off_and_can_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = EmbeddedOptions { watch_queue: 5, ..EmbeddedOptions::default() };
    let store = Embedded::open(dir.path(), options).unwrap();
    let mut watch = store.watch(&KeyRange::prefix("/"), 2).await.unwrap();
    for _ in 0..10 {
        store.commit(vec![put("/a", Expect::Any, "")]).await.unwrap();
    }
    let mut last = 1;
    let end = loop {
        match watch.next().await.unwrap() {
            Ok(WatchItem::Events(events)) => {
                assert_eq!(events[0].revision, last + 1);
                last += 1;
            }
            Ok(WatchItem::Progress(_)) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(end, StoreError::Lagged(7)), "{end:?}");
    assert_eq!(last, 6);
    let mut watch = store.watch(&KeyRange::prefix("/"), last + 1).await.unwrap();
    for revision in 7..=11 {
        let Some(Ok(WatchItem::Events(events))) = watch.next().await else { panic!("no events") };
        assert_eq!(events[0].revision, revision);
    }
}
