//! How fast a pod may send and receive: a token bucket on its link for what it receives, and one on an intermediate
//! device, to which the link passes what it sends. By netlink: no `tc` on the node.

mod message;
mod socket;

use crate::error::Result;
use crate::link::Links;

use message::{Bucket, bucket, filter, ingress};
use socket::Socket;

/// Limits in bits per second; `None` for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// What the pod receives.
    pub ingress: Option<Limit>,
    /// What the pod sends.
    pub egress: Option<Limit>,
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bits per second.
    pub rate: u64,
    /// How many bits may pass at once; `None` for what the rate allows in a twentieth of a second.
    pub burst: Option<u64>,
}

impl Limit {
    /// One with the usual burst.
    pub fn of(rate: u64) -> Self {
        Self { rate, burst: None }
    }

    fn bucket(self) -> Bucket {
        // A bucket must hold at least a few whole packets, or nothing passes.
        const LEAST: u64 = 32 * 1024;
        let rate = self.rate / 8;
        let burst = self.burst.map_or(rate / 20, |bits| bits / 8).max(LEAST);
        let burst = u32::try_from(burst).unwrap_or(u32::MAX);
        // Upstream's: what waits longer than 25 ms is dropped.
        let waiting = u32::try_from(rate / 40).unwrap_or(u32::MAX);
        Bucket { rate, burst, limit: burst.saturating_add(waiting) }
    }
}

/// Limits the pod behind `link`. `device` is the name of the intermediate device. Doing it again sets the limits anew.
///
/// # Errors
/// When the kernel refuses, or lacks `ifb` or the token bucket.
pub async fn apply(links: &Links, link: &str, device: &str, limits: Limits) -> Result<()> {
    if let Some(limit) = limits.ingress {
        let index = links.need(link).await?;
        Socket::open()?.ask(&bucket(index, limit.bucket()), || format!("limiting what {link} receives"))?;
    }
    if let Some(limit) = limits.egress {
        links.ifb(device).await?;
        links.up(device).await?;
        let (from, to) = (links.need(link).await?, links.need(device).await?);
        let socket = Socket::open()?;
        socket.ask(&bucket(to, limit.bucket()), || format!("limiting what {device} passes on"))?;
        socket.ask(&ingress(from), || format!("catching what {link} sends"))?;
        socket.ask(&filter(from, to), || format!("passing what {link} sends to {device}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
