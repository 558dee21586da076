//! Random histories, checked against the plainest model of them: every state, kept whole.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;
use store::{
    Change, Event, Expect, KeyRange, KeyValue, Op, RangeOptions, Revision, Store, StoreError, WatchItem,
};

type State = BTreeMap<Bytes, KeyValue>;

struct Model {
    /// The state at each revision, from revision 1 (empty) on.
    states: Vec<State>,
    compacted: Revision,
}

impl Model {
    fn revision(&self) -> Revision {
        self.states.len() as Revision
    }

    fn at(&self, revision: Revision) -> &State {
        &self.states[revision as usize - 1]
    }

    fn commit(&mut self, ops: &[Op]) -> Result<Revision, (Bytes, Option<KeyValue>)> {
        let now = self.at(self.revision()).clone();
        for op in ops {
            let current = now.get(&op.key);
            let modified = current.map_or(0, |kv| kv.mod_revision);
            let held = match op.expect {
                Expect::Any => true,
                Expect::Absent => modified == 0,
                Expect::Revision(revision) => modified == revision,
            };
            if !held {
                return Err((op.key.clone(), current.cloned()));
            }
        }
        let (mut next, revision) = (now.clone(), self.revision() + 1);
        for op in ops {
            match &op.change {
                Change::Check => {}
                Change::Delete => drop(next.remove(&op.key)),
                Change::Put { value, .. } => {
                    let before = now.get(&op.key);
                    let kv = KeyValue {
                        key: op.key.clone(),
                        value: value.clone(),
                        create_revision: before.map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: before.map_or(1, |kv| kv.version + 1),
                    };
                    next.insert(op.key.clone(), kv);
                }
            }
        }
        if next != now {
            self.states.push(next);
        }
        Ok(self.revision())
    }

    fn events(&self, range: &KeyRange, from: Revision) -> Vec<Event> {
        let mut events = Vec::new();
        for revision in from..=self.revision() {
            let (before, now) = (self.at(revision - 1), self.at(revision));
            let mut keys: Vec<_> = before.keys().chain(now.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys.into_iter().filter(|key| range.contains(key)) {
                let (previous, current) = (before.get(key).cloned(), now.get(key).cloned());
                if previous != current {
                    events.push(Event { key: key.clone(), revision, current, previous });
                }
            }
        }
        events
    }
}

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u8, u8, u8)>),
    Compact(u8),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = (0u8..6, 0u8..4, 0u8..4);
    let step = prop_oneof![
        30 => proptest::collection::vec(op, 1..4).prop_map(Step::Commit),
        2 => any::<u8>().prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Keys that share prefixes and hold zero bytes, which the rows escape.
fn key(n: u8) -> Bytes {
    const KEYS: [&[u8]; 6] = [b"/a", b"/a\0", b"/a\0\xff", b"/a\x01", b"/ab", b"/b"];
    Bytes::from_static(KEYS[usize::from(n)])
}

fn ops(model: &Model, choices: &[(u8, u8, u8)]) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    for &(n, expect, change) in choices {
        if ops.iter().any(|op| op.key == key(n)) {
            continue;
        }
        let current = model.at(model.revision()).get(&key(n)).map(|kv| kv.mod_revision);
        let expect = match (expect, current) {
            (0, _) => Expect::Absent,
            (1, _) => Expect::Any,
            (_, Some(revision)) => Expect::Revision(revision),
            (_, None) => Expect::Absent,
        };
        let change = match change {
            0 => Change::Delete,
            1 => Change::Check,
            _ => Change::Put { value: format!("{}", model.revision()).into(), lease: None },
        };
        ops.push(Op { key: key(n), expect, change });
    }
    ops
}

async fn check_reads(store: &dyn Store, model: &Model) {
    let ranges = [
        KeyRange::prefix("/a"),
        KeyRange { start: "/a\0".into(), end: "/a\x01".into() },
        KeyRange::prefix(""),
    ];
    for revision in model.compacted.max(1)..=model.revision() {
        for range in &ranges {
            let options = RangeOptions { at: Some(revision), limit: Some(3), ..RangeOptions::default() };
            let read = store.range(range, options).await.unwrap();
            let all: Vec<_> =
                model.at(revision).values().filter(|kv| range.contains(&kv.key)).cloned().collect();
            assert_eq!(read.kvs, all[..all.len().min(3)]);
            assert_eq!((read.count, read.more), (all.len(), all.len() > 3));
        }
        let one = key(revision as u8 % 6);
        assert_eq!(store.get(&one, Some(revision)).await.unwrap().1.as_ref(), model.at(revision).get(&one));
    }
    if model.compacted > 1 {
        let old = store.get(b"/a", Some(model.compacted - 1)).await;
        assert!(matches!(old, Err(StoreError::Compacted { .. })));
    }
    for range in &ranges {
        let from = (model.compacted + 1).max(2);
        let mut watch = store.watch(range, from).await.unwrap();
        let mut events = Vec::new();
        let expected = model.events(range, from);
        while events.len() < expected.len() {
            if let WatchItem::Events(more) = watch.next().await.unwrap().unwrap() {
                events.extend(more);
            }
        }
        assert_eq!(events, expected);
        assert!(!matches!(watch.next().now_or_never(), Some(Some(Ok(WatchItem::Events(_))))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_history_reads_as_the_model_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut store = crate::open(dir.path());
            let mut model = Model { states: vec![State::new()], compacted: 0 };
            for step in steps {
                match step {
                    Step::Commit(choices) => {
                        let ops = ops(&model, &choices);
                        match (store.commit(ops.clone()).await, model.commit(&ops)) {
                            (Ok(commit), Ok(revision)) => assert_eq!(commit.revision, revision),
                            (Err(StoreError::Conflict { key, current }), Err(expected)) => {
                                assert_eq!((key, current), expected);
                            }
                            (found, expected) => panic!("{found:?}, but {expected:?}"),
                        }
                    }
                    Step::Compact(n) => {
                        let revision = 1 + u64::from(n) % model.revision();
                        let allowed = revision > model.compacted;
                        assert_eq!(store.compact(revision).await.is_ok(), allowed);
                        model.compacted = model.compacted.max(revision);
                    }
                    Step::Reopen => {
                        drop(store);
                        store = crate::open(dir.path());
                    }
                }
            }
            check_reads(&store, &model).await;
        });
    }
}
