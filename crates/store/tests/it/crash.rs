//! Kill -9 at random moments: what was acknowledged is there, once, and the history is consistent.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base::{Random, SeededRandom};
use futures::StreamExt;
use store::embedded::Embedded;
use store::{KeyRange, RangeOptions, Revision, Store, WatchItem};

/// (task, n) → revision, as acknowledged.
type Acknowledged = BTreeMap<(u64, u64), Revision>;

fn writer_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples/crash_writer");
    assert!(program.exists(), "{} is missing: build the examples", program.display());
    program
}

struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        // SIGKILL; it may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_until_killed(dir: &Path, alive: Duration, acknowledged: &mut Acknowledged) {
    let mut child = Command::new(writer_program()).arg(dir).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let writer = Writer(child);
    let reader = std::thread::spawn(move || {
        let mut lines: Vec<String> =
            BufReader::new(stdout).split(b'\n').map(|l| String::from_utf8(l.unwrap()).unwrap()).collect();
        // The last line may be cut; a shorter number would claim a write that never was.
        if lines.last().is_some_and(|line| line.split(' ').count() != 3) {
            lines.pop();
        }
        lines
    });
    // The moment of the kill is the point of the test, not a wait for something.
    std::thread::sleep(alive);
    drop(writer);
    for line in reader.join().unwrap() {
        let mut numbers = line.split(' ').map(|n| n.parse::<u64>().unwrap());
        let mut next = || numbers.next().unwrap();
        let before = acknowledged.insert((next(), next()), next());
        assert_eq!(before, None, "{line}: a write was acknowledged twice");
    }
}

async fn check(store: &Embedded, acknowledged: &Acknowledged) {
    let all = store.range(&KeyRange::prefix("/w/"), RangeOptions::default()).await.unwrap();
    let mut found = Acknowledged::new();
    for kv in &all.kvs {
        let text = String::from_utf8(kv.key.to_vec()).unwrap();
        let mut parts = text.split('/').skip(2).map(|n| n.parse::<u64>().unwrap());
        let id = (parts.next().unwrap(), parts.next().unwrap());
        assert_eq!((kv.version, kv.create_revision), (1, kv.mod_revision), "{text} was written twice");
        assert_eq!(kv.value.len(), 100 + (id.1 as usize * 37) % 4000);
        found.insert(id, kv.mod_revision);
    }
    for (id, revision) in acknowledged {
        assert_eq!(found.get(id), Some(revision), "an acknowledged write is not there as acknowledged");
    }
    for task in 0..8 {
        let counted = store.get(format!("/c/{task}").as_bytes(), None).await.unwrap().1;
        let counted = counted.map_or(0, |kv| std::str::from_utf8(&kv.value).unwrap().parse::<u64>().unwrap());
        let written: Vec<_> = found.keys().filter(|(t, _)| *t == task).map(|(_, n)| *n).collect();
        assert_eq!(written, (1..=counted).collect::<Vec<_>>(), "a transaction was torn");
    }
    check_history(store, &found).await;
}

/// The history since compaction tells every revision once, and agrees with the state.
async fn check_history(store: &Embedded, found: &Acknowledged) {
    let (oldest, newest) = (store.compacted(), store.revision());
    let mut watch = store.watch(&KeyRange::prefix("/"), oldest + 1).await.unwrap();
    let (mut expected, mut made) = ((oldest + 1).max(2), BTreeSet::new());
    while expected <= newest {
        let WatchItem::Events(events) = watch.next().await.unwrap().unwrap() else { continue };
        assert_eq!(events.len(), 2, "a task's key and its counter");
        assert_eq!(events[0].revision, expected);
        made.insert(expected);
        expected += 1;
    }
    let state: BTreeSet<_> = found.values().copied().filter(|revision| *revision > oldest).collect();
    assert_eq!(made, state);
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let random = SeededRandom::new(0x6b6e_6172);
    let mut acknowledged = Acknowledged::new();
    for round in 0..12 {
        // The first rounds kill it while the directory is being made.
        let alive = if round < 4 { 3 + random.below(30) } else { 40 + random.below(400) };
        write_until_killed(dir.path(), Duration::from_millis(alive), &mut acknowledged);
        let store = crate::open(dir.path());
        check(&store, &acknowledged).await;
        store.close().await.unwrap();
    }
    assert!(acknowledged.len() > 100, "only {} writes were tested", acknowledged.len());
}
