//! What the allocator keeps of memory that is free.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::TaskGroup;

/// For how long nothing has to happen until free memory is given back.
const QUIET: Duration = Duration::from_secs(5);

/// One heap for all threads. Each thread of a pool has one of its own otherwise, which keeps what it needed at its
/// busiest. Only before the first thread starts; for processes that would rather be small than allocate on many
/// processors at once.
pub fn one_heap() {
    // SAFETY: it sets a number in the allocator, and takes no pointer.
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the allocator's settings have no safe interface")]
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } == 0 {
        tracing::debug!("the allocator does not take the number of its heaps");
    }
}

/// Gives the pages that hold nothing back to the system.
fn give_back() {
    // SAFETY: the allocator takes its own locks, and moves nothing that is in use.
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "the allocator's settings have no safe interface")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives free memory back once nothing has happened for a while: an allocator never does so by itself with what lies
/// below the topmost piece in use. Nothing runs while nothing happens.
#[derive(Debug, Clone, Default)]
pub struct GiveBack(Arc<Notify>);

impl GiveBack {
    /// As a task of `tasks`.
    pub fn start(tasks: &TaskGroup) -> Self {
        let one = Self::default();
        let busy = one.0.clone();
        tasks.spawn(async move {
            loop {
                busy.notified().await;
                while tokio::time::timeout(QUIET, busy.notified()).await.is_ok() {}
                // It takes milliseconds, more in a large process.
                if tokio::task::spawn_blocking(give_back).await.is_err() {
                    return;
                }
            }
        });
        one
    }

    /// Something has happened.
    pub fn busy(&self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shutdown;

    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
    }

    #[tokio::test(start_paused = true)]
    #[cfg(target_env = "gnu")]
    async fn what_is_free_is_given_back_after_a_while() {
        let tasks = TaskGroup::new(&Shutdown::new());
        let memory = GiveBack::start(&tasks);
        let mut pieces: Vec<Vec<u8>> = (0..64 * 1024).map(|_| vec![1; 1000]).collect();
        // The last one keeps all the rest from being given back at once.
        let last = pieces.pop();
        drop(pieces);
        let before = resident();
        memory.busy();
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if resident() + 32 * 1024 < before {
                break;
            }
            // The clock stands still while a blocking task runs, but not while it is being started.
            std::thread::sleep(Duration::from_millis(5));
        }
        let after = resident();
        assert!(after + 32 * 1024 < before, "{before} KiB, then {after}");
        drop(last);
        tasks.stop().await;
    }
}
