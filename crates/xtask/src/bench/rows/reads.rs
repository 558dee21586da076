//! Reads.

use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use bytes::Bytes;

use super::clean::delete_all;
use super::{Measure, figures};
use crate::bench::http::{Call, JSON, PROTOBUF};
use crate::bench::load::{Until, each, load};
use crate::bench::manifests;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// Where the read objects are.
const NAMESPACE: &str = "bench-read";
/// So many of them are read one by one.
const OBJECTS: usize = 1000;
/// So many are in a list.
const PODS: usize = 11_000;

/// Reads objects one by one.
pub(super) struct Get {
    /// For so long.
    pub seconds: f64,
}

fn config_maps() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

#[async_trait(?Send)]
impl Measure for Get {
    async fn prepare(&self, target: &Target) -> Result<()> {
        target.prepare_namespace(NAMESPACE).await?;
        let create = |number| Call::post(config_maps(), manifests::config_map(&format!("object-{number}")));
        each(&target.client, OBJECTS, create).await?;
        target.settle().await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let path = config_maps();
        let next = |client: usize, request: usize, _: Option<&Bytes>| {
            Call::get(format!("{path}/object-{}", (request * 31 + client) % OBJECTS))
        };
        let before = target.usage()?;
        let until = Until::Time(Duration::from_secs_f64(self.seconds));
        let seen = load(&target.client, 64, until, &next).await?;
        Ok(figures(target.usage()?.since(before), seen))
    }

    async fn clean(&self, target: &Target) -> Result<()> {
        delete_all(target, &config_maps()).await
    }
}

/// Reads them all at once, one list after the other.
pub(super) struct List {
    accept: &'static str,
}

impl List {
    /// In JSON.
    pub fn json() -> Self {
        Self { accept: JSON }
    }

    /// In protobuf.
    pub fn protobuf() -> Self {
        Self { accept: PROTOBUF }
    }
}

/// Makes `count` pods that no scheduler takes.
pub(super) async fn create_pods(target: &Target, namespace: &str, count: usize) -> Result<()> {
    target.prepare_namespace(namespace).await?;
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    each(&target.client, count, |number| {
        Call::post(&path, manifests::pod(&format!("web-{number:06}"), "nobody"))
    })
    .await
}

#[async_trait(?Send)]
impl Measure for List {
    async fn prepare(&self, target: &Target) -> Result<()> {
        create_pods(target, NAMESPACE, PODS).await?;
        target.settle().await
    }

    async fn measure(&self, target: &Target, _: usize) -> Result<Sample> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods");
        let size = target.client.call(Call::get(&path).accept(self.accept)).await?.len();
        if size < PODS * 500 {
            bail!("a list of {PODS} pods has {size} bytes only");
        }
        let next = |_: usize, _: usize, _: Option<&Bytes>| Call::get(&path).accept(self.accept);
        let before = target.usage()?;
        let seen = load(&target.client, 1, Until::Count(20), &next).await?;
        let mut sample = figures(target.usage()?.since(before), seen);
        sample.push(("MB", size as f64 / 1e6));
        Ok(sample)
    }

    async fn clean(&self, target: &Target) -> Result<()> {
        delete_all(target, &format!("/api/v1/namespaces/{NAMESPACE}/pods")).await
    }
}
