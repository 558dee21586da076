//! Durable writes.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use base::{Clock, SystemClock};
use bytes::Bytes;

use super::clean::delete_all;
use super::{Measure, P50, figures};
use crate::bench::http::Call;
use crate::bench::load::{Until, each, load};
use crate::bench::manifests;
use crate::bench::stats::percentile;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// Where the written objects are.
const NAMESPACE: &str = "bench";

/// How to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    /// A new object each time.
    Create,
    /// Each client changes an object of its own.
    Patch,
}

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 1 KiB.
    ConfigMap,
    /// One that no scheduler takes.
    Pod,
}

/// Creates or changes objects.
pub(super) struct Write {
    verb: Verb,
    kind: Kind,
    clients: usize,
    until: Until,
}

impl Write {
    /// A load of `seconds`.
    pub fn new(verb: Verb, kind: Kind, clients: usize, seconds: f64) -> Self {
        Self { verb, kind, clients, until: Until::Time(Duration::from_secs_f64(seconds)) }
    }

    fn path(&self) -> String {
        let plural = match self.kind {
            Kind::ConfigMap => "configmaps",
            Kind::Pod => "pods",
        };
        format!("/api/v1/namespaces/{NAMESPACE}/{plural}")
    }

    fn body(&self, name: &str) -> Bytes {
        match self.kind {
            Kind::ConfigMap => manifests::config_map(name),
            Kind::Pod => manifests::pod(name, "nobody"),
        }
    }
}

#[async_trait(?Send)]
impl Measure for Write {
    async fn prepare(&self, target: &Target) -> Result<()> {
        target.prepare_namespace(NAMESPACE).await?;
        if self.verb == Verb::Patch {
            let path = self.path();
            let create = |number| Call::post(&path, self.body(&format!("own-{number}")));
            each(&target.client, self.clients, create).await?;
        }
        target.settle().await
    }

    async fn measure(&self, target: &Target, round: usize) -> Result<Sample> {
        let path = self.path();
        let next = |client: usize, request: usize, _: Option<&Bytes>| match self.verb {
            Verb::Create => Call::post(&path, self.body(&format!("object-{round}-{request:07}"))),
            Verb::Patch => {
                let changed = manifests::config_map_patch(round * 10_000_000 + request);
                Call::patch(format!("{path}/own-{client}"), changed)
            }
        };
        let before = target.usage()?;
        let seen = load(&target.client, self.clients, self.until, &next).await?;
        let mut sample = figures(target.usage()?.since(before), seen);
        if self.clients == 1 {
            let fsync = fsync_ms()?;
            let p50 = sample.iter().find(|(name, _)| *name == P50).map_or(f64::NAN, |(_, value)| *value);
            sample.extend([("fsync ms", fsync), ("p50 / fsync", p50 / fsync)]);
        }
        target.settle().await?;
        Ok(sample)
    }

    async fn clean(&self, target: &Target) -> Result<()> {
        delete_all(target, &self.path()).await
    }
}

/// How long the disk takes to keep 1 KiB more of a journal, which is a file that has its size already: the median,
/// in milliseconds. In the directory of temporary files, where our own clusters are.
fn fsync_ms() -> Result<f64> {
    let file = tempfile::tempfile()?;
    file.set_len(1 << 26)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for number in 0..200 {
        let since = Instant::now();
        file.write_all_at(&[1; 1024], number * 1024)?;
        file.sync_all()?;
        times.push(since.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(percentile(&mut times, 0.5).unwrap_or(f64::NAN))
}

/// Renews leases as kubelets do: each client its own.
pub(super) struct Renew {
    /// For so long.
    pub seconds: f64,
}

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

#[async_trait(?Send)]
impl Measure for Renew {
    async fn prepare(&self, target: &Target) -> Result<()> {
        target.prepare_namespace("kube-node-lease").await?;
        let now = format!("{:.6}", SystemClock::new().now());
        each(&target.client, 64, |number| {
            Call::post(LEASES, manifests::lease(&format!("bench-{number}"), &now, None))
        })
        .await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let clock = SystemClock::new();
        let next = |client: usize, _: usize, last: Option<&Bytes>| {
            let name = format!("bench-{client}");
            let at = format!("{LEASES}/{name}");
            match last.and_then(|lease| manifests::version(lease)) {
                // Only the first time.
                None => Call::get(at),
                version => Call::put(at, manifests::lease(&name, &format!("{:.6}", clock.now()), version)),
            }
        };
        let before = target.usage()?;
        let until = Until::Time(Duration::from_secs_f64(self.seconds));
        let seen = load(&target.client, 64, until, &next).await?;
        Ok(figures(target.usage()?.since(before), seen))
    }

    async fn clean(&self, target: &Target) -> Result<()> {
        delete_all(target, LEASES).await
    }
}
