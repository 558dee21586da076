//! Watches: events to many, and what an idle one takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use super::clean::delete_all;
use super::{Measure, RATE};
use crate::bench::http::{Call, Client};
use crate::bench::load::{Until, load};
use crate::bench::manifests;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// Where the watched objects are.
const NAMESPACE: &str = "bench-watch";
/// So many idle watches share a connection: upstream allows 100 requests at a time on one.
const PER_CONNECTION: usize = 80;
/// Clients that write.
const WRITERS: usize = 8;

fn path() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

async fn prepare(target: &Target) -> Result<()> {
    target.prepare_namespace(NAMESPACE).await?;
    for number in 0..WRITERS {
        let body = manifests::config_map(&format!("own-{number}"));
        target.client.call(Call::post(path(), body)).await?;
    }
    target.settle().await
}

/// Watches from now on, and not from before.
async fn open(target: &Target, client: &Client, watchers: usize) -> Result<Vec<Incoming>> {
    let list = target.client.call(Call::get(path())).await?;
    let version = manifests::version(&list).context("a list without a version")?;
    let watch = Call::get(format!("{}?watch=1&resourceVersion={version}&timeoutSeconds=3000", path()));
    let mut streams = Vec::new();
    for start in (0..watchers).step_by(200) {
        let some = (start..watchers.min(start + 200)).map(|_| client.send(watch.clone()));
        for response in try_join_all(some).await? {
            if !response.status().is_success() {
                bail!("a watch was answered with {}", response.status());
            }
            streams.push(response.into_body());
        }
    }
    Ok(streams)
}

/// Every write is an event to each watcher.
pub(super) struct Events {
    /// So many watch.
    pub watchers: usize,
    /// So many writes.
    pub writes: usize,
}

#[async_trait(?Send)]
impl Measure for Events {
    async fn prepare(&self, target: &Target) -> Result<()> {
        prepare(target).await
    }

    async fn measure(&self, target: &Target, round: usize) -> Result<Sample> {
        // Whoever watches has a connection of their own, as nodes have.
        let client = Client::connect(&target.endpoint, self.watchers).await?;
        let seen = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for stream in open(target, &client, self.watchers).await? {
            tasks.spawn(count(stream, seen.clone()));
        }
        target.settle().await?;
        let next = |client: usize, request: usize, _: Option<&Bytes>| {
            let changed = manifests::config_map_patch(round * 10_000_000 + request);
            Call::patch(format!("{}/own-{client}", path()), changed)
        };
        let (before, start) = (target.usage()?, Instant::now());
        let written = load(&target.client, WRITERS, Until::Count(self.writes), &next).await?;
        let events = written.count * self.watchers;
        while seen.load(Ordering::Relaxed) < events {
            if start.elapsed() > Duration::from_secs(120) {
                bail!("{} of {events} events have come in 120 s", seen.load(Ordering::Relaxed));
            }
            if let Some(ended) = tasks.try_join_next() {
                ended?.context("a watch has ended")?;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let (elapsed, used) = (start.elapsed().as_secs_f64(), target.usage()?.since(before));
        Ok(vec![
            ("cpu µs/event", used.cpu_us as f64 / events as f64),
            ("events/s", events as f64 / elapsed),
            (RATE, written.count as f64 / elapsed),
        ])
    }

    async fn clean(&self, target: &Target) -> Result<()> {
        delete_all(target, &path()).await
    }
}

/// Counts lines: each is an event.
async fn count(mut stream: Incoming, seen: Arc<AtomicUsize>) -> Result<()> {
    while let Some(frame) = stream.frame().await {
        if let Ok(data) = frame?.into_data() {
            seen.fetch_add(memchr::memchr_iter(b'\n', &data).count(), Ordering::Relaxed);
        }
    }
    bail!("the server has ended it")
}

/// Watches that nothing happens to.
pub(super) struct Idle;

#[async_trait(?Send)]
impl Measure for Idle {
    async fn prepare(&self, target: &Target) -> Result<()> {
        prepare(target).await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        const WATCHES: usize = 5000;
        let connections = WATCHES.div_ceil(PER_CONNECTION);
        let client = Client::connect(&target.endpoint, connections).await?;
        for _ in 0..connections {
            client.call(Call::get(path())).await?;
        }
        target.settle().await?;
        let before = target.memory();
        let streams = open(target, &client, WATCHES).await?;
        target.settle().await?;
        let grown = target.memory().saturating_sub(before);
        Ok(vec![("KiB/watch", grown as f64 / 1024.0 / streams.len() as f64)])
    }

    async fn clean(&self, target: &Target) -> Result<()> {
        delete_all(target, &path()).await
    }
}
