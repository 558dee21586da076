//! Evaluates a group of transactions against the newest state and what the group did before them,
//! and gathers their changes in one batch. Nothing is written here.

use std::collections::HashMap;

use bytes::Bytes;
use fjall::OwnedWriteBatch;

use super::hub::{Changed, Committed};
use super::leases::Leases;
use super::record::{self, Logged, Meta, Version};
use super::tables::{self, Tables};
use crate::{Change, Expect, KeyValue, LeaseId, Op, Result, Revision, StoreError};

pub(super) struct Group<'a> {
    tables: &'a Tables,
    batch: OwnedWriteBatch,
    /// The newest revision, this group's included.
    pub revision: Revision,
    /// The oldest readable revision, this group's compactions included.
    pub compacted: Revision,
    /// What the group made of the keys that it touched.
    overlay: HashMap<Bytes, Option<(Meta, KeyValue)>>,
    pub committed: Vec<Committed>,
}

impl<'a> Group<'a> {
    pub fn new(tables: &'a Tables, revision: Revision, compacted: Revision) -> Self {
        Self {
            tables,
            batch: tables.db.batch(),
            revision,
            compacted,
            overlay: HashMap::new(),
            committed: Vec::new(),
        }
    }

    /// The batch, complete with its revision; `None` when there is nothing to write.
    pub fn into_batch(self) -> (Option<OwnedWriteBatch>, Vec<Committed>) {
        let Self { tables, mut batch, revision, committed, .. } = self;
        if !committed.is_empty() {
            batch.insert(&tables.meta, tables::REVISION, revision.to_be_bytes());
        }
        ((!batch.is_empty()).then_some(batch), committed)
    }

    fn meta_of(&self, key: &Bytes) -> Result<Option<Meta>> {
        match self.overlay.get(key) {
            Some(state) => Ok(state.as_ref().map(|(meta, _)| *meta)),
            None => self.tables.meta_of(key),
        }
    }

    fn value_of(&self, key: &Bytes, meta: Option<Meta>) -> Result<Option<KeyValue>> {
        match (self.overlay.get(key), meta) {
            (Some(state), _) => Ok(state.as_ref().map(|(_, kv)| kv.clone())),
            (None, Some(meta)) => self.tables.version(key, meta.modified),
            (None, None) => Ok(None),
        }
    }

    /// One transaction: the revision at which it is visible, or why it changes nothing.
    pub fn transact(&mut self, mut ops: Vec<Op>, leases: &Leases) -> Result<Revision> {
        for op in &ops {
            let meta = self.meta_of(&op.key)?;
            let modified = meta.map_or(0, |meta| meta.modified);
            let as_expected = match op.expect {
                Expect::Any => true,
                Expect::Absent => modified == 0,
                Expect::Revision(expected) => modified == expected,
            };
            if !as_expected {
                return Err(StoreError::Conflict {
                    key: op.key.clone(),
                    current: self.value_of(&op.key, meta)?,
                });
            }
            if let Change::Put { lease: Some(lease), .. } = &op.change
                && !leases.contains(*lease)
            {
                return Err(StoreError::NoLease(*lease));
            }
        }
        ops.sort_by(|a, b| a.key.cmp(&b.key));
        self.apply(ops)
    }

    fn apply(&mut self, ops: Vec<Op>) -> Result<Revision> {
        let revision = self.revision + 1;
        let (mut changes, mut log) = (Vec::new(), Vec::new());
        for op in ops {
            let before = self.meta_of(&op.key)?;
            let current = match op.change {
                Change::Check => continue,
                Change::Delete if before.is_none() => continue,
                Change::Delete => self.delete(&op.key, revision),
                Change::Put { value, lease } => {
                    self.put(&op.key, revision, before, value, lease.unwrap_or(0))
                }
            };
            self.rebind(
                &op.key,
                before.map_or(0, |meta| meta.lease),
                current.as_ref().map_or(0, |(meta, _)| meta.lease),
            );
            let previous = before.map_or(0, |meta| meta.modified);
            log.push(Logged { key: op.key.clone(), previous, deleted: current.is_none() });
            changes.push(Changed {
                key: op.key.clone(),
                current: current.as_ref().map(|(_, kv)| kv.clone()),
                previous,
            });
            self.overlay.insert(op.key, current);
        }
        if changes.is_empty() {
            return Ok(self.revision);
        }
        self.batch.insert(&self.tables.log, revision.to_be_bytes(), record::encode_log(&log));
        self.committed.push(Committed { revision, changes });
        self.revision = revision;
        Ok(revision)
    }

    fn put(
        &mut self,
        key: &Bytes,
        revision: Revision,
        before: Option<Meta>,
        value: Bytes,
        lease: LeaseId,
    ) -> Option<(Meta, KeyValue)> {
        let meta = Meta {
            modified: revision,
            created: before.map_or(revision, |meta| meta.created),
            version: before.map_or(1, |meta| meta.version + 1),
            lease,
        };
        let version = Version::Put { created: meta.created, version: meta.version, value };
        self.batch.insert(&self.tables.data, record::data_key(key, revision), version.encode());
        self.batch.insert(&self.tables.current, key.clone(), meta.encode());
        version.into_key_value(key.clone(), revision).map(|kv| (meta, kv))
    }

    fn delete(&mut self, key: &Bytes, revision: Revision) -> Option<(Meta, KeyValue)> {
        self.batch.insert(&self.tables.data, record::data_key(key, revision), Version::Tombstone.encode());
        self.batch.remove(&self.tables.current, key.clone());
        None
    }

    fn rebind(&mut self, key: &Bytes, before: LeaseId, now: LeaseId) {
        if before == now {
            return;
        }
        if before != 0 {
            self.batch.remove(&self.tables.lease_keys, record::lease_key(before, key));
        }
        if now != 0 {
            self.batch.insert(&self.tables.lease_keys, record::lease_key(now, key), Bytes::new());
        }
    }

    pub fn grant(&mut self, id: LeaseId, ttl_seconds: u64) {
        self.batch.insert(&self.tables.leases, id.to_be_bytes(), ttl_seconds.to_be_bytes());
    }

    /// Ends a lease together with the keys that are bound to it.
    pub fn expire(&mut self, id: LeaseId) -> Result<()> {
        let mut ops = Vec::new();
        for row in self.tables.lease_keys.prefix(id.to_be_bytes()) {
            let row = row.key().map_err(|e| self.tables.error("reading", e))?;
            let key = Bytes::from(row).slice(8..);
            ops.push(Op { key, expect: Expect::Any, change: Change::Delete });
        }
        self.batch.remove(&self.tables.leases, id.to_be_bytes());
        self.apply(ops)?;
        Ok(())
    }

    pub fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision <= self.compacted {
            return Err(StoreError::Compacted { requested: revision, oldest: self.compacted });
        }
        if revision > self.revision {
            return Err(StoreError::Future { requested: revision, current: self.revision });
        }
        self.compacted = revision;
        self.batch.insert(&self.tables.meta, tables::COMPACTED, revision.to_be_bytes());
        Ok(())
    }
}
