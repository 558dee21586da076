//! Removes what compaction made unreadable, in the background and in small batches.
//!
//! The log says which versions a revision replaced, so the work is proportional to what was written.
//! How far it came is written in the same batches, so a restart goes on where it stopped.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::Shared;
use super::record;
use super::room::Purpose;
use super::tables::{SCRUBBED, Tables, View};
use crate::{Result, Revision};

/// Revisions that one batch cleans up.
const CHUNK: usize = 500;

/// Works whenever it is woken, until the store closes.
pub(super) fn run(shared: &Arc<Shared>, wake: &Receiver<()>) {
    while wake.recv().is_ok() {
        loop {
            match work(shared) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    if shared.is_open() {
                        tracing::warn!(%error, "old revisions could not be removed; the next compaction tries again");
                    }
                    break;
                }
            }
        }
    }
}

fn work(shared: &Shared) -> Result<bool> {
    let tables = shared.tables()?;
    shared.room.check(shared.room.free(), Purpose::Free)?;
    scrub_chunk(&tables, shared.compacted())
}

/// Cleans up some revisions up to `compacted`; whether there are more.
fn scrub_chunk(tables: &Tables, compacted: Revision) -> Result<bool> {
    let view = tables.view()?;
    let from = view.number(SCRUBBED)?.unwrap_or(0) + 1;
    if from > compacted {
        return Ok(false);
    }
    let mut batch = tables.db.batch();
    let reached = gather(tables, &view, &mut batch, from, compacted)?;
    batch.insert(&tables.meta, SCRUBBED, reached.to_be_bytes());
    batch.commit().map_err(|e| tables.error("compacting", e))?;
    Ok(reached < compacted)
}

fn gather(
    tables: &Tables,
    view: &View<'_>,
    batch: &mut fjall::OwnedWriteBatch,
    from: Revision,
    compacted: Revision,
) -> Result<Revision> {
    let mut reached = compacted;
    let mut revisions = 0;
    view.logged(from, |revision, changes| {
        if revision > compacted {
            return Ok(false);
        }
        for change in changes {
            if change.previous != 0 {
                batch.remove(&tables.data, record::data_key(&change.key, change.previous));
            }
            if change.deleted {
                batch.remove(&tables.data, record::data_key(&change.key, revision));
            }
        }
        batch.remove(&tables.log, revision.to_be_bytes());
        revisions += 1;
        if revisions == CHUNK {
            reached = revision;
        }
        Ok(revisions < CHUNK)
    })?;
    Ok(reached)
}
