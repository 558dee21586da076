//! How many pulls may begin in a while (`registryPullQPS`, `registryBurst`), where somebody asks for that: upstream's
//! kubelet always has a rate, and this one none until it is named.

use std::time::Duration;

use parking_lot::Mutex;

use crate::Configuration;

/// Upstream's rate and burst: whoever names others wants to have them.
const USUAL: (i32, i32) = (5, 10);
/// What a pull is refused with.
pub const EXCEEDED: &str = "pull QPS exceeded";

/// A bucket that is filled steadily, up to a mark.
#[derive(Debug)]
pub struct PullRate {
    per_second: f64,
    most: f64,
    /// What was in it, and when, by the monotonic clock.
    filled: Mutex<(f64, Duration)>,
}

impl PullRate {
    /// As a configuration names it; 0 is no limit.
    pub fn new(configuration: &Configuration) -> Option<Self> {
        let fields = &configuration.fields;
        let is_named = configuration.named.contains("registryPullQPS")
            || (fields.registry_pull_qps, fields.registry_burst) != USUAL;
        (is_named && fields.registry_pull_qps > 0)
            .then(|| Self::of(fields.registry_pull_qps, fields.registry_burst))
    }

    fn of(per_second: i32, burst: i32) -> Self {
        let most = f64::from(burst);
        Self { per_second: f64::from(per_second), most, filled: Mutex::new((most, Duration::ZERO)) }
    }

    /// Whether one more may begin now.
    pub fn allows(&self, now: Duration) -> bool {
        let mut filled = self.filled.lock();
        let (left, at) = *filled;
        let left = (left + now.saturating_sub(at).as_secs_f64() * self.per_second).min(self.most);
        let allowed = left >= 1.0;
        *filled = (if allowed { left - 1.0 } else { left }, now);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_so_many_a_second() {
        let rate = PullRate::of(2, 3);
        let at = |millis| rate.allows(Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(400), at(500), at(500)], [false, true, false]);
        assert_eq!([at(60_000), at(60_000), at(60_000), at(60_000)], [true, true, true, false]);
    }
}
