//! A watch on etcd: fragments joined, events grouped by revision, progress asked for when it is wanted.

use std::collections::VecDeque;
use std::time::Duration;

use etcd_client::{WatchClient, WatchOptions, WatchResponse, WatchStream as Opened};
use futures::{StreamExt, stream};
use tokio::sync::watch::Receiver;

use super::convert::{self, Refusal, key_value, revision};
use crate::{Event, Result, Revision, StoreError, WatchItem, WatchStream};

/// etcd leaves a request for progress unanswered while the watch is catching up, so it is repeated.
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub(super) async fn open(
    client: WatchClient,
    (start, end): (Vec<u8>, Vec<u8>),
    from: Revision,
    timeout: Duration,
) -> std::result::Result<Opened, Refusal> {
    let options = WatchOptions::new()
        .with_range(end)
        .with_start_revision(from.cast_signed())
        .with_prev_key()
        .with_fragment();
    let mut client = client.max_decoding_message_size(usize::MAX);
    convert::within(timeout, client.watch(start, Some(options))).await
}

/// The compacted revision, which etcd tells whoever watches from before it; 0 when nothing was compacted.
pub(super) async fn oldest(client: WatchClient, timeout: Duration) -> std::result::Result<Revision, String> {
    let ask = async {
        let mut opened = open(client, (vec![0], vec![1]), 1, timeout).await.map_err(|e| format!("{e:?}"))?;
        loop {
            let response = opened.message().await.map_err(|e| e.to_string())?;
            let response = response.ok_or("the watch ended")?;
            if response.canceled() {
                return Ok(u64::try_from(response.compact_revision()).unwrap_or(0));
            }
            if response.created() {
                // Nothing is told when nothing was compacted; progress is, once history was looked through.
                opened.request_progress().await.map_err(|e| e.to_string())?;
            } else {
                return Ok(0);
            }
        }
    };
    tokio::time::timeout(timeout, ask).await.unwrap_or_else(|_| Err("no answer to a watch".into()))
}

struct State {
    opened: Opened,
    confirmed: Receiver<Revision>,
    endpoints: String,
    from: Revision,
    /// Nothing at or below it is still to come.
    told: Revision,
    /// Events of fragments whose last one is still to come.
    fragments: Vec<Event>,
    ready: VecDeque<WatchItem>,
    ended: bool,
}

pub(super) fn stream(
    opened: Opened,
    confirmed: Receiver<Revision>,
    from: Revision,
    endpoints: String,
) -> WatchStream {
    let told = from.saturating_sub(1);
    let state = State {
        opened,
        confirmed,
        endpoints,
        from,
        told,
        fragments: Vec::new(),
        ready: VecDeque::new(),
        ended: false,
    };
    stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        let item = state.next().await;
        state.ended = item.is_err();
        Some((item, state))
    })
    .boxed()
}

impl State {
    async fn next(&mut self) -> Result<WatchItem> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            let wanted = *self.confirmed.borrow_and_update();
            if wanted > self.told {
                self.opened.request_progress().await.map_err(|e| self.lost(&e))?;
            }
            let message = tokio::select! {
                message = self.opened.message() => message,
                changed = self.confirmed.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Err(StoreError::Unavailable("it was closed".into())),
                },
                () = tokio::time::sleep(ASK_AGAIN), if wanted > self.told => continue,
            };
            match message.map_err(|e| self.lost(&e))? {
                Some(response) => self.take(response)?,
                None => {
                    return Err(StoreError::Unavailable(format!(
                        "etcd at {} ended the watch",
                        self.endpoints
                    )));
                }
            }
        }
    }

    fn lost(&self, error: &etcd_client::Error) -> StoreError {
        StoreError::Unavailable(format!("watching etcd at {}: {error}", self.endpoints))
    }

    fn take(&mut self, response: WatchResponse) -> Result<()> {
        if response.canceled() {
            return Err(self.cancelled(&response));
        }
        if response.created() {
            return Ok(());
        }
        let complete = !response.0.fragment;
        let seen = revision(response.header());
        let had_events = !response.0.events.is_empty() || !self.fragments.is_empty();
        self.fragments.extend(response.0.events.into_iter().filter_map(|event| {
            let kv = key_value(etcd_client::KeyValue(event.kv?));
            let previous = event.prev_kv.map(|kv| key_value(etcd_client::KeyValue(kv)));
            let deleted = event.r#type == etcd_client::EventType::Delete as i32;
            let (key, revision) = (kv.key.clone(), kv.mod_revision);
            Some(Event { key, revision, current: (!deleted).then_some(kv), previous })
        }));
        if !complete {
            return Ok(());
        }
        if !had_events {
            if seen > self.told {
                self.told = seen;
                self.ready.push_back(WatchItem::Progress(seen));
            }
            return Ok(());
        }
        self.group();
        Ok(())
    }

    fn group(&mut self) {
        let events = std::mem::take(&mut self.fragments);
        let mut group: Vec<Event> = Vec::new();
        for event in events {
            if group.last().is_some_and(|last| last.revision != event.revision) {
                self.deliver(std::mem::take(&mut group));
            }
            group.push(event);
        }
        self.deliver(group);
    }

    fn deliver(&mut self, mut events: Vec<Event>) {
        let Some(revision) = events.first().map(|event| event.revision) else { return };
        events.sort_by(|a, b| a.key.cmp(&b.key));
        self.told = self.told.max(revision);
        self.ready.push_back(WatchItem::Events(events));
    }

    fn cancelled(&self, response: &WatchResponse) -> StoreError {
        match u64::try_from(response.compact_revision()) {
            Ok(oldest) if oldest > 0 => {
                StoreError::Compacted { requested: self.from.max(self.told + 1), oldest }
            }
            _ => {
                let reason = response.cancel_reason();
                StoreError::Unavailable(format!("etcd at {} cancelled the watch: {reason}", self.endpoints))
            }
        }
    }
}
