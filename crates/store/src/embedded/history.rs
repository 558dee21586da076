//! A watch from its first revision on: from the log until it has caught up, then live.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::Shared;
use super::hub::LiveStream;
use super::record::Logged;
use super::tables::View;
use crate::{Event, KeyRange, Result, Revision, StoreError, WatchItem, WatchStream};

/// Events that are read from the log at a time.
const CHUNK: usize = 1000;

enum Phase {
    /// Everything before `next` is in `ready` or was delivered.
    CatchingUp {
        next: Revision,
        ready: VecDeque<WatchItem>,
    },
    Live(LiveStream),
    Ended,
}

/// Opens a watch. Its first revision was checked against compaction already.
pub(super) fn watch(shared: Arc<Shared>, range: &KeyRange, from: Revision) -> Result<WatchStream> {
    if let Some(live) = shared.hub.join(range, from)? {
        return Ok(live.boxed());
    }
    let phase = Phase::CatchingUp { next: from, ready: VecDeque::new() };
    let state = (shared, range.clone(), phase);
    Ok(stream::unfold(state, |(shared, range, mut phase)| async move {
        let item = step(&shared, &range, &mut phase).await;
        let item = match item {
            Err(error) => {
                phase = Phase::Ended;
                Some(Err(error))
            }
            Ok(item) => item.map(Ok),
        };
        Some((item?, (shared, range, phase)))
    })
    .boxed())
}

async fn step(shared: &Arc<Shared>, range: &KeyRange, phase: &mut Phase) -> Result<Option<WatchItem>> {
    loop {
        match phase {
            Phase::Ended => return Ok(None),
            Phase::Live(live) => return live.next().await.transpose(),
            Phase::CatchingUp { next, ready } => {
                if let Some(item) = ready.pop_front() {
                    return Ok(Some(item));
                }
                if let Some(live) = shared.hub.join(range, *next)? {
                    *phase = Phase::Live(live);
                    continue;
                }
                let (shared, range, from) = (Arc::clone(shared), range.clone(), *next);
                (*next, *ready) = super::blocking(move || read_chunk(&shared, &range, from)).await?;
            }
        }
    }
}

/// The next events of the log, and the revision to go on from.
fn read_chunk(shared: &Shared, range: &KeyRange, from: Revision) -> Result<(Revision, VecDeque<WatchItem>)> {
    let tables = shared.tables()?;
    let view = tables.view()?;
    // After the view was taken: whatever it lacks was compacted by then.
    let oldest = shared.compacted();
    if from <= oldest {
        return Err(StoreError::Compacted { requested: from, oldest });
    }
    let (mut next, mut events_read, mut items) = (from, 0, VecDeque::new());
    view.logged(from, |revision, changes| {
        let events = events_of(&view, range, revision, changes)?;
        events_read += events.len();
        if !events.is_empty() {
            items.push_back(WatchItem::Events(events));
        }
        next = revision + 1;
        Ok(events_read < CHUNK)
    })?;
    if events_read < CHUNK {
        // The log was read to its end, so the view's revision is complete.
        next = next.max(view.revision + 1);
    }
    Ok((next, items))
}

fn events_of(
    view: &View<'_>,
    range: &KeyRange,
    revision: Revision,
    changes: Vec<Logged>,
) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for change in changes {
        if !range.contains(&change.key) {
            continue;
        }
        let previous = if change.previous == 0 { None } else { view.version(&change.key, change.previous)? };
        let current = if change.deleted { None } else { view.version(&change.key, revision)? };
        events.push(Event { key: change.key, revision, current, previous });
    }
    Ok(events)
}
