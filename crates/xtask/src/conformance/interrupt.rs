//! Whether somebody wants this program to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Signals that would otherwise end the program at once, and leave its cluster behind.
pub(super) struct Interrupt {
    come: Arc<AtomicBool>,
    _listener: tokio::runtime::Runtime,
}

impl Interrupt {
    /// Listens from now on.
    pub(super) fn listen() -> Result<Self> {
        let listener = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let come = Arc::new(AtomicBool::new(false));
        let (mut term, mut int) = {
            let _inside = listener.enter();
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
        };
        let told = come.clone();
        listener.spawn(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            told.store(true, Ordering::Relaxed);
        });
        Ok(Self { come, _listener: listener })
    }

    /// Whether one has come.
    pub(super) fn has_come(&self) -> bool {
        self.come.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, raise};

    use super::*;

    #[test]
    fn a_signal_is_heard_and_ends_nothing() {
        let interrupt = Interrupt::listen().unwrap();
        assert!(!interrupt.has_come());
        raise(Signal::SIGTERM).unwrap();
        let since = Instant::now();
        while !interrupt.has_come() {
            assert!(since.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
