//! When a node is short of something: thresholds as KubeletConfiguration writes them.

use std::collections::BTreeMap;
use std::time::Duration;

use schema::quantity::Quantity;

use super::Condition;

/// What is measured; upstream's names stand in [`Signal::name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    Memory,
    NodeDisk,
    NodeInodes,
    ImageDisk,
    ImageInodes,
    Pid,
}

impl Signal {
    const ALL: [Self; 6] =
        [Self::Memory, Self::NodeDisk, Self::NodeInodes, Self::ImageDisk, Self::ImageInodes, Self::Pid];

    /// Such as `memory.available`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::NodeDisk => "nodefs.available",
            Self::NodeInodes => "nodefs.inodesFree",
            Self::ImageDisk => "imagefs.available",
            Self::ImageInodes => "imagefs.inodesFree",
            Self::Pid => "pid.available",
        }
    }

    /// The condition that a node has then.
    pub fn condition(self) -> Condition {
        match self {
            Self::Memory => Condition::Memory,
            Self::Pid => Condition::Pid,
            _ => Condition::Disk,
        }
    }

    /// The resource that is reclaimed.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::NodeDisk | Self::ImageDisk => "ephemeral-storage",
            Self::NodeInodes | Self::ImageInodes => "inodes",
            Self::Pid => "pids",
        }
    }
}

/// How much has to be left.
#[derive(Debug, Clone, PartialEq)]
pub enum Amount {
    Quantity(Quantity),
    /// Of the capacity, from 0 to 1.
    Share(f64),
}

impl Amount {
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => {
                let share = percent.parse::<f64>().ok()? / 100.0;
                (0.0..=1.0).contains(&share).then_some(Self::Share(share))
            }
            None => text.parse().ok().map(Self::Quantity),
        }
    }

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

/// A threshold that makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    #[error("unsupported eviction signal {0:?}")]
    Signal(String),
    #[error("eviction threshold {signal} is not a quantity or a percentage: {value:?}")]
    Value { signal: String, value: String },
    #[error("grace period must be specified for the soft eviction threshold {0}")]
    NoGrace(String),
}

impl Default for Settings {
    /// Upstream's.
    fn default() -> Self {
        let share = |signal, percent: f64| Threshold {
            signal,
            least: Amount::Share(percent / 100.0),
            grace: None,
            reclaim: None,
        };
        let memory = Threshold {
            signal: Signal::Memory,
            least: Amount::Quantity(Quantity::from_int(100 << 20, schema::quantity::Format::BinarySi)),
            grace: None,
            reclaim: None,
        };
        Self {
            thresholds: vec![
                memory,
                share(Signal::NodeDisk, 10.0),
                share(Signal::NodeInodes, 5.0),
                share(Signal::ImageDisk, 15.0),
                share(Signal::ImageInodes, 5.0),
            ],
            transition: Duration::from_secs(300),
            max_grace: 0,
            image_high: 85,
            image_low: 80,
        }
    }
}

impl Settings {
    /// For nodes that share a machine with other things: its disk is its owner's, and only memory is watched.
    pub fn guest() -> Self {
        let mut settings = Self { image_high: 100, ..Self::default() };
        settings.thresholds.retain(|threshold| threshold.signal == Signal::Memory);
        settings
    }

    /// From the maps of a KubeletConfiguration: `evictionHard`, `evictionSoft` with its grace periods, and
    /// `evictionMinimumReclaim`.
    ///
    /// # Errors
    /// The first entry that makes no sense.
    pub fn thresholds(
        hard: &BTreeMap<String, String>,
        soft: &BTreeMap<String, String>,
        grace: &BTreeMap<String, Duration>,
        reclaim: &BTreeMap<String, String>,
    ) -> Result<Vec<Threshold>, SettingsError> {
        let mut thresholds = Vec::new();
        for (soft, list) in [(false, hard), (true, soft)] {
            for (name, value) in list {
                let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name);
                let signal = signal.ok_or_else(|| SettingsError::Signal(name.clone()))?;
                let amount = |value: &String| {
                    let wrong = || SettingsError::Value { signal: name.clone(), value: value.clone() };
                    Amount::parse(value).ok_or_else(wrong)
                };
                let grace = match (soft, grace.get(name)) {
                    (false, _) => None,
                    (true, Some(grace)) => Some(*grace),
                    (true, None) => return Err(SettingsError::NoGrace(name.clone())),
                };
                let least = amount(value)?;
                // 0% and 100% switch a threshold off.
                if matches!(least, Amount::Share(share) if share == 0.0 || share == 1.0) {
                    continue;
                }
                let reclaim = reclaim.get(name).map(amount).transpose()?;
                thresholds.push(Threshold { signal, least, grace, reclaim });
            }
        }
        Ok(thresholds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_the_configuration_writes_them() {
        let map = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
            list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let grace = BTreeMap::from([("nodefs.available".to_owned(), Duration::from_secs(90))]);
        let hard = map(&[("memory.available", "200Mi"), ("imagefs.available", "0%")]);
        let read = Settings::thresholds(
            &hard,
            &map(&[("nodefs.available", "20%")]),
            &grace,
            &map(&[("memory.available", "1Gi")]),
        );
        let read = read.unwrap();
        assert_eq!(read.len(), 2, "0% is off");
        assert_eq!((read[0].signal, read[0].least.of(0)), (Signal::Memory, 200 << 20));
        assert_eq!(read[0].reclaim.as_ref().unwrap().of(0), 1 << 30);
        assert_eq!((read[1].least.of(1000), read[1].grace), (200, Some(Duration::from_secs(90))));
        let none = BTreeMap::new();
        for (hard, soft) in [
            (map(&[("x", "1")]), map(&[])),
            (map(&[("memory.available", "?")]), map(&[])),
            (map(&[]), map(&[("pid.available", "5%")])),
        ] {
            assert!(Settings::thresholds(&hard, &soft, &none, &map(&[])).is_err(), "{hard:?} {soft:?}");
        }
    }
}
