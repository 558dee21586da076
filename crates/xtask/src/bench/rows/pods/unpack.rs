//! A large image that comes to a node.

use std::time::Instant;

use anyhow::Result;
use async_trait::async_trait;

use crate::bench::image;
use crate::bench::rows::Measure;
use crate::bench::table::Sample;
use crate::bench::target::Target;

/// Imports and unpacks an archive that lies in the page cache.
pub(in crate::bench::rows) struct Unpack;

#[async_trait(?Send)]
impl Measure for Unpack {
    async fn measure(&self, target: &Target, round: usize) -> Result<Sample> {
        let cluster = target.cluster()?;
        // Each round has an image of its own: nothing of it is there already.
        let (archive, bytes) = image::large(&cluster.dir().join(format!("round-{round}")), round)?;
        let whole = cluster.cpu_us()?;
        let since = Instant::now();
        cluster.import(&archive)?;
        let elapsed = since.elapsed().as_secs_f64();
        let whole = cluster.cpu_us()?.saturating_sub(whole);
        cluster.remove_image(image::LARGE)?;
        std::fs::remove_dir_all(cluster.dir().join(format!("round-{round}")))?;
        let megabytes = bytes as f64 / 1e6;
        Ok(vec![("MB/s", megabytes / elapsed), ("cpu ms/MB", whole as f64 / 1000.0 / megabytes)])
    }
}
