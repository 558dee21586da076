use std::time::Duration;

use crate::Random;

/// An exponential back-off with a ceiling and jitter.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    step: u32,
}

impl Backoff {
    /// Doubles from `first` up to `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, step: 0 }
    }

    /// The next pause, without jitter.
    pub fn next_pause(&mut self) -> Duration {
        let factor = 1u32.checked_shl(self.step.min(30)).unwrap_or(u32::MAX);
        self.step = self.step.saturating_add(1);
        self.first.saturating_mul(factor).min(self.max)
    }

    /// The next pause, spread by ±10 % so that many clients do not come back at once.
    pub fn next_jittered(&mut self, random: &dyn Random) -> Duration {
        let pause = self.next_pause();
        pause.mul_f64(0.9 + random.below(2001) as f64 / 10_000.0)
    }

    /// Starts again at the first pause.
    pub fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_ceiling_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let pauses: Vec<_> = (0..6).map(|_| backoff.next_pause().as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next_pause().as_millis(), 100);
    }
}
