//! One linearizable read confirms the newest revision for everybody who waits for one.
//!
//! A read that was under way when a caller came may be too old for it, so callers join the next one.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{GetOptions, KvClient};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::convert;
use crate::Revision;

/// A key that nobody writes: the read is for its header.
const NO_KEY: [u8; 1] = [0];

type Answer = Result<Revision, String>;

pub(super) struct Confirmer {
    kv: KvClient,
    timeout: Duration,
    state: Mutex<State>,
    /// The newest confirmed revision, for watches to ask their progress by.
    confirmed: watch::Sender<Revision>,
}

#[derive(Default)]
struct State {
    waiting: Vec<oneshot::Sender<Answer>>,
    running: bool,
}

impl Confirmer {
    pub fn new(kv: KvClient, timeout: Duration) -> Self {
        Self { kv, timeout, state: Mutex::default(), confirmed: watch::Sender::new(0) }
    }

    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.confirmed.subscribe()
    }

    pub async fn confirm(self: &Arc<Self>) -> Answer {
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut state = self.state.lock();
            state.waiting.push(reply);
            !std::mem::replace(&mut state.running, true)
        };
        if start {
            // A task of its own, since the caller may be dropped while others wait.
            tokio::spawn(Arc::clone(self).run());
        }
        answer.await.unwrap_or_else(|_| Err("the runtime is shutting down".into()))
    }

    async fn run(self: Arc<Self>) {
        loop {
            let waiting = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let answer = self.read().await;
            if let Ok(revision) = answer {
                self.confirmed.send_if_modified(|known| {
                    let newer = revision > *known;
                    *known = revision.max(*known);
                    newer
                });
            }
            for reply in waiting {
                // Whoever stopped waiting needs no answer.
                drop(reply.send(answer.clone()));
            }
        }
    }

    async fn read(&self) -> Answer {
        let mut kv = self.kv.clone();
        let read = kv.get(NO_KEY.to_vec(), Some(GetOptions::new().with_count_only()));
        match convert::within(self.timeout, read).await {
            Ok(response) => Ok(convert::revision(response.header())),
            Err(refusal) => Err(format!("{refusal:?}")),
        }
    }
}
