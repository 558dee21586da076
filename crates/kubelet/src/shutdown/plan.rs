//! Who ends when, and how much time there is. Pure.

use std::time::Duration;

use crate::configuration::{Fields, ShutdownPeriod};

/// `scheduling.SystemCriticalPriority`
const CRITICAL: i32 = 2_000_000_000;

/// Pods from this priority on have so many seconds, once those below are through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub priority: i32,
    pub seconds: i64,
}

/// The periods of a configuration, the lowest priority first; none is no graceful shutdown.
pub fn periods(fields: &Fields) -> Vec<Period> {
    let mut periods: Vec<Period> = fields
        .shutdown_grace_period_by_pod_priority
        .iter()
        .map(|&ShutdownPeriod { priority, shutdown_grace_period_seconds: seconds }| Period {
            priority,
            seconds,
        })
        .collect();
    let (all, critical) = (fields.shutdown_grace_period, fields.shutdown_grace_period_critical_pods);
    if periods.is_empty() && !all.is_zero() {
        let seconds = |period: Duration| i64::try_from(period.as_secs()).unwrap_or(i64::MAX);
        periods = vec![
            Period { priority: 0, seconds: seconds(all.saturating_sub(critical)) },
            Period { priority: CRITICAL, seconds: seconds(critical) },
        ];
    }
    periods.sort_by_key(|period| period.priority);
    periods
}

/// How long all of it takes at most.
pub fn total(periods: &[Period]) -> Duration {
    periods.iter().map(|period| Duration::from_secs(u64::try_from(period.seconds).unwrap_or(0))).sum()
}

/// The pods of each period, in the order in which they end. Whoever is below the lowest belongs to it; periods of
/// nobody are left out.
pub fn groups<T>(periods: &[Period], pods: Vec<(i32, T)>) -> Vec<(Period, Vec<T>)> {
    let mut groups: Vec<(Period, Vec<T>)> = periods.iter().map(|period| (*period, Vec::new())).collect();
    for (priority, pod) in pods {
        let place = groups.iter().rposition(|(period, _)| period.priority <= priority).unwrap_or(0);
        if let Some((_, group)) = groups.get_mut(place) {
            group.push(pod);
        }
    }
    groups.retain(|(_, group)| !group.is_empty());
    groups
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::Configuration;

    fn of(value: Value) -> Vec<Period> {
        let Value::Object(flags) = value else { panic!("an object") };
        periods(&Configuration::merge(&[], flags).unwrap().0.fields)
    }

    fn period(priority: i32, seconds: i64) -> Period {
        Period { priority, seconds }
    }

    #[test]
    fn two_periods_are_two_priorities() {
        assert_eq!(of(Value::Object(Map::new())), []);
        let both = json!({"shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s"});
        assert_eq!(of(both), [period(0, 20), period(CRITICAL, 10)]);
        let by_priority = json!({"shutdownGracePeriodByPodPriority": [
            {"priority": 1000, "shutdownGracePeriodSeconds": 5}, {"priority": 0, "shutdownGracePeriodSeconds": 20},
        ]});
        let periods = of(by_priority);
        assert_eq!(periods, [period(0, 20), period(1000, 5)]);
        assert_eq!(total(&periods), Duration::from_secs(25));
    }

    #[test]
    fn a_pod_belongs_to_the_highest_period_that_is_not_above_it() {
        let periods = [period(0, 20), period(1000, 5), period(CRITICAL, 10)];
        let pods = vec![(CRITICAL + 1000, "node"), (-5, "low"), (999, "plain"), (1000, "high")];
        assert_eq!(
            groups(&periods, pods),
            [
                (period(0, 20), vec!["low", "plain"]),
                (period(1000, 5), vec!["high"]),
                (period(CRITICAL, 10), vec!["node"])
            ]
        );
        assert!(groups(&periods, Vec::<(i32, ())>::new()).is_empty());
    }
}
