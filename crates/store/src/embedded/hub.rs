//! Hands committed events to the watchers that are up to date.
//!
//! A watcher joins at the revision after the last one handed out, under the same lock that hands out,
//! so it can neither miss a revision nor see one twice. What a watcher has not taken yet is bounded;
//! one that falls behind gets `Lagged` after what it still holds.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;

use crate::{Event, KeyRange, KeyValue, Result, Revision, StoreError, WatchItem};

/// One committed change, before anybody asked for its previous value.
pub(super) struct Changed {
    pub key: Bytes,
    pub current: Option<KeyValue>,
    /// The revision of the version that was replaced; 0 when there was none.
    pub previous: Revision,
}

/// One committed revision, its changes in key order.
pub(super) struct Committed {
    pub revision: Revision,
    pub changes: Vec<Changed>,
}

pub(super) struct Hub {
    state: Mutex<State>,
    capacity: usize,
}

struct State {
    /// The newest revision that was handed out.
    revision: Revision,
    watchers: Vec<Arc<Watcher>>,
    closed: Option<StoreError>,
}

struct Watcher {
    range: KeyRange,
    from: Revision,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<WatchItem>,
    /// Events in `items`.
    events: usize,
    /// What is known to be complete once `items` is empty.
    progress: Revision,
    /// The newest revision that the watcher was told of.
    told: Revision,
    end: Option<StoreError>,
    ended: bool,
    waker: Option<Waker>,
}

impl Hub {
    pub fn new(revision: Revision, capacity: usize) -> Self {
        let state = State { revision, watchers: Vec::new(), closed: None };
        Self { state: Mutex::new(state), capacity }
    }

    /// A live watch of everything from `from` on, unless events before it were handed out already.
    pub fn join(self: &Arc<Self>, range: &KeyRange, from: Revision) -> Result<Option<LiveStream>> {
        let mut state = self.state.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        if from <= state.revision {
            return Ok(None);
        }
        let queue = Queue { progress: state.revision, ..Queue::default() };
        let watcher = Arc::new(Watcher { range: range.clone(), from, queue: Mutex::new(queue) });
        state.watchers.push(Arc::clone(&watcher));
        Ok(Some(LiveStream { hub: Arc::clone(self), watcher }))
    }

    /// Hands out a group of revisions. `previous` reads a replaced version, only for those who watch its key.
    pub fn dispatch(
        &self,
        group: &[Committed],
        previous: impl Fn(&Bytes, Revision) -> Result<Option<KeyValue>>,
    ) -> Result<()> {
        let mut state = self.state.lock();
        for committed in group {
            let mut built: Vec<Option<Event>> = vec![None; committed.changes.len()];
            for watcher in &state.watchers {
                if committed.revision < watcher.from {
                    continue;
                }
                let mut events = Vec::new();
                for (change, event) in committed.changes.iter().zip(&mut built) {
                    if !watcher.range.contains(&change.key) {
                        continue;
                    }
                    if event.is_none() {
                        *event = Some(build(committed.revision, change, &previous)?);
                    }
                    events.extend(event.clone());
                }
                if !events.is_empty() {
                    watcher.push(committed.revision, events, self.capacity);
                }
            }
            state.revision = committed.revision;
        }
        Ok(())
    }

    /// Tells every watcher how far it is complete, unless it knows.
    pub fn progress(&self) {
        let state = self.state.lock();
        for watcher in &state.watchers {
            let mut queue = watcher.queue.lock();
            if queue.told < state.revision && queue.progress < state.revision {
                queue.progress = state.revision;
                queue.wake();
            }
        }
    }

    /// Ends every watch, present and future, with `reason`.
    pub fn close(&self, reason: &StoreError) {
        let mut state = self.state.lock();
        state.closed.get_or_insert_with(|| reason.clone());
        for watcher in state.watchers.drain(..) {
            watcher.queue.lock().finish(reason.clone());
        }
    }
}

fn build(
    revision: Revision,
    change: &Changed,
    previous: &impl Fn(&Bytes, Revision) -> Result<Option<KeyValue>>,
) -> Result<Event> {
    let previous = if change.previous == 0 { None } else { previous(&change.key, change.previous)? };
    Ok(Event { key: change.key.clone(), revision, current: change.current.clone(), previous })
}

impl Watcher {
    fn push(&self, revision: Revision, events: Vec<Event>, capacity: usize) {
        let mut queue = self.queue.lock();
        if queue.end.is_some() {
            return;
        }
        if queue.events + events.len() > capacity && !queue.items.is_empty() {
            queue.finish(StoreError::Lagged(revision));
            return;
        }
        queue.events += events.len();
        queue.items.push_back(WatchItem::Events(events));
        queue.wake();
    }
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn finish(&mut self, reason: StoreError) {
        if self.end.is_none() && !self.ended {
            self.end = Some(reason);
            self.wake();
        }
    }

    fn next(&mut self) -> Option<Option<Result<WatchItem>>> {
        if self.ended {
            return Some(None);
        }
        if let Some(item) = self.items.pop_front() {
            if let WatchItem::Events(events) = &item {
                self.events -= events.len();
                self.told = events.first().map_or(self.told, |event| event.revision);
            }
            return Some(Some(Ok(item)));
        }
        if let Some(error) = self.end.take() {
            self.ended = true;
            return Some(Some(Err(error)));
        }
        if self.progress > self.told {
            self.told = self.progress;
            return Some(Some(Ok(WatchItem::Progress(self.progress))));
        }
        None
    }
}

/// The live part of a watch.
pub(super) struct LiveStream {
    hub: Arc<Hub>,
    watcher: Arc<Watcher>,
}

impl Stream for LiveStream {
    type Item = Result<WatchItem>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.watcher.queue.lock();
        match queue.next() {
            Some(item) => Poll::Ready(item),
            None => {
                queue.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        self.hub.state.lock().watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn committed(revision: Revision, key: &'static str) -> Committed {
        Committed { revision, changes: vec![Changed { key: key.into(), current: None, previous: 0 }] }
    }

    fn take(stream: &mut LiveStream) -> Option<Result<WatchItem>> {
        stream.next().now_or_never().flatten()
    }

    #[test]
    fn a_slow_watcher_gets_what_it_holds_and_then_lagged() {
        let hub = Arc::new(Hub::new(1, 2));
        let mut stream = hub.join(&KeyRange::prefix("a"), 2).unwrap().unwrap();
        assert!(matches!(take(&mut stream), Some(Ok(WatchItem::Progress(1)))));
        for revision in 2..6 {
            hub.dispatch(&[committed(revision, "a")], |_, _| Ok(None)).unwrap();
        }
        for revision in 2..4 {
            let Some(Ok(WatchItem::Events(events))) = take(&mut stream) else { panic!("no events") };
            assert_eq!(events[0].revision, revision);
        }
        assert!(matches!(take(&mut stream), Some(Err(StoreError::Lagged(4)))));
        assert!(stream.next().now_or_never().unwrap().is_none(), "the stream ends after its error");
    }

    #[test]
    fn progress_is_told_once_and_only_after_the_events_before_it() {
        let hub = Arc::new(Hub::new(1, 9));
        let mut stream = hub.join(&KeyRange::prefix("a"), 2).unwrap().unwrap();
        take(&mut stream);
        hub.dispatch(&[committed(2, "a"), committed(3, "b")], |_, _| Ok(None)).unwrap();
        hub.progress();
        hub.progress();
        assert!(matches!(take(&mut stream), Some(Ok(WatchItem::Events(_)))));
        assert!(matches!(take(&mut stream), Some(Ok(WatchItem::Progress(3)))));
        assert!(take(&mut stream).is_none());
        assert!(hub.join(&KeyRange::prefix("a"), 3).unwrap().is_none(), "3 was handed out already");
        drop(stream);
        assert!(hub.state.lock().watchers.is_empty());
    }
}
