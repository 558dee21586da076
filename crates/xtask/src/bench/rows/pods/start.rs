//! Pods one after the other.

use std::time::Instant;

use anyhow::Result;
use async_trait::async_trait;

use super::{PODS, Watch, name, ready};
use crate::bench::http::Call;
use crate::bench::manifests;
use crate::bench::rows::{Measure, P50, P99};
use crate::bench::stats::percentile;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// One after the other; each is removed before the next.
pub(in crate::bench::rows) struct OneByOne;

#[async_trait(?Send)]
impl Measure for OneByOne {
    async fn prepare(&self, target: &Target) -> Result<()> {
        target.cluster()?.import_image()
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let mut watch = Watch::open(target).await?;
        let (mut times, before) = (Vec::new(), target.usage()?);
        let whole = target.cluster()?.cpu_us()?;
        for number in 0..105 {
            let own = format!("one-{number}");
            let since = Instant::now();
            target.client.call(Call::post(PODS, manifests::sleeper(&own, 0))).await?;
            watch.until(|_, pod| name(pod) == own && ready(pod)).await?;
            // The first ones find cold caches.
            if number >= 5 {
                times.push(since.elapsed().as_secs_f64() * 1000.0);
            }
            target.client.call(Call::delete(format!("{PODS}/{own}"))).await?;
            watch.until(|kind, pod| kind == "DELETED" && name(pod) == own).await?;
        }
        let used = target.usage()?.since(before).cpu_us;
        target.settle().await?;
        let whole = target.cluster()?.cpu_us()?.saturating_sub(whole);
        let mut share = |share| percentile(&mut times, share).unwrap_or(f64::NAN);
        Ok(vec![
            (P50, share(0.5)),
            (P99, share(0.99)),
            ("cpu ms/pod, start and end", used as f64 / 1000.0 / 105.0),
            ("with shims and runc ms/pod", whole as f64 / 1000.0 / 105.0),
        ])
    }
}
