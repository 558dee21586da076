//! A bucket that is filled steadily, up to a mark: so many at once, and then so many a second
//! (`client-go/util/flowcontrol`). Knows no clock: whoever asks says what time it is.

use std::time::Duration;

use parking_lot::Mutex;

/// See the module.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    most: f64,
    /// What was in it, and when, by the monotonic clock. Less than nothing was promised to those who wait.
    filled: Mutex<(f64, Duration)>,
}

impl Rate {
    /// Full at the beginning.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let most = f64::from(burst);
        Self { per_second, most, filled: Mutex::new((most, Duration::ZERO)) }
    }

    /// Whether one more may be now.
    pub fn allows(&self, now: Duration) -> bool {
        let mut filled = self.filled.lock();
        let left = self.left(*filled, now);
        let allowed = left >= 1.0;
        *filled = (if allowed { left - 1.0 } else { left }, now);
        allowed
    }

    /// Takes one, and says how long whoever has it has to wait before it is used.
    pub fn reserve(&self, now: Duration) -> Duration {
        let mut filled = self.filled.lock();
        let left = self.left(*filled, now) - 1.0;
        *filled = (left, now);
        Duration::try_from_secs_f64((-left).max(0.0) / self.per_second).unwrap_or(Duration::MAX)
    }

    fn left(&self, (left, at): (f64, Duration), now: Duration) -> f64 {
        (left + now.saturating_sub(at).as_secs_f64() * self.per_second).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_so_many_a_second() {
        let rate = Rate::new(2.0, 3);
        let at = |millis| rate.allows(Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(400), at(500), at(500)], [false, true, false]);
        assert_eq!([at(60_000), at(60_000), at(60_000), at(60_000)], [true, true, true, false]);
    }

    #[test]
    fn whoever_reserves_waits_behind_those_before() {
        let rate = Rate::new(2.0, 1);
        let at = |millis| rate.reserve(Duration::from_millis(millis)).as_millis();
        assert_eq!([at(0), at(0), at(0), at(1000), at(9000)], [0, 500, 1000, 500, 0]);
    }
}
