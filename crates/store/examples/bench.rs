//! Durable 2 KiB puts per second of the embedded store, with one client and with 64:
//! `cargo run --release -p store --example bench -- DIR`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use store::embedded::{Embedded, EmbeddedOptions};
use store::testing::put;
use store::{Expect, KeyRange, RangeOptions, Store};

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let parent = std::env::args().nth(1).context("usage: bench DIR (on the disk to measure)")?;
    let dir = tempfile::tempdir_in(parent)?;
    println!("fsync after a 2 KiB write: {:?} (median of 200)", fsync_median(&dir.path().join("fsync"))?);
    let path: PathBuf = dir.path().join("store");
    let store = Arc::new(Embedded::open(&path, EmbeddedOptions::default())?);
    for clients in [1, 64, 256] {
        puts(&store, clients, Duration::from_secs(5)).await?;
    }
    fill(&store, 100_000).await?;
    let range = KeyRange::prefix("/registry/fill/");
    let start = Instant::now();
    let read = store.range(&range, RangeOptions::default()).await?;
    println!("range of {} objects of 2 KiB: {:?}", read.kvs.len(), start.elapsed());
    let start = Instant::now();
    for i in 0..100_000 {
        store.get(format!("/registry/fill/{i}").as_bytes(), None).await?;
    }
    println!("get: {:?} each", start.elapsed() / 100_000);
    store.close().await?;
    drop(store);
    reopen(&path).await
}

async fn reopen(path: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    let store = Embedded::open(path, EmbeddedOptions::default())?;
    let opened = start.elapsed();
    let read = store.range(&KeyRange::prefix("/registry/"), RangeOptions::default()).await?;
    println!("reopened in {opened:?}; all {} objects read after {:?}", read.kvs.len(), start.elapsed());
    store.close().await?;
    Ok(())
}

fn fsync_median(path: &Path) -> anyhow::Result<Duration> {
    let mut file = File::create(path)?;
    file.set_len(1 << 20)?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.write_all(&[7; 2048])?;
        let start = Instant::now();
        file.sync_all()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().context("no times")
}

async fn puts(store: &Arc<Embedded>, clients: usize, duration: Duration) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let mut times = Vec::new();
            while start.elapsed() < duration {
                let key = format!("/registry/bench/{clients}/{client}/{}", times.len());
                let begun = Instant::now();
                store.commit(vec![put(key, Expect::Absent, vec![b'x'; 2048])]).await?;
                times.push(begun.elapsed());
            }
            Ok::<_, store::StoreError>(times)
        });
    }
    let mut times = Vec::new();
    while let Some(task) = tasks.join_next().await {
        times.extend(task??);
    }
    let elapsed = start.elapsed();
    times.sort_unstable();
    let at = |share: f64| times.get((times.len() as f64 * share) as usize).copied().unwrap_or_default();
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    println!("{clients} clients: {rate:.0} puts/s, p50 {:?}, p99 {:?}", at(0.5), at(0.99));
    Ok(())
}

async fn fill(store: &Arc<Embedded>, objects: usize) -> anyhow::Result<()> {
    for chunk in 0..objects / 100 {
        let key = |i: usize| format!("/registry/fill/{}", chunk * 100 + i);
        let ops = (0..100).map(|i| put(key(i), Expect::Any, vec![b'x'; 2048])).collect();
        store.commit(ops).await?;
    }
    Ok(())
}
