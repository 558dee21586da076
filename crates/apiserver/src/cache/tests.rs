use bytes::Bytes;

use super::*;

/// Entries whose bytes are `REVISION:VALUE`.
struct Plain;

impl Extract for Plain {
    fn entry(
        &self,
        prefix: &str,
        key: &str,
        revision: u64,
        stored: &[u8],
    ) -> Result<Entry, entry::Unreadable> {
        if stored == b"bad" {
            return Err(entry::Unreadable {
                prefix: prefix.into(),
                key: key.into(),
                revision,
                why: "bad".into(),
            });
        }
        let text = format!("{revision}:{}", String::from_utf8_lossy(stored));
        Ok(Entry {
            key: key.into(),
            revision,
            bytes: Bytes::from(text),
            labels: [].into(),
            fields: [].into(),
        })
    }

    fn at_revision(&self, entry: &Entry, revision: u64) -> Entry {
        Entry {
            key: entry.key.clone(),
            revision,
            bytes: entry.bytes.clone(),
            labels: entry.labels.clone(),
            fields: entry.fields.clone(),
        }
    }
}

fn cache() -> Cache {
    Cache::new("pods", Arc::new(Plain), Arc::new(Progress::default()))
}

#[tokio::test]
async fn a_watch_from_the_past_sees_each_change_once_and_in_order() {
    let cache = cache();
    cache.apply("a/x", 2, Some(b"1")).unwrap();
    cache.apply("a/x", 3, Some(b"2")).unwrap();
    let mut watcher = cache.watch(Some(2)).unwrap();
    cache.apply("a/x", 4, None).unwrap();
    let seen: Vec<_> = std::iter::from_fn(|| watcher.try_next()).map(|c| (c.revision, c.kind)).collect();
    assert_eq!(seen, [(3, ChangeKind::Modified), (4, ChangeKind::Deleted)]);
    assert!(cache.is_empty());
}

#[tokio::test]
async fn a_slow_watcher_is_cut_off_and_told_so() {
    let cache = cache();
    let mut watcher = cache.watch(None).unwrap();
    for revision in 0..=WATCHER_QUEUE as u64 {
        cache.apply("a/x", revision + 2, Some(b"1")).unwrap();
    }
    let mut seen = 0;
    let end = loop {
        match watcher.next().await {
            Ok(_) => seen += 1,
            Err(end) => break end,
        }
    };
    assert_eq!((seen, end), (WATCHER_QUEUE, Cut::Lagged));
}

#[tokio::test]
async fn only_new_changes_keep_their_encodings() {
    let cache = cache();
    let mut watcher = cache.watch(None).unwrap();
    (0..=FRESH as u64).for_each(|n| cache.apply("a/x", n + 2, Some(b"1")).unwrap());
    let changes: Vec<_> = std::iter::from_fn(|| watcher.try_next()).collect();
    let encoded = |change: &Change| {
        let mut encoded = 0;
        for _ in 0..2 {
            let frame = change.protobuf_frame(|| {
                encoded += 1;
                Bytes::from_static(b"frame")
            });
            assert_eq!(frame, "frame");
        }
        encoded
    };
    let counts: Vec<_> = changes.iter().map(|change| encoded(change)).collect();
    assert_eq!((counts[0], counts[1], counts[FRESH]), (2, 1, 1));
    cache.rest();
    assert!(changes.iter().all(|change| encoded(change) == 2));
    cache.apply("a/x", FRESH as u64 + 3, Some(b"2")).unwrap();
    assert_eq!(encoded(&watcher.try_next().unwrap()), 1);
}

#[test]
fn what_was_written_long_ago_is_not_remembered() {
    let cache = cache();
    let newest = RESTING as u64 + 20;
    (1..=newest).for_each(|n| cache.apply("a/x", n, Some(b"1")).unwrap());
    assert!(cache.watch(Some(0)).is_ok());
    cache.rest();
    assert_eq!(cache.watch(Some(19)).unwrap_err(), Cut::TooOld { requested: 19, oldest: 20 });
    let mut watcher = cache.watch(Some(20)).unwrap();
    let seen = std::iter::from_fn(|| watcher.try_next());
    assert!(seen.map(|change| change.revision).eq(21..=newest));
    assert_eq!(cache.list("a").0, newest);
    cache.rest();
    assert!(cache.watch(Some(20)).is_ok(), "nothing is left to drop");
}

#[tokio::test]
async fn a_watch_from_before_the_window_is_refused() {
    let cache = cache();
    cache.load("a/x", 7, b"1").unwrap();
    cache.loaded(9);
    assert_eq!(cache.watch(Some(8)).unwrap_err(), Cut::TooOld { requested: 8, oldest: 9 });
    assert!(cache.watch(Some(9)).is_ok());
}

#[test]
fn a_list_of_a_namespace_has_no_neighbours() {
    let cache = cache();
    for key in ["a/x", "a-b/x", "ab/x", "a/y"] {
        cache.load(key, 2, b"1").unwrap();
    }
    let names: Vec<_> = cache.list("a").1.iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(names, ["a/x", "a/y"]);
}

#[test]
fn unreadable_bytes_are_an_error_that_names_the_key() {
    let error = cache().apply("a/x", 5, Some(b"bad")).unwrap_err();
    assert_eq!(error.to_string(), "the stored object pods/a/x (revision 5) cannot be read: bad");
}
