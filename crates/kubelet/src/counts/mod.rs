//! What is counted for the metrics, as it happens. It knows nothing of how they are written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Bounds in seconds, as upstream's.
const POD_START: &[f64] = &[
    0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0,
    480.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0,
];
const IMAGE_PULL: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0,
    2700.0, 3600.0,
];
/// Prometheus' own.
const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// 5 ms, and each 2.5 times the one before it.
const OPERATION: &[f64] = &[
    0.005,
    0.0125,
    0.03125,
    0.078125,
    0.1953125,
    0.48828125,
    1.220703125,
    3.0517578125,
    7.62939453125,
    19.073486328125,
    47.6837158203125,
    119.20928955078125,
    298.0232238769531,
    745.0580596923828,
];
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

/// How often something took how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// Upper bounds in seconds, and how often it took no longer but longer than the bound before.
    pub buckets: Vec<(f64, u64)>,
    /// How often it took longer than all bounds.
    pub beyond: u64,
    /// All together, in seconds.
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &[f64]) -> Self {
        Self { buckets: bounds.iter().map(|bound| (*bound, 0)).collect(), beyond: 0, sum: 0.0 }
    }

    /// How often altogether.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.beyond
    }

    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.sum += seconds;
        match self.buckets.iter_mut().find(|(bound, _)| seconds <= *bound) {
            Some((_, count)) => *count += 1,
            None => self.beyond += 1,
        }
    }
}

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

/// See the module.
#[derive(Debug)]
pub struct Counts {
    probes: Mutex<BTreeMap<Probed, u64>>,
    /// By signal.
    evictions: Mutex<BTreeMap<String, u64>>,
    /// By the size of the image.
    pulls: Mutex<BTreeMap<&'static str, Histogram>>,
    /// By kind of container.
    containers: Mutex<BTreeMap<&'static str, u64>>,
    /// By kind of operation.
    rounds: Mutex<BTreeMap<&'static str, Histogram>>,
    pod_starts: Mutex<Histogram>,
    pods: AtomicU64,
    /// How long it takes to ask the runtime for everything.
    relists: Mutex<Histogram>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            probes: Mutex::default(),
            evictions: Mutex::default(),
            pulls: Mutex::default(),
            containers: Mutex::default(),
            rounds: Mutex::default(),
            pod_starts: Mutex::new(Histogram::new(POD_START)),
            pods: AtomicU64::new(0),
            relists: Mutex::new(Histogram::new(USUAL)),
        }
    }
}

impl Counts {
    /// A container was probed.
    pub fn probed(&self, probed: Probed) {
        *self.probes.lock().entry(probed).or_default() += 1;
    }

    /// A pod is gone, and its series with it.
    pub fn forget(&self, uid: &str) {
        self.probes.lock().retain(|probed, _| probed.uid != uid);
    }

    /// A pod was evicted.
    pub fn evicted(&self, signal: &str) {
        *self.evictions.lock().entry(signal.to_owned()).or_default() += 1;
    }

    /// An image of so many bytes was pulled.
    pub fn pulled(&self, bytes: u64, took: Duration) {
        let label = match bytes {
            0 => "N/A",
            _ => SIZES.iter().find(|(most, _)| bytes < *most).map_or("GT100GB", |(_, label)| label),
        };
        self.pulls.lock().entry(label).or_insert_with(|| Histogram::new(IMAGE_PULL)).observe(took);
    }

    /// A container was started.
    pub fn started(&self, kind: &'static str) {
        *self.containers.lock().entry(kind).or_default() += 1;
    }

    /// A worker has looked at its pod, and done what it does at once.
    pub fn worked(&self, operation: &'static str, took: Duration) {
        self.rounds.lock().entry(operation).or_insert_with(|| Histogram::new(USUAL)).observe(took);
    }

    /// A pod runs, so long after it was first seen.
    pub fn runs(&self, took: Duration) {
        self.pod_starts.lock().observe(took);
        self.pods.fetch_add(1, Ordering::Relaxed);
    }

    /// The runtime was asked for everything.
    pub fn relisted(&self, took: Duration) {
        self.relists.lock().observe(took);
    }

    /// A copy of all numbers.
    pub fn read(&self) -> Read {
        let list = |map: &Mutex<BTreeMap<&'static str, Histogram>>| {
            map.lock().iter().map(|(label, histogram)| (*label, histogram.clone())).collect()
        };
        Read {
            probes: self.probes.lock().iter().map(|(probed, count)| (probed.clone(), *count)).collect(),
            evictions: self.evictions.lock().clone(),
            pulls: list(&self.pulls),
            containers: self.containers.lock().clone(),
            rounds: list(&self.rounds),
            pod_starts: self.pod_starts.lock().clone(),
            pods: self.pods.load(Ordering::Relaxed),
            relists: self.relists.lock().clone(),
        }
    }
}

/// What was asked of the runtime.
#[derive(Debug, Default)]
pub struct Operations(Mutex<BTreeMap<&'static str, (Histogram, u64)>>);

impl Operations {
    /// It was asked, and took so long.
    pub fn note(&self, operation: &'static str, took: Duration, failed: bool) {
        let mut all = self.0.lock();
        let (histogram, failures) = all.entry(operation).or_insert_with(|| (Histogram::new(OPERATION), 0));
        histogram.observe(took);
        *failures += u64::from(failed);
    }

    /// By operation: how long it took, and how often it failed.
    pub fn read(&self) -> BTreeMap<&'static str, (Histogram, u64)> {
        self.0.lock().clone()
    }
}

/// What was counted.
#[derive(Debug)]
pub struct Read {
    pub probes: Vec<(Probed, u64)>,
    pub evictions: BTreeMap<String, u64>,
    pub pulls: Vec<(&'static str, Histogram)>,
    pub containers: BTreeMap<&'static str, u64>,
    pub rounds: Vec<(&'static str, Histogram)>,
    pub pod_starts: Histogram,
    pub pods: u64,
    pub relists: Histogram,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_the_first_bound_that_is_not_below_them() {
        let counts = Counts::default();
        for seconds in [1, 1, 3, 4000] {
            counts.runs(Duration::from_secs(seconds));
        }
        let read = counts.read();
        let filled: Vec<_> = read.pod_starts.buckets.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [&(1.0, 2), &(3.0, 1)]);
        assert_eq!((read.pod_starts.beyond, read.pod_starts.sum, read.pods), (1, 4005.0, 4));
    }

    #[test]
    fn images_are_told_by_their_size_and_probes_are_forgotten_with_their_pod() {
        let counts = Counts::default();
        for bytes in [0, 1, 10 * MEGA, 200 * GIGA] {
            counts.pulled(bytes, Duration::from_secs(1));
        }
        let labels: Vec<_> = counts.read().pulls.iter().map(|(label, _)| *label).collect();
        assert_eq!(labels, ["0-10MB", "10MB-100MB", "GT100GB", "N/A"]);
        let probed = |uid: &str| Probed {
            kind: "Liveness",
            result: "failed",
            container: "c".to_owned(),
            pod: "p".to_owned(),
            namespace: "n".to_owned(),
            uid: uid.to_owned(),
        };
        for uid in ["1", "1", "2"] {
            counts.probed(probed(uid));
        }
        counts.forget("2");
        assert_eq!(counts.read().probes, [(probed("1"), 2)]);
    }
}
