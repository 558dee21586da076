//! Watches, and what only a watch can see.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::{delete, put};
use crate::{Change, Event, Expect, KeyRange, Op, Store, StoreError, WatchItem, WatchStream};

const DEADLINE: Duration = Duration::from_secs(30);

async fn next(stream: &mut WatchStream) -> WatchItem {
    let item = tokio::time::timeout(DEADLINE, stream.next()).await.expect_item();
    item.unwrap()
}

trait ExpectItem<T> {
    fn expect_item(self) -> T;
}

impl<T> ExpectItem<T> for Result<Option<T>, tokio::time::error::Elapsed> {
    fn expect_item(self) -> T {
        match self {
            Ok(Some(item)) => item,
            Ok(None) => panic!("the watch ended"),
            Err(_) => panic!("the watch told nothing for {DEADLINE:?}"),
        }
    }
}

/// The next `count` events, whatever their revisions.
pub(super) async fn take(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        if let WatchItem::Events(more) = next(stream).await {
            events.extend(more);
        }
    }
    assert_eq!(events.len(), count);
    events
}

pub(super) async fn from_the_past_then_live(store: &dyn Store) {
    let first = store.commit(vec![put("/watch/0", Expect::Any, "0")]).await.unwrap().revision;
    for i in 1..5 {
        store.commit(vec![put(format!("/watch/{i}"), Expect::Any, format!("{i}"))]).await.unwrap();
        store.commit(vec![put(format!("/elsewhere/{i}"), Expect::Any, "x")]).await.unwrap();
    }
    let mut stream = store.watch(&KeyRange::prefix("/watch/"), first + 1).await.unwrap();
    let mut events = take(&mut stream, 2).await;
    for i in 5..10 {
        store.commit(vec![put(format!("/watch/{i}"), Expect::Any, format!("{i}"))]).await.unwrap();
    }
    events.extend(take(&mut stream, 7).await);
    for (i, event) in events.iter().enumerate() {
        let kv = event.current.as_ref().unwrap();
        assert_eq!((&kv.value[..], kv.mod_revision), (format!("{}", i + 1).as_bytes(), event.revision));
        assert_eq!(event.previous, None);
    }
    assert!(events.windows(2).all(|pair| pair[0].revision < pair[1].revision));

    let ahead = store.confirm().await.unwrap() + 3;
    let mut stream = store.watch(&KeyRange::prefix("/watch/"), ahead).await.unwrap();
    for i in 1..=4 {
        store.commit(vec![put("/watch/ahead", Expect::Any, format!("{i}"))]).await.unwrap();
    }
    assert_eq!(
        take(&mut stream, 1).await[0].revision,
        ahead,
        "a watch can begin at a revision still to come"
    );
}

pub(super) async fn previous_values_and_whole_revisions(store: &dyn Store) {
    let start = store.confirm().await.unwrap() + 1;
    let mut live = store.watch(&KeyRange::prefix("/prev/"), start).await.unwrap();
    store.commit(vec![put("/prev/b", Expect::Any, "1"), put("/prev/a", Expect::Any, "1")]).await.unwrap();
    let ops = vec![
        delete("/prev/b", Expect::Any),
        put("/prev/a", Expect::Any, "2"),
        put("/other", Expect::Any, ""),
    ];
    store.commit(ops).await.unwrap();
    store.commit(vec![put("/prev/b", Expect::Absent, "3")]).await.unwrap();
    let mut past = store.watch(&KeyRange::prefix("/prev/"), start).await.unwrap();
    for stream in [&mut live, &mut past] {
        let mut revisions = Vec::new();
        while revisions.len() < 3 {
            if let WatchItem::Events(events) = next(stream).await {
                revisions.push(events);
            }
        }
        let keys = |events: &[Event]| {
            events.iter().map(|e| String::from_utf8_lossy(&e.key).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&revisions[0]), ["/prev/a", "/prev/b"], "one revision comes whole and in key order");
        assert_eq!(keys(&revisions[1]), ["/prev/a", "/prev/b"]);
        assert!(revisions[0].iter().all(|event| event.previous.is_none() && event.revision == start));
        let (updated, deleted) = (&revisions[1][0], &revisions[1][1]);
        assert_eq!(updated.previous.as_ref().unwrap().value, "1");
        assert_eq!(updated.current.as_ref().unwrap().value, "2");
        assert_eq!(deleted.previous.as_ref().unwrap().value, "1");
        assert_eq!((&deleted.current, deleted.revision), (&None, start + 1));
        let again = &revisions[2][0];
        assert_eq!((&again.previous, again.current.as_ref().unwrap().version), (&None, 1));
    }
}

pub(super) async fn progress_follows_a_confirmation(store: &dyn Store) {
    let start = store.confirm().await.unwrap() + 1;
    let mut quiet = store.watch(&KeyRange::prefix("/quiet/"), start).await.unwrap();
    store.commit(vec![put("/quiet/a", Expect::Any, "")]).await.unwrap();
    let committed = store.commit(vec![put("/loud/a", Expect::Any, "")]).await.unwrap().revision;
    let (mut confirmed, mut seen) = (0, false);
    loop {
        if confirmed == 0 {
            confirmed = store.confirm().await.unwrap();
            assert!(confirmed >= committed);
        }
        match next(&mut quiet).await {
            WatchItem::Events(events) => seen = events[0].revision == start,
            WatchItem::Progress(revision) if revision >= committed => break,
            WatchItem::Progress(_) => {}
        }
    }
    assert!(seen, "progress must not overtake the events before it");
}

pub(super) async fn concurrent_writers_are_seen_once_each(store: Arc<dyn Store>) {
    const WRITERS: usize = 64;
    const WRITES: usize = 10;
    let start = store.confirm().await.unwrap() + 1;
    let mut stream = store.watch(&KeyRange::prefix("/many/"), start).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let mut made = Vec::new();
            for i in 0..WRITES {
                let ops = vec![put(format!("/many/{writer}/{i}"), Expect::Absent, "v")];
                made.push(store.commit(ops).await.unwrap().revision);
            }
            made
        });
    }
    let mut made: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    made.sort_unstable();
    let seen: Vec<_> = take(&mut stream, WRITERS * WRITES).await.iter().map(|event| event.revision).collect();
    assert_eq!(seen, made, "every revision once, in order");
    let mut past = store.watch(&KeyRange::prefix("/many/"), start).await.unwrap();
    let past: Vec<_> = take(&mut past, WRITERS * WRITES).await.iter().map(|event| event.revision).collect();
    assert_eq!(past, made);
    one_winner(&store).await;
}

/// Of writers that expect the same revision exactly one succeeds, and each loser is told the truth.
async fn one_winner(store: &Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let store = Arc::clone(store);
        tasks.spawn(
            async move { store.commit(vec![put("/race", Expect::Absent, format!("{writer}"))]).await },
        );
    }
    let mut outcomes = BTreeMap::new();
    for outcome in tasks.join_all().await {
        match outcome {
            Ok(commit) => assert!(outcomes.insert("won", commit.revision).is_none()),
            Err(StoreError::Conflict { current: Some(kv), .. }) => {
                let told = *outcomes.entry("told").or_insert(kv.mod_revision);
                assert_eq!(told, kv.mod_revision);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(outcomes["won"], outcomes["told"]);
}

pub(super) async fn an_ended_lease_takes_its_keys(store: &dyn Store) {
    let lease = store.grant_lease(1).await.unwrap();
    let leased = |key: &'static str| Op {
        key: key.into(),
        expect: Expect::Any,
        change: Change::Put { value: "v".into(), lease: Some(lease) },
    };
    let start = store
        .commit(vec![leased("/lease/a"), leased("/lease/b"), leased("/lease/freed")])
        .await
        .unwrap()
        .revision;
    store.commit(vec![put("/lease/freed", Expect::Any, "kept")]).await.unwrap();
    let mut stream = store.watch(&KeyRange::prefix("/lease/"), start + 2).await.unwrap();
    let events = take(&mut stream, 2).await;
    assert!(events.iter().all(|event| event.current.is_none() && event.previous.is_some()));
    assert_eq!(store.get(b"/lease/a", None).await.unwrap().1, None);
    assert_eq!(store.get(b"/lease/freed", None).await.unwrap().1.unwrap().value, "kept");
    let mut late = leased("/lease/late");
    late.expect = Expect::Absent;
    assert!(matches!(store.commit(vec![late]).await, Err(StoreError::NoLease(id)) if id == lease));
}
