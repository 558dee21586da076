//! Writes to an embedded store for ever and prints each acknowledged write: the victim of the crash test.
//!
//! Task `t` makes `/w/<t>/<n>` for n = 1, 2, … and counts them in `/c/<t>` in the same transaction.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use store::embedded::{Embedded, EmbeddedOptions};
use store::testing::put;
use store::{Expect, Store};

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::args().nth(1).context("usage: crash_writer DIR")?;
    let store = Arc::new(Embedded::open(Path::new(&dir), EmbeddedOptions::default())?);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        tasks.spawn(write(Arc::clone(&store), task));
    }
    match tasks.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

async fn write(store: Arc<Embedded>, task: u32) -> anyhow::Result<()> {
    let counter = format!("/c/{task}");
    let current = store.get(counter.as_bytes(), None).await?.1;
    let mut n: u64 = match &current {
        Some(kv) => std::str::from_utf8(&kv.value)?.parse()?,
        None => 0,
    };
    let mut expect = current.map_or(Expect::Absent, |kv| Expect::Revision(kv.mod_revision));
    loop {
        n += 1;
        let value = vec![b'v'; 100 + (n as usize * 37) % 4000];
        let ops = vec![
            put(format!("/w/{task}/{n}"), Expect::Absent, value),
            put(counter.clone(), expect, n.to_string()),
        ];
        let revision = store.commit(ops).await?.revision;
        expect = Expect::Revision(revision);
        writeln!(std::io::stdout(), "{task} {n} {revision}")?;
        if revision % 500 == 0 && store.compacted() + 300 < revision {
            store.compact(revision - 300).await?;
        }
    }
}
