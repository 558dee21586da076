//! What the node is short of, since when, and whether something has to be done now. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Condition;
use super::settings::Threshold;
use super::signal::Signal;

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
    since: BTreeMap<usize, Timestamp>,
    /// Those that something was done for at the last look: they hold until a little more is free.
    acted: BTreeSet<usize>,
    /// When a condition was seen last.
    seen: BTreeMap<Condition, Timestamp>,
}

/// What follows from a look.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub conditions: BTreeSet<Condition>,
    /// Something has to be given up for these: memory before all others, hard ones before soft ones.
    pub due: Vec<Threshold>,
}

/// Whether less than a threshold is left; with what is to be reclaimed, if `more`.
fn is_met(threshold: &Threshold, observations: &Observations, more: bool) -> bool {
    observations.get(&threshold.signal).is_some_and(|observed| {
        let reclaim = threshold.reclaim.as_ref().filter(|_| more);
        let reclaim = reclaim.map_or(0, |reclaim| reclaim.of(observed.capacity));
        observed.available < threshold.least.of(observed.capacity).saturating_add(reclaim)
    })
}

/// Whether there is enough of everything, and a little more.
pub fn is_enough(thresholds: &[Threshold], observations: &Observations) -> bool {
    !thresholds.iter().any(|threshold| is_met(threshold, observations, true))
}

impl State {
    /// Looks. A condition lasts for `transition` after it was seen last. `now` is a steady time: pressure that lasts for
    /// minutes must not last for as long as somebody sets the clock back.
    pub fn look(
        &mut self,
        thresholds: &[Threshold],
        transition: Duration,
        observations: &Observations,
        now: Timestamp,
    ) -> Verdict {
        let signed = |duration: Duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let mut since = BTreeMap::new();
        let mut due = Vec::new();
        for (place, threshold) in thresholds.iter().enumerate() {
            if !is_met(threshold, observations, self.acted.contains(&place)) {
                continue;
            }
            let begun = self.since.get(&place).copied().unwrap_or(now);
            since.insert(place, begun);
            self.seen.insert(threshold.signal.condition(), now);
            if now.duration_since(begun) >= signed(threshold.grace.unwrap_or_default()) {
                due.push((place, threshold.clone()));
            }
        }
        self.since = since;
        self.acted = due.iter().map(|(place, _)| *place).collect();
        self.seen.retain(|_, seen| *seen == now || now.duration_since(*seen) < signed(transition));
        due.sort_by_key(|(_, threshold)| (!threshold.signal.is_memory(), threshold.grace.is_some()));
        let due = due.into_iter().map(|(_, threshold)| threshold).collect();
        Verdict { conditions: self.seen.keys().copied().collect(), due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eviction::settings::Amount;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn threshold(signal: Signal, grace: Option<u64>, reclaim: Option<f64>) -> Threshold {
        Threshold {
            signal,
            least: Amount::Share(0.1),
            grace: grace.map(Duration::from_secs),
            reclaim: reclaim.map(Amount::Share),
        }
    }

    fn look(state: &mut State, thresholds: &[Threshold], available: i64, seconds: i64) -> Verdict {
        let observed = Observation { available, capacity: 1000 };
        let observations = BTreeMap::from([(Signal::Memory, observed), (Signal::NodeDisk, observed)]);
        state.look(thresholds, Duration::from_secs(300), &observations, at(seconds))
    }

    #[test]
    fn a_hard_threshold_acts_at_once_and_its_condition_stays_for_a_while() {
        let (mut state, all) = (State::default(), [threshold(Signal::Memory, None, None)]);
        assert_eq!(look(&mut state, &all, 100, 0), Verdict::default());
        let short = look(&mut state, &all, 99, 10);
        assert_eq!(short.due, all);
        assert_eq!(short.conditions, BTreeSet::from([Condition::Memory]));
        let after = look(&mut state, &all, 500, 200);
        assert!(after.due.is_empty() && !after.conditions.is_empty());
        assert!(look(&mut state, &all, 500, 311).conditions.is_empty());
    }

    #[test]
    fn a_soft_threshold_acts_after_its_grace_period_and_forgets_it_when_all_is_well() {
        let (mut state, all) = (State::default(), [threshold(Signal::Memory, Some(60), None)]);
        for (available, seconds, acts) in
            [(1, 0, false), (200, 30, false), (1, 40, false), (1, 99, false), (1, 100, true)]
        {
            assert_eq!(!look(&mut state, &all, available, seconds).due.is_empty(), acts, "{seconds}");
        }
    }

    #[test]
    fn reclaiming_goes_on_until_a_little_more_is_free() {
        let (mut state, all) = (State::default(), [threshold(Signal::Memory, None, Some(0.2))]);
        for (available, acts) in [(50, true), (250, true), (300, false), (250, false)] {
            assert_eq!(!look(&mut state, &all, available, 0).due.is_empty(), acts, "{available}");
        }
    }

    #[test]
    fn what_was_not_acted_upon_is_over_at_its_own_edge() {
        let (mut state, all) = (State::default(), [threshold(Signal::Memory, Some(60), Some(0.2))]);
        look(&mut state, &all, 50, 0);
        look(&mut state, &all, 150, 50);
        assert!(look(&mut state, &all, 50, 70).due.is_empty(), "its time began anew");
    }

    #[test]
    fn memory_goes_first_then_what_is_hard() {
        let all = [
            threshold(Signal::NodeDisk, Some(0), None),
            threshold(Signal::NodeDisk, None, None),
            threshold(Signal::Memory, Some(0), None),
        ];
        let due = look(&mut State::default(), &all, 1, 0).due;
        let order: Vec<_> = due.iter().map(|one| (one.signal, one.grace.is_none())).collect();
        assert_eq!(order, [(Signal::Memory, false), (Signal::NodeDisk, true), (Signal::NodeDisk, false)]);
        let observed =
            |available| BTreeMap::from([(Signal::Memory, Observation { available, capacity: 1000 })]);
        let more = [threshold(Signal::Memory, None, Some(0.2))];
        assert!(!is_enough(&more, &observed(299)) && is_enough(&more, &observed(300)));
    }
}
