//! What every other crate may lean on: a clock, randomness, back-off, shutdown and task groups, failpoints, what
//! the kernel tells of control groups.
//!
//! Nothing here knows of Kubernetes. Time and randomness are values that are passed in, so that a
//! pure `plan` can be tested without either.

mod backoff;
pub mod cgroup;
mod clock;
pub mod failpoint;
mod folders;
pub mod memory;
mod random;
mod tasks;

pub use backoff::Backoff;
pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use folders::spread;
pub use random::{Random, SeededRandom, SharedRandom, SystemRandom};
pub use tasks::{Shutdown, TaskGroup};
