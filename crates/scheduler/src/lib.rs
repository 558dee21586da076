//! The scheduler.

use base::{SharedClock, SharedRandom, TaskGroup};

/// Runs the scheduler until the group stops. Leadership is the caller's.
pub async fn run(_client: kube::Client, _clock: SharedClock, _random: SharedRandom, tasks: &TaskGroup) {
    tasks.shutdown().wait().await;
}
