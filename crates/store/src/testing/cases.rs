//! Reads, writes and compaction.

use super::{delete, put};
use crate::{Change, Expect, KeyRange, Op, RangeOptions, Store, StoreError};

pub(super) async fn create_conflict_update_delete(store: &dyn Store) {
    let key = "/create/a";
    let made = store.commit(vec![put(key, Expect::Absent, "1")]).await.unwrap().revision;
    let again = store.commit(vec![put(key, Expect::Absent, "2")]).await.unwrap_err();
    let StoreError::Conflict { key: conflicting, current: Some(current) } = again else {
        panic!("{again:?}")
    };
    assert_eq!((&conflicting[..], &current.value[..]), (key.as_bytes(), &b"1"[..]));
    assert_eq!((current.create_revision, current.mod_revision, current.version), (made, made, 1));

    let updated = store.commit(vec![put(key, Expect::Revision(made), "2")]).await.unwrap().revision;
    assert_eq!(updated, made + 1, "a refused transaction takes no revision");
    let stale = store.commit(vec![delete(key, Expect::Revision(made))]).await;
    assert!(
        matches!(stale, Err(StoreError::Conflict { current: Some(kv), .. }) if kv.mod_revision == updated)
    );
    let (read_at, kv) = store.get(key.as_bytes(), None).await.unwrap();
    let kv = kv.unwrap();
    assert!(read_at >= updated);
    assert_eq!((&kv.value[..], kv.create_revision, kv.version), (&b"2"[..], made, 2));

    let deleted = store.commit(vec![delete(key, Expect::Revision(updated))]).await.unwrap().revision;
    assert_eq!(store.get(key.as_bytes(), None).await.unwrap().1, None);
    let nothing = store.commit(vec![delete(key, Expect::Any)]).await.unwrap().revision;
    assert_eq!(nothing, deleted, "deleting nothing takes no revision");
    let missing = store.commit(vec![put(key, Expect::Revision(updated), "3")]).await;
    assert!(matches!(missing, Err(StoreError::Conflict { current: None, .. })));
    store.commit(vec![put(key, Expect::Absent, "4")]).await.unwrap();
    let kv = store.get(key.as_bytes(), None).await.unwrap().1.unwrap();
    assert_eq!((kv.create_revision, kv.version), (deleted + 1, 1), "a key made anew begins anew");
}

pub(super) async fn a_transaction_is_all_or_nothing(store: &dyn Store) {
    let first = store
        .commit(vec![put("/txn/a", Expect::Absent, "a"), put("/txn/b", Expect::Absent, "b")])
        .await
        .unwrap()
        .revision;
    let check =
        |revision| Op { key: "/txn/a".into(), expect: Expect::Revision(revision), change: Change::Check };
    let refused = store
        .commit(vec![put("/txn/c", Expect::Absent, "c"), delete("/txn/b", Expect::Any), check(first + 7)])
        .await;
    assert!(matches!(refused, Err(StoreError::Conflict { key, .. }) if &key[..] == b"/txn/a"));
    let all = store.range(&KeyRange::prefix("/txn/"), RangeOptions::default()).await.unwrap();
    assert_eq!(all.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"/txn/a", b"/txn/b"]);
    assert!(all.kvs.iter().all(|kv| kv.mod_revision == first), "both were made at one revision");
    let second = store.commit(vec![delete("/txn/b", Expect::Any), check(first)]).await.unwrap().revision;
    assert_eq!(second, first + 1);
    assert_eq!(
        store.commit(vec![check(first)]).await.unwrap().revision,
        second,
        "a check alone changes nothing"
    );
}

pub(super) async fn ranges_page_and_count(store: &dyn Store) {
    for i in 0..7 {
        store.commit(vec![put(format!("/range/{i}"), Expect::Any, vec![b'x'; 10])]).await.unwrap();
    }
    store.commit(vec![put("/range0", Expect::Any, "outside")]).await.unwrap();
    let range = KeyRange::prefix("/range/");
    let page = store.range(&range, RangeOptions { limit: Some(3), ..RangeOptions::default() }).await.unwrap();
    assert_eq!((page.kvs.len(), page.more, page.count), (3, true, 7));
    let rest = KeyRange { start: [&page.kvs[2].key[..], b"\0"].concat().into(), end: range.end.clone() };
    let options = RangeOptions { at: Some(page.revision), keys_only: true, ..RangeOptions::default() };
    let rest = store.range(&rest, options).await.unwrap();
    assert_eq!((rest.kvs.len(), rest.more, rest.count, rest.revision), (4, false, 4, page.revision));
    assert!(rest.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0));
    let exact =
        store.range(&range, RangeOptions { limit: Some(7), ..RangeOptions::default() }).await.unwrap();
    assert!(!exact.more);
    let open = KeyRange { start: "/range/6".into(), end: bytes::Bytes::new() };
    assert!(store.range(&open, RangeOptions::default()).await.unwrap().count >= 2, "an empty end is no end");
}

pub(super) async fn old_revisions_stay_readable(store: &dyn Store) {
    let mut revisions = Vec::new();
    for i in 0..4 {
        let ops =
            vec![put("/old/a", Expect::Any, format!("{i}")), put(format!("/old/n{i}"), Expect::Any, "n")];
        revisions.push(store.commit(ops).await.unwrap().revision);
    }
    store.commit(vec![delete("/old/a", Expect::Any)]).await.unwrap();
    for (i, revision) in revisions.iter().enumerate() {
        let options = RangeOptions { at: Some(*revision), limit: Some(1), ..RangeOptions::default() };
        let then = store.range(&KeyRange::prefix("/old/"), options).await.unwrap();
        assert_eq!((then.count, then.more, then.revision), (i + 2, true, *revision));
        assert_eq!(then.kvs[0].value, format!("{i}"));
        let (_, kv) = store.get(b"/old/a", Some(*revision)).await.unwrap();
        assert_eq!(kv.as_ref(), Some(&then.kvs[0]));
    }
    let (_, before) = store.get(b"/old/a", Some(revisions[0] - 1)).await.unwrap();
    assert_eq!(before, None);
}

pub(super) async fn the_future_is_refused(store: &dyn Store) {
    let current = store.confirm().await.unwrap();
    let read = store.get(b"/future/a", Some(current + 1000)).await;
    let expected = (current + 1000, current);
    assert!(
        matches!(read, Err(StoreError::Future { requested, current }) if (requested, current) == expected)
    );
    let options = RangeOptions { at: Some(current + 1000), ..RangeOptions::default() };
    let read = store.range(&KeyRange::prefix("/"), options).await;
    assert!(matches!(read, Err(StoreError::Future { .. })));
    assert!(matches!(store.compact(current + 1000).await, Err(StoreError::Future { .. })));
}

pub(super) async fn confirm_is_as_new_as_the_last_commit(store: &dyn Store) {
    for i in 0..20 {
        let committed =
            store.commit(vec![put("/confirm/a", Expect::Any, format!("{i}"))]).await.unwrap().revision;
        let (one, two) = futures::join!(store.confirm(), store.confirm());
        assert!(one.unwrap() >= committed && two.unwrap() >= committed);
    }
}

pub(super) async fn compacted_revisions_are_refused(store: &dyn Store) {
    let mut revisions = Vec::new();
    for i in 0..6 {
        revisions
            .push(store.commit(vec![put("/compact/a", Expect::Any, format!("{i}"))]).await.unwrap().revision);
    }
    let gone = store.commit(vec![put("/compact/b", Expect::Any, "b")]).await.unwrap().revision;
    store.commit(vec![delete("/compact/b", Expect::Revision(gone))]).await.unwrap();
    let oldest = revisions[3];
    store.compact(oldest).await.unwrap();

    let is_compacted =
        |error: StoreError| matches!(error, StoreError::Compacted { oldest: o, .. } if o == oldest);
    assert!(is_compacted(store.get(b"/compact/a", Some(oldest - 1)).await.unwrap_err()));
    let at = |revision| RangeOptions { at: Some(revision), ..RangeOptions::default() };
    let range = KeyRange::prefix("/compact/");
    assert!(is_compacted(store.range(&range, at(oldest - 1)).await.unwrap_err()));
    assert!(is_compacted(store.compact(oldest - 1).await.unwrap_err()));
    assert!(is_compacted(store.watch(&range, oldest).await.err().unwrap()), "what came before it is gone");
    for (i, revision) in revisions.iter().enumerate().skip(3) {
        assert_eq!(store.range(&range, at(*revision)).await.unwrap().kvs[0].value, format!("{i}"));
    }
    let events = super::watches::take(&mut store.watch(&range, oldest + 1).await.unwrap(), 4).await;
    assert_eq!(
        events[0].previous.as_ref().unwrap().value,
        "3",
        "the value at the compacted revision is kept"
    );
    assert_eq!(events[3].previous.as_ref().unwrap().value, "b");
    assert!(store.size().await.unwrap() > 0);
}
