//! How much room the disk has. Writes are refused before there is none: a write that fails half way poisons the store,
//! and what was accepted already still has to be moved from the journal into tables.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::{Change, Op, Result, StoreError};

/// The disk below the store.
pub(super) struct Room {
    dir: PathBuf,
    reserve: u64,
    /// Whether blocks that are kept for root are ours, too.
    is_root: bool,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// More is kept than before.
    Keep,
    /// Less is kept in the end, though the journal grows first.
    Free,
}

impl Purpose {
    pub fn of(ops: &[Op]) -> Self {
        match ops.iter().any(|op| matches!(op.change, Change::Put { .. })) {
            true => Self::Keep,
            false => Self::Free,
        }
    }
}

impl Room {
    pub fn new(dir: &Path, reserve: u64) -> Self {
        Self { dir: dir.to_owned(), reserve, is_root: nix::unistd::geteuid().is_root() }
    }

    /// What is free now, in bytes; what cannot be asked is no reason to refuse anything.
    pub fn free(&self) -> u64 {
        if self.reserve == 0 {
            return u64::MAX;
        }
        let disk = match statvfs(&self.dir) {
            Ok(disk) => disk,
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "how much room the store has is not known");
                return u64::MAX;
            }
        };
        let blocks = if self.is_root { disk.blocks_free() } else { disk.blocks_available() };
        blocks.saturating_mul(disk.fragment_size())
    }

    /// Whether something may be done while so many bytes are free.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`].
    pub fn check(&self, free: u64, purpose: Purpose) -> Result<()> {
        let needed = match purpose {
            Purpose::Keep => self.reserve,
            Purpose::Free => self.reserve / 4,
        };
        if free >= needed {
            return Ok(());
        }
        Err(StoreError::NoSpace {
            path: self.dir.display().to_string(),
            free: free >> 20,
            needed: needed >> 20,
        })
    }
}
