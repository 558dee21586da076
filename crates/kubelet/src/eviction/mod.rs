//! The node protects itself: when memory, disk, inodes or process ids run short it says so, frees what nobody uses, and
//! then gives up pods, one at a time, the least deserving first (`pkg/kubelet/eviction`).
//!
//! `settings` says when, `signal` what follows from how disks are divided (pure), `plan` decides what is short and for
//! how long (pure), `rank` whom it meets and in which words (pure), `usage` measures, `run` acts.

mod plan;
mod rank;
mod run;
mod settings;
mod signal;
mod usage;

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

pub use run::run;
pub use settings::{Settings, SettingsError};
pub use signal::Signal;
pub use usage::{pods_group, tree};

/// What a node is short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// `MemoryPressure`
    Memory,
    /// `DiskPressure`
    Disk,
    /// `PIDPressure`
    Pid,
}

impl Condition {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pid => "PIDPressure",
        }
    }
}

/// What the node is short of now; the reporter of its status waits for changes.
#[derive(Debug, Default)]
pub struct Pressure {
    now: Mutex<BTreeSet<Condition>>,
    changed: Notify,
}

impl Pressure {
    /// All of it.
    pub fn now(&self) -> BTreeSet<Condition> {
        self.now.lock().clone()
    }

    /// Until it changes.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn set(&self, conditions: BTreeSet<Condition>) {
        let before = std::mem::replace(&mut *self.now.lock(), conditions.clone());
        if before != conditions {
            tracing::warn!(?conditions, "what the node is short of has changed");
            self.changed.notify_one();
        }
    }
}
