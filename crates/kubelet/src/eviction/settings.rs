//! When a node is short of something: thresholds as KubeletConfiguration writes them (`eviction/helpers.go`).

use std::collections::BTreeMap;
use std::time::Duration;

use schema::quantity::Quantity;

use super::signal::Signal;

/// How much has to be left.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    Quantity(Quantity),
    /// Of the capacity, from 0 to 1.
    Share(f64),
}

impl Amount {
    /// In units of the signal.
    pub fn of(&self, capacity: i64) -> i64 {
        match self {
            Self::Quantity(quantity) => quantity.value(),
            Self::Share(share) => (capacity as f64 * share) as i64,
        }
    }
}

/// A node is short of something when less than `least` is left, for `grace` if it is a soft threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    pub signal: Signal,
    pub least: Amount,
    /// `None` for a hard one.
    pub grace: Option<Duration>,
    /// So much more has to be free again.
    pub reclaim: Option<Amount>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub thresholds: Vec<Threshold>,
    /// A condition lasts at least so long.
    pub transition: Duration,
    /// The most seconds that containers have to stop at a soft threshold.
    pub max_grace: i64,
    /// Percentages of the disk at which unused images go, and down to which.
    pub image_high: u8,
    pub image_low: u8,
}

/// A threshold that makes no sense; upstream's words.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    #[error("eviction threshold {signal}: {value:?} is neither a quantity nor a percentage")]
    Value { signal: String, value: String },
    #[error("eviction percentage threshold {signal} must be >= 0%: {value}")]
    Below { signal: String, value: String },
    #[error("eviction percentage threshold {signal} must be <= 100%: {value}")]
    Above { signal: String, value: String },
    #[error("eviction threshold {signal} must be positive: {value}")]
    NotPositive { signal: String, value: String },
    #[error("eviction percentage minimum reclaim {signal} must be positive: {value}")]
    NoReclaim { signal: String, value: String },
    #[error("negative eviction minimum reclaim specified for {0}")]
    NegativeReclaim(String),
    #[error("grace period must be specified for the soft eviction threshold {0}")]
    NoGrace(String),
}

impl Default for Settings {
    /// Upstream's.
    fn default() -> Self {
        let hard = |signal, least| Threshold { signal, least, grace: None, reclaim: None };
        let share = |percent: f64| Amount::Share(percent / 100.0);
        let memory = Amount::Quantity(Quantity::from_int(100 << 20, schema::quantity::Format::BinarySi));
        Self {
            thresholds: vec![
                hard(Signal::Memory, memory.clone()),
                hard(Signal::NodeDisk, share(10.0)),
                hard(Signal::NodeInodes, share(5.0)),
                hard(Signal::ImageDisk, share(15.0)),
                hard(Signal::ImageInodes, share(5.0)),
                hard(Signal::PodsMemory, memory),
            ],
            transition: Duration::from_secs(300),
            max_grace: 0,
            image_high: 85,
            image_low: 80,
        }
    }
}

impl Settings {
    /// From the maps of a KubeletConfiguration: `evictionHard`, `evictionSoft` with its grace periods, and
    /// `evictionMinimumReclaim`. What holds for the machine's memory holds for that of all pods, too, if what pods
    /// get altogether is enforced.
    ///
    /// # Errors
    /// The first entry that makes no sense.
    pub fn thresholds(
        hard: &BTreeMap<String, String>,
        soft: &BTreeMap<String, String>,
        grace: &BTreeMap<String, Duration>,
        reclaim: &BTreeMap<String, String>,
        enforced: bool,
    ) -> Result<Vec<Threshold>, SettingsError> {
        let signal = |name: &str| Signal::parse(name).ok_or_else(|| SettingsError::Signal(name.to_owned()));
        for name in grace.keys() {
            signal(name)?;
        }
        let mut more = BTreeMap::new();
        for (name, value) in reclaim {
            more.insert(signal(name)?, minimum(name, value)?);
        }
        let mut thresholds = Vec::new();
        for (is_soft, list) in [(false, hard), (true, soft)] {
            for (name, value) in list {
                let signal = signal(name)?;
                let Some(least) = least(name, value)? else { continue };
                let grace = match (is_soft, grace.get(name)) {
                    (false, _) => None,
                    // As upstream: whoever waits for nothing is hard.
                    (true, Some(grace)) => Some(*grace).filter(|grace| !grace.is_zero()),
                    (true, None) => return Err(SettingsError::NoGrace(name.clone())),
                };
                thresholds.push(Threshold { signal, least, grace, reclaim: more.get(&signal).cloned() });
            }
        }
        if enforced {
            let machine = |one: &&Threshold| one.signal == Signal::Memory && one.grace.is_none();
            let pods: Vec<Threshold> = thresholds.iter().filter(machine).cloned().collect();
            thresholds.extend(pods.into_iter().map(|one| Threshold { signal: Signal::PodsMemory, ..one }));
        }
        Ok(thresholds)
    }
}

/// 0% and 100% switch a threshold off.
fn least(signal: &str, value: &str) -> Result<Option<Amount>, SettingsError> {
    let (signal, text) = (signal.to_owned(), value.to_owned());
    let Some(share) = share(value) else {
        return match value.parse::<Quantity>() {
            Ok(quantity) if quantity.milli() <= 0 => Err(SettingsError::NotPositive { signal, value: text }),
            Ok(quantity) => Ok(Some(Amount::Quantity(quantity))),
            Err(_) => Err(SettingsError::Value { signal, value: text }),
        };
    };
    match share {
        _ if matches!(value, "0%" | "100%") => Ok(None),
        None => Err(SettingsError::Value { signal, value: text }),
        Some(share) if share < 0.0 => Err(SettingsError::Below { signal, value: text }),
        Some(share) if share > 1.0 => Err(SettingsError::Above { signal, value: text }),
        Some(share) => Ok(Some(Amount::Share(share))),
    }
}

fn minimum(signal: &str, value: &str) -> Result<Amount, SettingsError> {
    let (name, text) = (signal.to_owned(), value.to_owned());
    match share(value) {
        Some(Some(share)) if share > 0.0 => Ok(Amount::Share(share)),
        Some(Some(_)) => Err(SettingsError::NoReclaim { signal: name, value: text }),
        Some(None) => Err(SettingsError::Value { signal: name, value: text }),
        None => match value.parse::<Quantity>() {
            Ok(quantity) if quantity.milli() < 0 => Err(SettingsError::NegativeReclaim(name)),
            Ok(quantity) => Ok(Amount::Quantity(quantity)),
            Err(_) => Err(SettingsError::Value { signal: name, value: text }),
        },
    }
}

/// Of text that ends with `%`; the inner one is `None` when no number stands before it.
fn share(value: &str) -> Option<Option<f64>> {
    let percent = value.strip_suffix('%')?;
    Some(percent.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn thresholds_are_read_as_the_configuration_writes_them() {
        let seconds = |list: &[(&str, u64)]| -> BTreeMap<String, Duration> {
            list.iter().map(|(name, s)| ((*name).to_owned(), Duration::from_secs(*s))).collect()
        };
        let grace = seconds(&[("nodefs.available", 90), ("pid.available", 0)]);
        let hard = map(&[("memory.available", "200Mi"), ("imagefs.available", "0%")]);
        let soft = map(&[("nodefs.available", "20%"), ("pid.available", "10")]);
        let more = map(&[("memory.available", "1Gi"), ("nodefs.available", "5%")]);
        let read = Settings::thresholds(&hard, &soft, &grace, &more, true).unwrap();
        let of = |one: &Threshold| (one.signal.name(), one.least.of(1000), one.grace.map(|g| g.as_secs()));
        assert_eq!(
            read.iter().map(of).collect::<Vec<_>>(),
            [
                ("memory.available", 200 << 20, None),
                ("nodefs.available", 200, Some(90)),
                ("pid.available", 10, None),
                ("allocatableMemory.available", 200 << 20, None),
            ],
            "0% is off, no grace is none, and what holds for the machine holds for pods"
        );
        let reclaim: Vec<_> = read.iter().map(|one| one.reclaim.as_ref().map(|r| r.of(1000))).collect();
        assert_eq!(reclaim, [Some(1 << 30), Some(50), None, Some(1 << 30)]);
        let without = Settings::thresholds(&hard, &soft, &grace, &more, false).unwrap();
        assert_eq!(without.len(), 3);
    }

    #[test]
    fn what_makes_no_sense_is_told_in_upstreams_words() {
        let none = map(&[]);
        for (hard, soft, reclaim, words) in [
            (map(&[("x", "1")]), none.clone(), none.clone(), "unsupported eviction signal x"),
            (
                map(&[("memory.available", "-1Mi")]),
                none.clone(),
                none.clone(),
                "eviction threshold memory.available must be positive: -1Mi",
            ),
            (
                map(&[("memory.available", "0")]),
                none.clone(),
                none.clone(),
                "eviction threshold memory.available must be positive: 0",
            ),
            (
                map(&[("nodefs.available", "101%")]),
                none.clone(),
                none.clone(),
                "eviction percentage threshold nodefs.available must be <= 100%: 101%",
            ),
            (
                map(&[("nodefs.available", "-1%")]),
                none.clone(),
                none.clone(),
                "eviction percentage threshold nodefs.available must be >= 0%: -1%",
            ),
            (
                none.clone(),
                map(&[("pid.available", "5%")]),
                none.clone(),
                "grace period must be specified for the soft eviction threshold pid.available",
            ),
            (
                none.clone(),
                none.clone(),
                map(&[("pid.available", "0%")]),
                "eviction percentage minimum reclaim pid.available must be positive: 0%",
            ),
            (
                none.clone(),
                none.clone(),
                map(&[("pid.available", "-1")]),
                "negative eviction minimum reclaim specified for pid.available",
            ),
        ] {
            let error = Settings::thresholds(&hard, &soft, &BTreeMap::new(), &reclaim, true).unwrap_err();
            assert_eq!(error.to_string(), words);
        }
        let odd = map(&[("memory.available", "?")]);
        assert!(Settings::thresholds(&odd, &none, &BTreeMap::new(), &none, true).is_err());
    }
}
