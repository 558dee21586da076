//! What objects take in memory.

use anyhow::Result;
use async_trait::async_trait;

use super::Measure;
use super::clean::delete_all;
use super::reads::create_pods;
use crate::bench::http::{Call, PROTOBUF};
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// Where the pods are.
const NAMESPACE: &str = "bench-cache";
/// So many.
const PODS: usize = 50_000;

/// The growth of the servers with their pods.
pub(super) struct Cache;

#[async_trait(?Send)]
impl Measure for Cache {
    async fn prepare(&self, target: &Target) -> Result<()> {
        create_pods(target, NAMESPACE, 1).await?;
        target.settle().await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let one = target.client.call(Call::get(format!("{path}/web-000000")).accept(PROTOBUF)).await?.len();
        target.client.call(Call::delete(format!("{path}/web-000000"))).await?;
        target.settle().await?;
        let before = target.memory();
        create_pods(target, NAMESPACE, PODS).await?;
        target.settle().await?;
        let each = target.memory().saturating_sub(before) as f64 / PODS as f64;
        let mut sample = vec![
            ("PSS / stored", each / one as f64),
            ("KiB/pod", each / 1024.0),
            ("stored KiB/pod", one as f64 / 1024.0),
        ];
        if let Some(cluster) = &target.cluster {
            // Without what the writing left behind: the window of events, the store's buffers.
            cluster.down()?;
            cluster.up()?;
            let pids = cluster.pids()?;
            tokio::time::sleep(std::time::Duration::from_secs(5)).await;
            let again = crate::bench::process::pss(&pids).saturating_sub(before) as f64 / PODS as f64;
            sample.push(("PSS / stored, restarted", again / one as f64));
        }
        Ok(sample)
    }

    async fn clean(&self, target: &Target) -> Result<()> {
        delete_all(target, &format!("/api/v1/namespaces/{NAMESPACE}/pods")).await
    }
}
