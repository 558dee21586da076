//! Many pods at once, to ready and away again.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use async_trait::async_trait;

use super::{PODS, WARM, Watch, name, ready_at_once, warm};
use crate::bench::cluster::Cluster;
use crate::bench::http::Call;
use crate::bench::load::each;
use crate::bench::process;
use crate::bench::rows::Measure;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// Seconds that the pods have for their end; they use them up. No pod gets fewer (upstream's `minimumGracePeriodInSeconds`).
const GRACE: u32 = 2;

/// So many at once.
pub(in crate::bench::rows) struct Burst {
    /// How many.
    pub pods: usize,
}

/// After how long what was kept for a busy moment is given back, by the server last: once nothing was written for 75 s,
/// which it looks at four times in that time.
const REST: Duration = Duration::from_secs(105);

/// The memory of all processes that there would not be without Knarr or its peer, in bytes.
fn memory(target: &Target) -> Result<u64> {
    let (shims, others) = target.cluster()?.shims()?;
    Ok(target.memory() + process::pss(&shims) + process::pss(&others))
}

/// Waits until so many shims are left.
async fn shims_left(cluster: &Cluster, count: usize) -> Result<()> {
    let since = Instant::now();
    while cluster.shims()?.0.len() != count {
        if since.elapsed() > Duration::from_secs(60) {
            bail!("{} shims stand below {count} pods", cluster.shims()?.0.len());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

impl Burst {
    async fn end(&self, target: &Target) -> Result<f64> {
        let (mut watch, since) = (Watch::open(target).await?, Instant::now());
        let end = |number| Call::delete_gracefully(format!("{PODS}/pod-{number}"));
        each(&target.client, self.pods, end).await?;
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < self.pods {
            let pod = watch.until(|kind, _| kind == "DELETED").await?;
            seen.insert(name(&pod).to_owned());
        }
        Ok(since.elapsed().as_secs_f64() - f64::from(GRACE))
    }
}

#[async_trait(?Send)]
impl Measure for Burst {
    async fn prepare(&self, target: &Target) -> Result<()> {
        warm(target).await
    }

    async fn measure(&self, target: &Target, round: usize) -> Result<Sample> {
        let cluster = target.cluster()?;
        shims_left(cluster, WARM).await?;
        // Later rounds find memory that earlier ones have left to the processes.
        let measures_memory = round == 0;
        if measures_memory {
            tokio::time::sleep(REST).await;
        }
        let (before, kernel) = (memory(target)?, process::kernel_memory()?);
        let (usage, whole, since) = (target.usage()?, cluster.cpu_us()?, Instant::now());
        ready_at_once(target, 0..self.pods, GRACE).await?;
        let (elapsed, used) = (since.elapsed().as_secs_f64(), target.usage()?.since(usage).cpu_us);
        let whole = cluster.cpu_us()?.saturating_sub(whole);
        target.settle().await?;
        let each_of = |value: u64, unit: f64| value as f64 / unit / self.pods as f64;
        let mut sample = vec![
            ("pods/s", self.pods as f64 / elapsed),
            ("cpu ms/pod", each_of(used, 1000.0)),
            ("with shims and runc ms/pod", each_of(whole, 1000.0)),
        ];
        if measures_memory {
            tokio::time::sleep(REST).await;
            let (shims, others) = cluster.shims()?;
            if shims.len() != self.pods + WARM {
                bail!("{} shims stand below {} pods", shims.len(), self.pods + WARM);
            }
            let own = memory(target)?.saturating_sub(before);
            let kernel = process::kernel_memory()?.saturating_sub(kernel);
            let both = process::pss(&shims) + process::pss(&others);
            sample.extend([
                ("PSS KiB/pod", each_of(own, 1024.0)),
                ("shim KiB/pod", both as f64 / 1024.0 / shims.len() as f64),
                ("with kernel KiB/pod", each_of(own + kernel, 1024.0)),
            ]);
        }
        sample.push(("deleted, s beyond grace", self.end(target).await?));
        target.settle().await?;
        Ok(sample)
    }
}
