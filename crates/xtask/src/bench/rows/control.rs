//! Starting, and starting again.

use std::time::Instant;

use anyhow::Result;
use async_trait::async_trait;

use super::Measure;
use crate::bench::http::{Call, Client};
use crate::bench::load::each;
use crate::bench::table::Sample;
use crate::bench::target::Target;
use crate::bench::{kubeconfig, manifests};

/// `knarr up` of a cluster that has never been.
pub(super) struct Up;

#[async_trait(?Send)]
impl Measure for Up {
    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let took = target.cluster()?.another()?.up()?;
        Ok(vec![("s", took.as_secs_f64())])
    }
}

/// `knarr up` of a control plane that holds much.
pub(super) struct Restart;

#[async_trait(?Send)]
impl Measure for Restart {
    async fn prepare(&self, target: &Target) -> Result<()> {
        let path = "/api/v1/namespaces/default/configmaps";
        let create = |number| Call::post(path, manifests::small_config_map(&format!("object-{number:06}")));
        each(&target.client, 100_000, create).await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let cluster = target.cluster()?;
        cluster.down()?;
        let since = Instant::now();
        cluster.up()?;
        let client = Client::connect(&kubeconfig::load(&cluster.kubeconfig())?, 1).await?;
        while !client.try_call(Call::get("/readyz")).await? {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let path = "/api/v1/namespaces/default/configmaps/object-099999";
        client.call(Call::get(path)).await?;
        Ok(vec![("s", since.elapsed().as_secs_f64())])
    }
}
