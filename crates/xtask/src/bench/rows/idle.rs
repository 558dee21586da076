//! A cluster with nothing to do.

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;

use super::Measure;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// Looks at it for a while.
pub(super) struct Idle;

#[async_trait(?Send)]
impl Measure for Idle {
    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        const SECONDS: u64 = 30;
        tokio::time::sleep(Duration::from_secs(15)).await;
        let before = target.usage()?;
        tokio::time::sleep(Duration::from_secs(SECONDS)).await;
        let used = target.usage()?.since(before);
        Ok(vec![
            ("PSS MiB", target.memory() as f64 / f64::from(1 << 20)),
            ("% of a core", used.cpu_us as f64 / 1e4 / SECONDS as f64),
            ("written B/s", used.written as f64 / SECONDS as f64),
        ])
    }
}
