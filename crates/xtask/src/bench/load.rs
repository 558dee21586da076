//! Load: so many clients that each send their next request when the last one is answered.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use futures::future::try_join_all;

use super::http::{Call, Client};
use super::stats::percentile;

/// When a load ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// After this time.
    Time(Duration),
    /// After so many requests.
    Count(usize),
}

/// What a load saw.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Requests answered.
    pub count: usize,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// Of each request, in milliseconds.
    latencies: Vec<f64>,
}

impl Seen {
    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that `share` of the requests stay below, in milliseconds.
    pub fn latency(&mut self, share: f64) -> f64 {
        percentile(&mut self.latencies, share).unwrap_or(f64::NAN)
    }
}

/// The next request of a client: its number, the request's number among all, the last answer of this client.
pub(super) type Next<'a> = &'a dyn Fn(usize, usize, Option<&Bytes>) -> Call;

/// Sends requests from `clients` clients.
///
/// # Errors
/// When one of them fails.
pub(super) async fn load(client: &Client, clients: usize, until: Until, next: Next<'_>) -> Result<Seen> {
    let (sent, latencies) = (Cell::new(0usize), RefCell::new(Vec::new()));
    let start = Instant::now();
    let more = || match until {
        Until::Time(time) => start.elapsed() < time,
        Until::Count(count) => sent.get() < count,
    };
    let one = |number: usize| {
        let (sent, latencies, more) = (&sent, &latencies, &more);
        async move {
            let mut last = None;
            while more() {
                let request = sent.get();
                sent.set(request + 1);
                let call = next(number, request, last.as_ref());
                let since = Instant::now();
                last = Some(client.call(call).await?);
                latencies.borrow_mut().push(since.elapsed().as_secs_f64() * 1000.0);
            }
            Ok::<_, anyhow::Error>(())
        }
    };
    join(clients, one).await?;
    let latencies = latencies.into_inner();
    Ok(Seen { count: latencies.len(), elapsed: start.elapsed(), latencies })
}

/// Runs the same for each number below `clients`, at once.
async fn join<F: Future<Output = Result<()>>>(clients: usize, one: impl Fn(usize) -> F) -> Result<()> {
    try_join_all((0..clients).map(one)).await.map(|_| ())
}

/// Sends so many requests, for what they change.
///
/// # Errors
/// When one of them fails.
pub(super) async fn each(client: &Client, count: usize, call: impl Fn(usize) -> Call) -> Result<()> {
    load(client, 64.min(count.max(1)), Until::Count(count), &|_, request, _| call(request)).await.map(|_| ())
}
