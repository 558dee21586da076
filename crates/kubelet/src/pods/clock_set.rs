//! Whether somebody set the wall clock.

use base::SharedClock;
use jiff::{SignedDuration, Timestamp};

/// A clock that was set by less was only kept right.
const NOTICEABLE: SignedDuration = SignedDuration::from_secs(1);

/// What the wall clock showed when the monotonic one began: the same each time, until somebody sets it.
pub struct ClockSet(Timestamp);

impl ClockSet {
    /// As the clock is set now.
    pub fn now(clock: &SharedClock) -> Self {
        let (now, since) = (clock.now(), clock.monotonic());
        let begun = SignedDuration::try_from(since).ok().and_then(|since| now.checked_sub(since).ok());
        Self(begun.unwrap_or(now))
    }

    /// By how much it was set since the last look, if it was.
    pub fn moved(&mut self, clock: &SharedClock) -> Option<SignedDuration> {
        let now = Self::now(clock);
        let moved = now.0.duration_since(self.0);
        let noticed = moved.abs() >= NOTICEABLE;
        if noticed {
            *self = now;
        }
        noticed.then_some(moved)
    }
}
