//! How many requests there are, and how long they take.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::Shared;
use crate::counts::table;

/// The paths that metrics tell apart; upstream's.
const PATHS: [&str; 20] = [
    "healthz",
    "pods",
    "stats",
    "metrics",
    "metrics/cadvisor",
    "metrics/probes",
    "metrics/resource",
    "run",
    "exec",
    "attach",
    "portForward",
    "containerLogs",
    "configz",
    "runningpods",
    "allocatedPods",
    "checkpoint",
    "logs",
    "debug",
    "statusz",
    "flagz",
];
const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];

/// The name of a path in metrics.
fn path(path: &str) -> &'static str {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let root = match parts.as_slice() {
        ["metrics", second, ..] => format!("metrics/{second}"),
        [first, ..] => (*first).to_owned(),
        [] => String::new(),
    };
    PATHS.into_iter().find(|known| *known == root).unwrap_or("other")
}

/// A request that is being answered.
pub struct Counted {
    shared: Arc<Shared>,
    /// Whether it lasts, its method, its path, and which server it came to.
    labels: [&'static str; 4],
    begun: Duration,
}

impl Counted {
    /// It came.
    pub fn begin(shared: &Arc<Shared>, method: &Method, of: &str) -> Self {
        let path = path(of);
        let lasts = matches!(path, "exec" | "attach" | "portForward" | "debug");
        let method = METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other");
        let labels = [if lasts { "true" } else { "false" }, method, path, "readwrite"];
        shared.counts.count(&table::HTTP_REQUESTS, &labels);
        shared.counts.count(&table::HTTP_INFLIGHT, &labels);
        Self { shared: shared.clone(), labels, begun: shared.config.clock.monotonic() }
    }

    /// It is answered.
    pub fn end(self) {
        let took = self.shared.config.clock.monotonic().saturating_sub(self.begun);
        self.shared.counts.took(&table::HTTP_DURATION, &self.labels, took);
    }
}

/// Also of a request whose caller went away.
impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.counts.add(&table::HTTP_INFLIGHT, &self.labels, -1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn paths_are_told_by_their_root() {
        for (given, wanted) in [
            ("/exec/ns/pod/c", "exec"),
            ("/metrics", "metrics"),
            ("/metrics/resource", "metrics/resource"),
            ("/stats/summary", "stats"),
            ("/nonsense/x", "other"),
            ("/", "other"),
        ] {
            assert_eq!(path(given), wanted, "{given}");
        }
    }
}
