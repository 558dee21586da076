//! What is counted for the metrics, as it happens: `table` says of what. It knows nothing of how they are written.

mod histogram;
pub mod requests;
pub mod table;
#[cfg(test)]
mod upstream;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::SharedClock;
use parking_lot::Mutex;

pub use histogram::Histogram;
use table::{Kind, Row};

const MEGA: u64 = 1024 * 1024;
const GIGA: u64 = 1024 * MEGA;
/// Sizes of images, each with the label of those that are smaller.
const SIZES: &[(u64, &str)] = &[
    (10 * MEGA, "0-10MB"),
    (100 * MEGA, "10MB-100MB"),
    (500 * MEGA, "100MB-500MB"),
    (GIGA, "500MB-1GB"),
    (5 * GIGA, "1GB-5GB"),
    (10 * GIGA, "5GB-10GB"),
    (20 * GIGA, "10GB-20GB"),
    (30 * GIGA, "20GB-30GB"),
    (40 * GIGA, "30GB-40GB"),
    (60 * GIGA, "40GB-60GB"),
    (100 * GIGA, "60GB-100GB"),
];

/// A probe of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probed {
    /// `Liveness`, `Readiness` or `Startup`.
    pub kind: &'static str,
    /// `successful`, `failed` or `unknown`.
    pub result: &'static str,
    pub container: String,
    pub pod: String,
    pub namespace: String,
    pub uid: String,
}

/// Counts, and a clock for what takes time.
#[derive(Clone)]
pub struct Meter {
    pub counts: Arc<Counts>,
    pub clock: SharedClock,
}

impl Meter {
    /// Waits for something, and counts how long it took; the labels may depend on what came of it.
    pub async fn time<T, const N: usize>(
        &self,
        row: &Row,
        labels: impl FnOnce(&T) -> [String; N],
        work: impl Future<Output = T>,
    ) -> T {
        let begun = self.clock.monotonic();
        let done = work.await;
        let took = self.clock.monotonic().saturating_sub(begun);
        let labels = labels(&done);
        self.counts.took(row, &labels.each_ref().map(String::as_str), took);
        done
    }
}

/// What a series came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    Histogram(Histogram),
}

/// The series of a metric, by the values of its labels.
pub type Series = BTreeMap<Vec<String>, Value>;

/// See the module.
#[derive(Debug, Default)]
pub struct Counts {
    /// By the metric's name.
    series: Mutex<BTreeMap<&'static str, Series>>,
    probes: Mutex<BTreeMap<Probed, u64>>,
    /// How long the successful ones took.
    probe_times: Mutex<BTreeMap<Probed, Histogram>>,
}

impl Counts {
    fn change(&self, row: &Row, labels: &[&str], change: impl FnOnce(&mut Value)) {
        debug_assert_eq!(row.labels.len(), labels.len(), "{}", row.name);
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut all = self.series.lock();
        let value = all.entry(row.name).or_default().entry(labels).or_insert_with(|| match row.kind {
            Kind::Histogram(bounds) => Value::Histogram(Histogram::new(bounds)),
            Kind::Counter | Kind::Gauge => Value::Number(0.0),
        });
        change(value);
    }

    /// Once more.
    pub fn count(&self, row: &Row, labels: &[&str]) {
        self.add(row, labels, 1.0);
    }

    /// So many more, or fewer.
    pub fn add(&self, row: &Row, labels: &[&str], more: f64) {
        self.change(row, labels, |value| {
            if let Value::Number(number) = value {
                *number += more;
            }
        });
    }

    /// So many now.
    pub fn set(&self, row: &Row, labels: &[&str], now: f64) {
        self.change(row, labels, |value| *value = Value::Number(now));
    }

    /// Of this size, in the unit of the metric.
    pub fn observe(&self, row: &Row, labels: &[&str], size: f64) {
        self.change(row, labels, |value| {
            if let Value::Histogram(histogram) = value {
                histogram.observe(size);
            }
        });
    }

    /// It took so long; of metrics in seconds.
    pub fn took(&self, row: &Row, labels: &[&str], time: Duration) {
        self.observe(row, labels, time.as_secs_f64());
    }

    /// The series of a metric. One without labels is there from the beginning.
    pub fn read(&self, row: &Row) -> Series {
        let mut series = self.series.lock().get(row.name).cloned().unwrap_or_default();
        if row.labels.is_empty() && series.is_empty() {
            let zero = match row.kind {
                Kind::Histogram(bounds) => Value::Histogram(Histogram::new(bounds)),
                Kind::Counter | Kind::Gauge => Value::Number(0.0),
            };
            series.insert(Vec::new(), zero);
        }
        series
    }

    /// The series of a metric, if there are any.
    pub fn known(&self, row: &Row) -> Option<Series> {
        self.series.lock().get(row.name).cloned()
    }

    /// A container was probed, and answered after so long.
    pub fn probed(&self, probed: Probed, took: Duration) {
        if probed.result == "successful" {
            let mut times = self.probe_times.lock();
            let times = times.entry(probed.clone()).or_insert_with(|| Histogram::new(table::USUAL));
            times.observe(took.as_secs_f64());
        }
        *self.probes.lock().entry(probed).or_default() += 1;
    }

    /// All probes.
    pub fn probes(&self) -> Vec<(Probed, u64)> {
        self.probes.lock().iter().map(|(probed, count)| (probed.clone(), *count)).collect()
    }

    /// How long those took that were successful.
    pub fn probe_times(&self) -> Vec<(Probed, Histogram)> {
        self.probe_times.lock().iter().map(|(probed, times)| (probed.clone(), times.clone())).collect()
    }

    /// A pod is gone, and its series with it.
    pub fn forget(&self, uid: &str) {
        self.probes.lock().retain(|probed, _| probed.uid != uid);
        self.probe_times.lock().retain(|probed, _| probed.uid != uid);
    }

    /// An image of so many bytes was pulled.
    pub fn pulled(&self, bytes: u64, took: Duration) {
        let label = match bytes {
            0 => "N/A",
            _ => SIZES.iter().find(|(most, _)| bytes < *most).map_or("GT100GB", |(_, label)| label),
        };
        self.took(&table::IMAGE_PULL, &[label], took);
    }

    /// The runtime was asked something.
    pub fn asked(&self, operation: &str, took: Duration, failed: bool) {
        self.count(&table::RUNTIME_OPERATIONS, &[operation]);
        self.took(&table::RUNTIME_OPERATIONS_DURATION, &[operation], took);
        if failed {
            self.count(&table::RUNTIME_OPERATIONS_ERRORS, &[operation]);
        }
    }
}

/// Counts of a test's own.
#[cfg(test)]
pub fn meter(clock: SharedClock) -> Meter {
    Meter { counts: Arc::default(), clock }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(counts: &Counts, row: &Row) -> Vec<String> {
        counts.read(row).keys().map(|labels| labels.join(",")).collect()
    }

    #[test]
    fn series_are_counted_by_their_labels_and_those_without_are_there_from_the_beginning() {
        let counts = Counts::default();
        assert_eq!(counts.read(&table::STARTED_PODS), Series::from([(Vec::new(), Value::Number(0.0))]));
        assert!(counts.read(&table::EVICTIONS).is_empty());
        for signal in ["memory.available", "memory.available", "pid.available"] {
            counts.count(&table::EVICTIONS, &[signal]);
        }
        let series = counts.read(&table::EVICTIONS);
        assert_eq!(series[&vec!["memory.available".to_owned()]], Value::Number(2.0));
        assert_eq!(series.len(), 2);
    }

    #[test]
    fn the_runtimes_failures_are_counted_apart() {
        let counts = Counts::default();
        counts.asked("status", Duration::from_millis(1), false);
        counts.asked("status", Duration::from_millis(1), true);
        let value = |row: &Row| counts.read(row).into_values().next();
        assert_eq!(value(&table::RUNTIME_OPERATIONS), Some(Value::Number(2.0)));
        assert_eq!(value(&table::RUNTIME_OPERATIONS_ERRORS), Some(Value::Number(1.0)));
    }

    #[test]
    fn images_are_told_by_their_size_and_probes_are_forgotten_with_their_pod() {
        let counts = Counts::default();
        for bytes in [0, 1, 10 * MEGA, 200 * GIGA] {
            counts.pulled(bytes, Duration::from_secs(1));
        }
        assert_eq!(labels(&counts, &table::IMAGE_PULL), ["0-10MB", "10MB-100MB", "GT100GB", "N/A"]);
        let probed = |uid: &str| Probed {
            kind: "Liveness",
            result: "failed",
            container: "c".to_owned(),
            pod: "p".to_owned(),
            namespace: "n".to_owned(),
            uid: uid.to_owned(),
        };
        for uid in ["1", "1", "2"] {
            counts.probed(probed(uid), Duration::ZERO);
        }
        let well = |uid: &str| Probed { result: "successful", ..probed(uid) };
        for uid in ["1", "2"] {
            counts.probed(well(uid), Duration::from_secs(1));
        }
        counts.forget("2");
        assert_eq!(counts.probes(), [(probed("1"), 2), (well("1"), 1)]);
        let times: Vec<_> = counts.probe_times().into_iter().map(|(of, times)| (of, times.sum)).collect();
        assert_eq!(times, [(well("1"), 1.0)]);
    }
}
