//! Graceful node shutdown (KEP-2000, KEP-2712): the machine's shutdown is held back until pods have ended, those of the
//! lowest priority first. The node says that it is not ready, and takes no more pods.
//!
//! `plan` says who ends when (pure), `logind` holds the shutdown back, `run` acts. Where
//! there is no logind, that is said once, and pods end with the machine.

mod logind;
mod plan;
mod run;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use parking_lot::Mutex;
use tokio::sync::Notify;

pub use run::{Last, run};

/// How the machine's shutdown is heard of.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The socket of the system's message bus.
    pub bus: PathBuf,
    /// A file of logind's configuration, by which it is told to wait longer.
    pub logind_drop_in: PathBuf,
}

impl Paths {
    /// Where a system keeps them.
    pub fn system() -> Self {
        Self {
            bus: PathBuf::from("/run/dbus/system_bus_socket"),
            logind_drop_in: PathBuf::from("/etc/systemd/logind.conf.d/99-kubelet.conf"),
        }
    }
}

/// Whether the node shuts down; the reporter of its status waits for changes.
#[derive(Debug, Default)]
pub struct Closing {
    now: Mutex<(bool, Last)>,
    changed: Notify,
}

impl Closing {
    /// Whether it does.
    pub fn is_begun(&self) -> bool {
        self.now.lock().0
    }

    /// When the last one was.
    pub fn last(&self) -> Last {
        self.now.lock().1
    }

    /// Until it begins, or is called off.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, begun: bool) {
        self.now.lock().0 = begun;
        self.changed.notify_one();
    }

    fn remember(&self, last: Last) {
        self.now.lock().1 = last;
    }
}
