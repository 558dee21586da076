//! How many requests may be under way at once, those that change something apart from the others
//! (`--max-mutating-requests-inflight`, `--max-requests-inflight`). Watches do not count: they last.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::pipeline::request::RequestInfo;
use crate::status::{ApiError, Result};

/// The places of one API server.
#[derive(Debug)]
pub struct Flow {
    mutating: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

impl Flow {
    /// Places for so many requests of each sort.
    pub fn new(mutating: usize, reading: usize) -> Self {
        Self { mutating: Arc::new(Semaphore::new(mutating)), reading: Arc::new(Semaphore::new(reading)) }
    }

    /// Takes a place, which is given back when the permit is dropped. Health, leases and long-running requests need
    /// none, so that bulk work cannot delay them.
    ///
    /// # Errors
    /// 429 when all are taken.
    pub fn enter(&self, info: &RequestInfo) -> Result<Option<OwnedSemaphorePermit>> {
        let long = info.verb == "watch"
            || matches!(info.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy");
        if long || !info.is_resource || info.resource == "leases" {
            return Ok(None);
        }
        let places = match info.verb {
            "get" | "list" => &self.reading,
            _ => &self.mutating,
        };
        places
            .clone()
            .try_acquire_owned()
            .map(Some)
            .map_err(|_| ApiError::too_many_requests("too many requests, please try again later", 1))
    }
}
