//! What the node is short of, since when, and whether something has to be done now. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::Condition;
use super::settings::{Settings, Signal, Threshold};

/// What is left of something, and how much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    pub available: i64,
    pub capacity: i64,
}

/// By signal. What could not be measured is absent, and nothing follows from it.
pub type Observations = BTreeMap<Signal, Observation>;

/// What is remembered between two looks.
#[derive(Debug, Default)]
pub struct State {
    /// Since when thresholds are met, by their place among all.
    met: BTreeMap<usize, Timestamp>,
    /// When a condition was seen last.
    seen: BTreeMap<Condition, Timestamp>,
}

/// What follows from a look.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub conditions: BTreeSet<Condition>,
    /// Something has to be given up for this one; memory goes before all others.
    pub reclaim: Option<Threshold>,
}

impl State {
    /// Looks. `now` is a steady time: pressure that lasts for minutes must not last for as long as somebody sets the clock
    /// back.
    pub fn look(&mut self, settings: &Settings, observations: &Observations, now: Timestamp) -> Verdict {
        let mut due = Vec::new();
        for (place, threshold) in settings.thresholds.iter().enumerate() {
            let Some(observed) = observations.get(&threshold.signal) else { continue };
            let mut least = threshold.least.of(observed.capacity);
            // Whoever has begun to reclaim does not stop at the edge.
            if let (Some(more), true) = (&threshold.reclaim, self.met.contains_key(&place)) {
                least += more.of(observed.capacity);
            }
            if observed.available >= least {
                self.met.remove(&place);
                continue;
            }
            let since = *self.met.entry(place).or_insert(now);
            self.seen.insert(threshold.signal.condition(), now);
            let grace =
                SignedDuration::try_from(threshold.grace.unwrap_or_default()).unwrap_or(SignedDuration::MAX);
            if now.duration_since(since) >= grace {
                due.push(threshold);
            }
        }
        let transition = SignedDuration::try_from(settings.transition).unwrap_or(SignedDuration::MAX);
        self.seen.retain(|_, seen| now.duration_since(*seen) < transition || *seen == now);
        due.sort_by_key(|threshold| (threshold.signal != Signal::Memory, threshold.grace.is_some()));
        Verdict {
            conditions: self.seen.keys().copied().collect(),
            reclaim: due.first().map(|threshold| (*threshold).clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::eviction::settings::Amount;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn seen(available: i64) -> Observations {
        BTreeMap::from([(Signal::Memory, Observation { available, capacity: 1000 })])
    }

    fn settings(grace: Option<u64>, reclaim: Option<f64>) -> Settings {
        let threshold = Threshold {
            signal: Signal::Memory,
            least: Amount::Share(0.1),
            grace: grace.map(Duration::from_secs),
            reclaim: reclaim.map(Amount::Share),
        };
        Settings { thresholds: vec![threshold], ..Settings::default() }
    }

    #[test]
    fn a_hard_threshold_acts_at_once_and_its_condition_stays_for_a_while() {
        let (mut state, settings) = (State::default(), settings(None, None));
        assert_eq!(state.look(&settings, &seen(100), at(0)), Verdict::default());
        let short = state.look(&settings, &seen(99), at(10));
        assert!(short.reclaim.is_some());
        assert_eq!(short.conditions, BTreeSet::from([Condition::Memory]));
        let after = state.look(&settings, &seen(500), at(200));
        assert!(after.reclaim.is_none() && !after.conditions.is_empty());
        assert!(state.look(&settings, &seen(500), at(311)).conditions.is_empty());
    }

    #[test]
    fn a_soft_threshold_acts_after_its_grace_period_and_forgets_it_when_all_is_well() {
        let (mut state, settings) = (State::default(), settings(Some(60), None));
        assert!(state.look(&settings, &seen(1), at(0)).reclaim.is_none());
        assert!(state.look(&settings, &seen(200), at(30)).reclaim.is_none());
        assert!(state.look(&settings, &seen(1), at(40)).reclaim.is_none());
        assert!(state.look(&settings, &seen(1), at(99)).reclaim.is_none());
        assert!(state.look(&settings, &seen(1), at(100)).reclaim.is_some());
    }

    #[test]
    fn reclaiming_goes_on_until_a_little_more_is_free() {
        let (mut state, settings) = (State::default(), settings(None, Some(0.2)));
        assert!(state.look(&settings, &seen(50), at(0)).reclaim.is_some());
        assert!(state.look(&settings, &seen(250), at(10)).reclaim.is_some());
        assert!(state.look(&settings, &seen(300), at(20)).reclaim.is_none());
        assert!(state.look(&settings, &seen(250), at(30)).reclaim.is_none());
    }
}
