//! Follows the store and keeps all caches of a cluster at the same revision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base::memory::GiveBack;
use base::{Backoff, Shutdown};
use futures::StreamExt;
use parking_lot::RwLock;
use store::{KeyRange, RangeOptions, Store, StoreError, WatchItem};

use super::{Cache, Progress};

/// Leases, which nodes renew every ten seconds, are no work.
const LEASES: &str = "leases";
/// How many keys are read at once while caches are filled.
const PAGE: usize = 5000;

/// How many revisions before the newest one caches begin, so that watches go on where a former process left them.
const HISTORY: u64 = 2000;

/// Up to where caches are filled.
#[derive(Debug, Clone, Copy)]
pub struct Filled {
    /// As of which revision: what came after is followed.
    pub at: u64,
    /// The newest revision when filling began.
    pub newest: u64,
}

/// Knows which cache each key of the store belongs to.
pub struct Feeder {
    store: Arc<dyn Store>,
    /// The cluster's prefix, with its trailing slash: `/registry/`.
    prefix: String,
    caches: RwLock<BTreeMap<String, Arc<Cache>>>,
    progress: Arc<Progress>,
    /// Held for writing while a cache is added, so that nothing is applied between its load and its route.
    gate: tokio::sync::RwLock<()>,
}

impl Feeder {
    /// A feeder without caches.
    pub fn new(store: Arc<dyn Store>, prefix: impl Into<String>, progress: Arc<Progress>) -> Self {
        Self {
            store,
            prefix: prefix.into(),
            caches: RwLock::default(),
            progress,
            gate: tokio::sync::RwLock::default(),
        }
    }

    /// The revision all caches have reached.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Adds a cache before [`Feeder::run`] begins.
    pub fn add(&self, cache: Arc<Cache>) {
        self.caches.write().insert(format!("{}/", cache.prefix), cache);
    }

    /// Adds a cache while the feeder runs (a new custom resource), filled with what is stored for it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn add_live(&self, cache: Arc<Cache>) -> Result<(), StoreError> {
        let _gate = self.gate.write().await;
        let range = KeyRange::prefix(format!("{}{}/", self.prefix, cache.prefix));
        let stored = self.store.range(&range, RangeOptions::default()).await?;
        for kv in &stored.kvs {
            self.load(&cache, &kv.key, kv.mod_revision, &kv.value);
        }
        cache.loaded(stored.revision);
        self.caches.write().insert(format!("{}/", cache.prefix), cache);
        Ok(())
    }

    /// Lets go of the cache of a custom resource that is gone.
    pub fn remove(&self, prefix: &str) {
        self.caches.write().remove(&format!("{prefix}/"));
    }

    /// The cache that a key (without the cluster's prefix) belongs to, and the key within it.
    fn route<'k>(&self, key: &'k str) -> Option<(Arc<Cache>, &'k str)> {
        let caches = self.caches.read();
        // Prefixes have one, two or (custom resources) two parts; the longest that fits wins.
        let mut ends = key.match_indices('/').map(|(at, _)| at + 1);
        let (first, second) = (ends.next(), ends.next());
        [second, first].into_iter().flatten().find_map(|end| {
            let (prefix, rest) = key.split_at_checked(end)?;
            caches.get(prefix).map(|cache| (cache.clone(), rest))
        })
    }

    fn load(&self, cache: &Cache, key: &[u8], revision: u64, value: &[u8]) {
        let Ok(key) = std::str::from_utf8(key) else {
            tracing::error!(key = ?key, "a key of the store is not UTF-8");
            return;
        };
        let Some(rest) = key.strip_prefix(&self.prefix).and_then(|key| key.strip_prefix(&cache.prefix))
        else {
            return;
        };
        if let Err(error) = cache.load(rest.trim_start_matches('/'), revision, value) {
            tracing::error!(%error, "an object was left out");
        }
    }

    /// Fills every cache as of a revision a little before the newest, where the store still has it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn fill(&self) -> Result<Filled, StoreError> {
        let all = KeyRange::prefix(self.prefix.clone());
        let asked = RangeOptions { limit: Some(1), at: None, keys_only: true };
        let newest = self.store.range(&all, asked).await?.revision;
        let at = match newest.checked_sub(HISTORY) {
            Some(at) if at > 0 => at,
            _ => 1.min(newest),
        };
        match self.fill_at(Some(at).filter(|at| *at > 0)).await {
            Ok(at) => Ok(Filled { at, newest }),
            Err(StoreError::Compacted { .. }) => {
                let at = self.fill_at(None).await?;
                Ok(Filled { at, newest: at })
            }
            Err(error) => Err(error),
        }
    }

    async fn fill_at(&self, mut at: Option<u64>) -> Result<u64, StoreError> {
        // What an attempt that was compacted away has loaded may be gone since.
        self.caches.read().values().for_each(|cache| cache.empty());
        let mut range = KeyRange::prefix(self.prefix.clone());
        loop {
            let options = RangeOptions { limit: Some(PAGE), at, keys_only: false };
            let page = self.store.range(&range, options).await?;
            at = Some(page.revision);
            for kv in &page.kvs {
                let routed = std::str::from_utf8(&kv.key)
                    .ok()
                    .and_then(|key| key.strip_prefix(&self.prefix))
                    .and_then(|key| self.route(key));
                if let Some((cache, _)) = routed {
                    self.load(&cache, &kv.key, kv.mod_revision, &kv.value);
                }
            }
            match page.kvs.last() {
                Some(last) if page.more => range.start = [&last.key[..], b"\0"].concat().into(),
                _ => break,
            }
        }
        let revision = at.unwrap_or_default();
        for cache in self.caches.read().values() {
            cache.loaded(revision);
        }
        self.progress.advance(revision);
        Ok(revision)
    }

    /// Lets go of what caches keep for a busy time ([`Cache::rest`]), but for that of leases: it is never quiet.
    pub fn rest(&self) {
        self.caches.read().values().filter(|cache| cache.prefix != LEASES).for_each(|cache| cache.rest());
    }

    /// Follows the store from right after `revision` until the shutdown. A lost connection is taken up again where
    /// it broke. `memory` hears of every change.
    ///
    /// # Errors
    /// When the history that is needed was compacted: the process has to start anew.
    pub async fn run(&self, revision: u64, memory: &GiveBack, shutdown: Shutdown) -> Result<(), StoreError> {
        let range = KeyRange::prefix(self.prefix.clone());
        let mut next = revision + 1;
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        while !shutdown.is_triggered() {
            let ended = tokio::select! {
                () = shutdown.wait() => return Ok(()),
                ended = self.follow(&range, &mut next, memory, &mut backoff) => ended,
            };
            match ended {
                Err(error @ (StoreError::Compacted { .. } | StoreError::Poisoned(_))) => return Err(error),
                Err(error) => tracing::warn!(%error, "the watch of the store broke; trying again"),
                Ok(()) => tracing::warn!("the watch of the store ended; trying again"),
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
        Ok(())
    }

    async fn follow(
        &self,
        range: &KeyRange,
        next: &mut u64,
        memory: &GiveBack,
        backoff: &mut Backoff,
    ) -> Result<(), StoreError> {
        let mut stream = self.store.watch(range, *next).await?;
        while let Some(item) = stream.next().await {
            backoff.reset();
            let _gate = self.gate.read().await;
            let revision = match item? {
                WatchItem::Progress(revision) => revision,
                WatchItem::Events(events) => {
                    let newest = events.iter().map(|event| event.revision).max();
                    for event in &events {
                        if self.apply(event).is_some_and(|cache| cache.prefix != LEASES) {
                            memory.busy();
                        }
                    }
                    newest.unwrap_or_default()
                }
            };
            *next = (*next).max(revision + 1);
            self.progress.advance(revision);
        }
        Ok(())
    }

    /// The cache that the change belongs to.
    fn apply(&self, event: &store::Event) -> Option<Arc<Cache>> {
        let Ok(key) = std::str::from_utf8(&event.key) else {
            tracing::error!(key = ?event.key, "a key of the store is not UTF-8");
            return None;
        };
        let (cache, rest) = key.strip_prefix(&self.prefix).and_then(|key| self.route(key))?;
        let value = event.current.as_ref().map(|kv| &kv.value[..]);
        if let Err(error) = cache.apply(rest, event.revision, value) {
            tracing::error!(%error, "a change was left out");
        }
        Some(cache)
    }
}
