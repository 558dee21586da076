//! How long a new node took to be there (`pkg/kubelet/util/node_startup_latency_tracker.go`).

use std::time::Duration;

use crate::counts::{Counts, table};

/// When what happened. A node that was there before this kubelet tells of none of it.
#[derive(Debug)]
pub struct Startup {
    /// How long the machine ran before, where it says so.
    before: Option<Duration>,
    begun: Duration,
    attempted: Option<Duration>,
    registered: Option<Duration>,
    ready: bool,
}

impl Startup {
    /// A kubelet that starts now.
    pub fn new(now: Duration) -> Self {
        let uptime = std::fs::read_to_string("/proc/uptime").ok();
        Self {
            before: uptime.and_then(|text| seconds(&text)),
            begun: now,
            attempted: None,
            registered: None,
            ready: false,
        }
    }

    /// It tries to register. The first time counts.
    pub fn attempt(&mut self, now: Duration) {
        self.attempted.get_or_insert(now);
    }

    /// The node was made.
    pub fn registered(&mut self, now: Duration, counts: &Counts) {
        let (Some(attempted), None) = (self.attempted, self.registered) else { return };
        self.registered = Some(now);
        if let Some(before) = self.before {
            counts.set(&table::STARTUP_BEFORE, &[], before.as_secs_f64());
        }
        let to_attempt = attempted.saturating_sub(self.begun);
        counts.set(&table::STARTUP_TO_REGISTRATION, &[], to_attempt.as_secs_f64());
        counts.set(&table::STARTUP_REGISTRATION, &[], now.saturating_sub(attempted).as_secs_f64());
    }

    /// It is ready.
    pub fn ready(&mut self, now: Duration, counts: &Counts) {
        let (Some(registered), false) = (self.registered, self.ready) else { return };
        self.ready = true;
        counts.set(&table::STARTUP_TO_READY, &[], now.saturating_sub(registered).as_secs_f64());
        if let Some(before) = self.before {
            let all = before.saturating_add(now.saturating_sub(self.begun));
            counts.set(&table::STARTUP, &[], all.as_secs_f64());
        }
    }
}

/// The first number of `/proc/uptime`.
fn seconds(uptime: &str) -> Option<Duration> {
    let seconds = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::Value;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn starting() -> Startup {
        Startup {
            before: seconds("60.25 100.00\n"),
            begun: at(1),
            attempted: None,
            registered: None,
            ready: false,
        }
    }

    fn told(counts: &Counts, row: &table::Row) -> Option<f64> {
        match counts.known(row)?.get(&Vec::new()) {
            Some(Value::Number(seconds)) => Some(*seconds),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_node_tells_how_long_each_step_took() {
        let (mut startup, counts) = (starting(), Counts::default());
        startup.attempt(at(2));
        startup.attempt(at(4));
        startup.registered(at(7), &counts);
        startup.ready(at(17), &counts);
        startup.ready(at(100), &counts);
        let expected = [
            (&table::STARTUP_BEFORE, 60.25),
            (&table::STARTUP_TO_REGISTRATION, 1.0),
            (&table::STARTUP_REGISTRATION, 5.0),
            (&table::STARTUP_TO_READY, 10.0),
            (&table::STARTUP, 76.25),
        ];
        for (row, seconds) in expected {
            assert_eq!(told(&counts, row), Some(seconds), "{}", row.name);
        }
    }

    #[test]
    fn a_node_that_was_there_tells_nothing() {
        let (mut startup, counts) = (starting(), Counts::default());
        startup.attempt(at(2));
        startup.ready(at(3), &counts);
        assert_eq!(told(&counts, &table::STARTUP), None);
    }
}
