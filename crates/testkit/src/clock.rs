//! A clock that goes on by itself, as a machine's does, and can be set wrong.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SystemClock};
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

/// The machine's clock, with the wall clock set off by any amount and monotonic time ahead by any amount.
pub struct ShiftedClock {
    machine: SystemClock,
    wall: Mutex<SignedDuration>,
    steady: Mutex<Duration>,
}

impl ShiftedClock {
    /// A clock that is right.
    pub fn shared() -> Arc<Self> {
        Arc::new(Self {
            machine: SystemClock::new(),
            wall: Mutex::new(SignedDuration::ZERO),
            steady: Mutex::new(Duration::ZERO),
        })
    }

    /// Sets the wall clock alone on or back, as NTP or an operator does.
    pub fn jump(&self, by: SignedDuration) {
        let mut wall = self.wall.lock();
        *wall += by;
    }

    /// Lets time pass on both clocks at once.
    pub fn advance(&self, by: Duration) {
        *self.steady.lock() += by;
        self.jump(SignedDuration::try_from(by).unwrap());
    }
}

impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        self.machine.now() + *self.wall.lock()
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + *self.steady.lock()
    }
}
