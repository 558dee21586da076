//! What the allocator keeps of memory that is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::TaskGroup;

/// How much has to happen for free memory to be looked for, and how little is quiet.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// What happens in all before it is worth it.
    pub least: usize,
    /// What may still happen within the time that counts as quiet.
    pub calm: usize,
    /// For how long it has to be quiet: longer than whatever is kept for a while after a busy moment.
    pub quiet: Duration,
}

impl Pace {
    /// After anything that happened, once nothing does any more.
    pub const ANY: Self = Self { least: 1, calm: 0, quiet: Duration::from_secs(5) };
}

/// Pieces smaller than this come from the heap, and not each from the system. The allocator's own limit is 128 KiB.
const PIECE: i32 = 4 << 20;
/// So much may be free at the heap's end before it shrinks: who gives free memory back once nothing happens need not do
/// so while something does. The allocator's own limit is 128 KiB.
const END: i32 = 16 << 20;

/// How large a page is, in bytes.
pub fn page() -> u64 {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| u64::try_from(page).ok()).filter(|page| *page > 0).unwrap_or(4096)
}

/// One heap for all threads, which does not grow and shrink with each request. Each thread of a pool has one of its own
/// otherwise, which keeps what it needed at its busiest. Only before the first thread starts; for processes that would
/// rather be small than allocate on many processors at once, and that [`GiveBack`] what is free.
pub fn one_heap() {
    #[cfg(target_env = "gnu")]
    for (setting, value) in
        [(libc::M_ARENA_MAX, 1), (libc::M_MMAP_THRESHOLD, PIECE), (libc::M_TRIM_THRESHOLD, END)]
    {
        // SAFETY: it sets a number in the allocator, and takes no pointer.
        #[expect(unsafe_code, reason = "the allocator's settings have no safe interface")]
        if unsafe { libc::mallopt(setting, value) } == 0 {
            tracing::debug!(setting, value, "the allocator does not take this");
        }
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

/// Gives free memory back once little has happened for a while: an allocator never does so by itself with what lies
/// below the topmost piece in use. Nothing runs while nothing happens.
#[derive(Debug, Clone, Default)]
pub struct GiveBack(Arc<Busy>);

#[derive(Debug, Default)]
struct Busy {
    again: Notify,
    times: AtomicUsize,
}

impl GiveBack {
    /// As a task of `tasks`.
    pub fn start(tasks: &TaskGroup, pace: Pace) -> Self {
        let one = Self::default();
        one.clone().run(tasks, pace, || async {});
        one
    }

    /// As a task of `tasks`, at this pace; `free` lets go of what was kept for a busy time.
    pub fn run<F>(self, tasks: &TaskGroup, pace: Pace, free: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send,
    {
        tasks.spawn(async move {
            let mut given = 0;
            loop {
                self.0.again.notified().await;
                self.calm(pace).await;
                if self.times().wrapping_sub(given) < pace.least {
                    continue;
                }
                given = self.times();
                free().await;
                // It takes milliseconds, more in a large process.
                if tokio::task::spawn_blocking(give_back).await.is_err() {
                    return;
                }
            }
        });
    }

    /// Waits until it has been quiet for long enough, a quarter of that longer at most.
    async fn calm(&self, pace: Pace) {
        let (mut since, mut quarters) = (self.times(), 0);
        while quarters < 4 {
            tokio::time::sleep(pace.quiet / 4).await;
            let now = self.times();
            (since, quarters) = match now.wrapping_sub(since) <= pace.calm {
                true => (since, quarters + 1),
                false => (now, 0),
            };
        }
    }

    fn times(&self) -> usize {
        self.0.times.load(Ordering::Relaxed)
    }

    /// Something has happened.
    pub fn busy(&self) {
        self.0.times.fetch_add(1, Ordering::Relaxed);
        self.0.again.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shutdown;

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_enough_to_happen_and_then_for_calm() {
        let (tasks, memory) = (TaskGroup::new(&Shutdown::new()), GiveBack::default());
        let freed = Arc::new(AtomicUsize::new(0));
        let count = freed.clone();
        memory.clone().run(&tasks, Pace { least: 10, calm: 2, quiet: Duration::from_secs(5) }, move || {
            count.fetch_add(1, Ordering::Relaxed);
            async {}
        });
        let busy = async |times: usize, seconds: u64| {
            (0..times).for_each(|_| memory.busy());
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            freed.load(Ordering::Relaxed)
        };
        assert_eq!(busy(9, 60).await, 0, "too little happened");
        for _ in 0..20 {
            assert_eq!(busy(3, 4).await, 0, "it was never calm");
        }
        assert_eq!(busy(1, 60).await, 1);
        for _ in 0..9 {
            assert_eq!(busy(1, 60).await, 1, "too little happened since");
        }
        assert_eq!(busy(1, 60).await, 2);
        tasks.stop().await;
    }

    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4
    }

    #[tokio::test(start_paused = true)]
    #[cfg(target_env = "gnu")]
    async fn what_is_free_is_given_back_after_a_while() {
        let tasks = TaskGroup::new(&Shutdown::new());
        let memory = GiveBack::start(&tasks, Pace::ANY);
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
