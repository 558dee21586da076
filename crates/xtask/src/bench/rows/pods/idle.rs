//! Many pods that do nothing.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;

use super::{ready_at_once, warm};
use crate::bench::process;
use crate::bench::rows::Measure;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// So many are begun at once.
const AT_ONCE: usize = 50;

/// Looks at a node full of idle pods.
pub(in crate::bench::rows) struct Idle {
    /// How many.
    pub pods: usize,
}

#[async_trait(?Send)]
impl Measure for Idle {
    async fn prepare(&self, target: &Target) -> Result<()> {
        warm(target).await?;
        for first in (0..self.pods).step_by(AT_ONCE) {
            ready_at_once(target, first..self.pods.min(first + AT_ONCE), 0).await?;
        }
        Ok(())
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        const SECONDS: u64 = 30;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let cluster = target.cluster()?;
        let (before, whole) = (target.usage()?, cluster.cpu_us()?);
        tokio::time::sleep(Duration::from_secs(SECONDS)).await;
        let used = target.usage()?.since(before);
        let whole = cluster.cpu_us()?.saturating_sub(whole);
        let percent = |cpu_us: u64| cpu_us as f64 / 1e4 / SECONDS as f64;
        let (shims, others) = cluster.shims()?;
        let memory = target.memory() + process::pss(&shims) + process::pss(&others);
        Ok(vec![
            ("% of a core", percent(whole)),
            ("without shims and pods %", percent(used.cpu_us)),
            ("PSS MiB", memory as f64 / f64::from(1 << 20)),
            ("written B/s", used.written as f64 / SECONDS as f64),
        ])
    }
}
