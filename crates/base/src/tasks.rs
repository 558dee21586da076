use std::future::Future;

use tokio_util::future::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells everything that holds it to stop. Cloning it hands out the same signal.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A signal that was not given yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal of its own that is also given when this one is.
    pub fn child(&self) -> Self {
        Self(self.0.child_token())
    }

    /// Gives the signal.
    pub fn trigger(&self) {
        self.0.cancel();
    }

    /// Whether the signal was given.
    pub fn is_triggered(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns once the signal is given.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}

/// Tasks that end together: [`TaskGroup::stop`] gives the signal and waits for all of them.
#[derive(Debug, Clone, Default)]
pub struct TaskGroup {
    tracker: TaskTracker,
    shutdown: Shutdown,
}

impl TaskGroup {
    /// A group that also stops when `parent` is triggered.
    pub fn new(parent: &Shutdown) -> Self {
        Self { tracker: TaskTracker::new(), shutdown: parent.child() }
    }

    /// The signal of this group.
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Runs `task` until it ends or the group stops, whichever comes first.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        // Not an async block, which keeps room for what it captured beside what it made of it: the task twice.
        self.tracker.spawn(task.with_cancellation_token_owned(self.shutdown.0.clone()));
    }

    /// Runs `task` to its end; it watches the group's signal itself.
    pub fn spawn_graceful(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Gives the signal and waits for every task.
    pub async fn stop(&self) {
        self.shutdown.trigger();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_a_group_ends_its_tasks_and_not_its_parents() {
        let parent = Shutdown::new();
        let group = TaskGroup::new(&parent);
        group.spawn(std::future::pending());
        group.stop().await;
        assert!(group.shutdown().is_triggered());
        assert!(!parent.is_triggered());
    }
}
