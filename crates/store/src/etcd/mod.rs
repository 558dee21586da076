//! The etcd back end: the same contract on an etcd v3 cluster.
//!
//! Reads are linearizable; a transaction compares modification revisions. When the answer to a commit was
//! lost, its outcome is unknown and said to be so, never guessed. etcd from 3.4.31, 3.5.13 or 3.6 on:
//! earlier ones send progress ahead of events.

mod confirm;
mod convert;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, KvClient, PutOptions,
    TlsOptions, Txn, TxnOp, TxnOpResponse,
};

use self::confirm::Confirmer;
use self::convert::{Refusal, key_value, revision};
use crate::{
    Change, Commit, Expect, KeyRange, KeyValue, LeaseId, Op, RangeOptions, RangeResult, Result, Revision,
    Store, StoreError, WatchStream,
};

/// How the connection is secured.
#[derive(Debug, Clone, Default)]
pub struct EtcdTls {
    /// Who may have signed the server's certificate (PEM).
    pub ca_pem: Vec<u8>,
    /// The client's certificate and key (PEM), where etcd asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in the server's certificate, if it is not the endpoint's.
    pub server_name: Option<String>,
}

/// How long things may take.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// One request, its wait for a connection included.
    pub request_timeout: Duration,
    /// One attempt to connect.
    pub connect_timeout: Duration,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(10), connect_timeout: Duration::from_secs(3) }
    }
}

/// A store in an etcd cluster.
pub struct Etcd {
    client: Client,
    kv: KvClient,
    confirmer: Arc<Confirmer>,
    endpoints: String,
    timeout: Duration,
}

impl Etcd {
    /// Connects to the members of one cluster (`http://…` or `https://…`), and makes sure that it answers.
    pub async fn connect(endpoints: &[String], tls: Option<EtcdTls>, options: EtcdOptions) -> Result<Self> {
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(options.connect_timeout)
            .with_keep_alive(Duration::from_secs(30), Duration::from_secs(10))
            .with_keep_alive_while_idle(true);
        if let Some(tls) = tls {
            let mut config = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca_pem));
            if let Some((cert, key)) = &tls.identity {
                config = config.identity(Identity::from_pem(cert, key));
            }
            if let Some(name) = tls.server_name {
                config = config.domain_name(name);
            }
            connect = connect.with_tls(config);
        }
        let joined = endpoints.join(",");
        let client = Client::connect(endpoints, Some(connect))
            .await
            .map_err(|e| StoreError::Unavailable(format!("connecting to etcd at {joined}: {e}")))?;
        let kv = client.kv_client().max_decoding_message_size(usize::MAX);
        let confirmer = Arc::new(Confirmer::new(kv.clone(), options.request_timeout));
        let etcd = Self { client, kv, confirmer, endpoints: joined, timeout: options.request_timeout };
        etcd.confirm().await?;
        Ok(etcd)
    }

    async fn call<T>(
        &self,
        call: impl Future<Output = std::result::Result<T, etcd_client::Error>>,
    ) -> std::result::Result<T, Refusal> {
        convert::within(self.timeout, call).await
    }

    async fn fetch(
        &self,
        range: (Vec<u8>, GetOptions),
        requested: Revision,
    ) -> Result<etcd_client::GetResponse> {
        let mut kv = self.kv.clone();
        match self.call(kv.get(range.0, Some(range.1))).await {
            Ok(response) => Ok(response),
            Err(refusal) => Err(self.explain(refusal, "reading", requested).await),
        }
    }

    /// What a refused call that changed nothing means; asks etcd for the revisions that its refusal leaves out.
    async fn explain(&self, refusal: Refusal, doing: &str, requested: Revision) -> StoreError {
        match refusal {
            Refusal::Compacted => match self.oldest().await {
                Ok(oldest) => StoreError::Compacted { requested, oldest },
                Err(error) => error,
            },
            Refusal::Future => match self.confirm().await {
                Ok(current) => StoreError::Future { requested, current },
                Err(error) => error,
            },
            Refusal::NoLease => StoreError::NoLease(0),
            Refusal::NotSent(message) | Refusal::Lost(message) => {
                StoreError::Unavailable(format!("etcd at {}: {message}", self.endpoints))
            }
            Refusal::Other(message) => {
                StoreError::Io { context: format!("{doing} in etcd at {}", self.endpoints), message }
            }
        }
    }

    /// The oldest revision that can be read: a watch from the first revision is refused with it.
    async fn oldest(&self) -> Result<Revision> {
        watch::oldest(self.client.watch_client(), self.timeout)
            .await
            .map_err(|message| StoreError::Unavailable(format!("etcd at {}: {message}", self.endpoints)))
    }

    async fn watched_range_reaches(&self, range: &KeyRange, from: Revision) -> Result<()> {
        // A watch from a revision needs the state before it, for the previous values. etcd itself would
        // accept a watch from the compacted revision, and leave its deletions out.
        let Some(before) = from.checked_sub(1).filter(|revision| *revision > 0) else { return Ok(()) };
        let options = GetOptions::new().with_count_only().with_revision(before.cast_signed());
        match self.fetch((range.start.to_vec().max(vec![0]), options), from).await {
            Ok(_) | Err(StoreError::Future { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// etcd's form of a range: an empty start is no key there, and an end of one zero byte is none.
fn range_bounds(range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    let start = if range.start.is_empty() { vec![0] } else { range.start.to_vec() };
    let end = if range.end.is_empty() { vec![0] } else { range.end.to_vec() };
    (start, end)
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Revision, Option<KeyValue>)> {
        let mut options = GetOptions::new();
        if let Some(at) = at {
            options = options.with_revision(at.cast_signed());
        }
        let mut response = self.fetch((key.to_vec(), options), at.unwrap_or(0)).await?;
        let seen = revision(response.header());
        let kv = response.take_kvs().pop().map(key_value);
        Ok((at.filter(|at| *at != 0).unwrap_or(seen), kv))
    }

    async fn range(&self, range: &KeyRange, options: RangeOptions) -> Result<RangeResult> {
        let (start, end) = range_bounds(range);
        let mut get = GetOptions::new().with_range(end);
        // etcd takes a limit of 0 for none.
        if let Some(limit) = options.limit {
            get = get.with_limit(i64::try_from(limit.max(1)).unwrap_or(i64::MAX));
        }
        if let Some(at) = options.at {
            get = get.with_revision(at.cast_signed());
        }
        if options.keys_only {
            get = get.with_keys_only();
        }
        let mut response = self.fetch((start, get), options.at.unwrap_or(0)).await?;
        let seen = revision(response.header());
        let (mut more, count) = (response.more(), usize::try_from(response.count()).unwrap_or(0));
        let mut kvs: Vec<_> = response.take_kvs().into_iter().map(key_value).collect();
        if options.limit == Some(0) {
            kvs.clear();
            more = count > 0;
        }
        Ok(RangeResult { revision: options.at.filter(|at| *at != 0).unwrap_or(seen), kvs, more, count })
    }

    async fn commit(&self, ops: Vec<Op>) -> Result<Commit> {
        let (mut compares, mut changes, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for op in &ops {
            let key = op.key.to_vec();
            let expected = match op.expect {
                Expect::Any => None,
                Expect::Absent => Some(0),
                Expect::Revision(revision) => Some(revision.cast_signed()),
            };
            if let Some(expected) = expected {
                compares.push(Compare::mod_revision(key.clone(), CompareOp::Equal, expected));
                reads.push(TxnOp::get(key.clone(), None));
            }
            match &op.change {
                Change::Put { value, lease } => {
                    let options = lease.map(|lease| PutOptions::new().with_lease(lease));
                    changes.push(TxnOp::put(key, value.to_vec(), options));
                }
                Change::Delete => changes.push(TxnOp::delete(key, None)),
                Change::Check => {}
            }
        }
        let txn = Txn::new().when(compares).and_then(changes).or_else(reads);
        let mut kv = self.kv.clone();
        let response = match self.call(kv.txn(txn)).await {
            Ok(response) => response,
            Err(Refusal::Lost(message)) => {
                return Err(StoreError::Unknown(format!("etcd at {}: {message}", self.endpoints)));
            }
            Err(Refusal::NoLease) => return Err(StoreError::NoLease(first_lease(&ops))),
            Err(refusal) => return Err(self.explain(refusal, "writing", 0).await),
        };
        if response.succeeded() {
            return Ok(Commit { revision: revision(response.header()) });
        }
        Err(self.conflict(&ops, response.op_responses()))
    }

    async fn watch(&self, range: &KeyRange, from: Revision) -> Result<WatchStream> {
        let from = from.max(1);
        self.watched_range_reaches(range, from).await?;
        let opened = watch::open(self.client.watch_client(), range_bounds(range), from, self.timeout).await;
        match opened {
            Ok(opened) => Ok(watch::stream(opened, self.confirmer.subscribe(), from, self.endpoints.clone())),
            Err(refusal) => Err(self.explain(refusal, "watching", from).await),
        }
    }

    async fn confirm(&self) -> Result<Revision> {
        match self.confirmer.confirm().await {
            Ok(revision) => Ok(revision),
            Err(message) => Err(StoreError::Unavailable(format!("etcd at {}: {message}", self.endpoints))),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let mut kv = self.kv.clone();
        match self.call(kv.compact(revision.cast_signed(), None)).await {
            Ok(_) => Ok(()),
            Err(refusal) => Err(self.explain(refusal, "compacting", revision).await),
        }
    }

    async fn grant_lease(&self, ttl_seconds: i64) -> Result<LeaseId> {
        let mut leases = self.client.lease_client();
        match self.call(leases.grant(ttl_seconds, None)).await {
            Ok(response) => Ok(response.id()),
            Err(refusal) => Err(self.explain(refusal, "granting a lease", 0).await),
        }
    }

    async fn size(&self) -> Result<u64> {
        let mut maintenance = self.client.maintenance_client();
        match self.call(maintenance.status()).await {
            Ok(status) => Ok(u64::try_from(status.db_size()).unwrap_or(0)),
            Err(refusal) => Err(self.explain(refusal, "measuring", 0).await),
        }
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl Etcd {
    /// The first expectation that failed, from what the failed transaction read.
    fn conflict(&self, ops: &[Op], reads: Vec<TxnOpResponse>) -> StoreError {
        let expecting = ops.iter().filter(|op| op.expect != Expect::Any);
        for (op, read) in expecting.zip(reads) {
            let TxnOpResponse::Get(mut read) = read else { continue };
            let current = read.take_kvs().pop().map(key_value);
            let modified = current.as_ref().map_or(0, |kv| kv.mod_revision);
            let as_expected = match op.expect {
                Expect::Any => true,
                Expect::Absent => modified == 0,
                Expect::Revision(expected) => modified == expected,
            };
            if !as_expected {
                return StoreError::Conflict { key: op.key.clone(), current };
            }
        }
        StoreError::Io {
            context: format!("writing in etcd at {}", self.endpoints),
            message: "a transaction failed although everything was as expected".into(),
        }
    }
}

fn first_lease(ops: &[Op]) -> LeaseId {
    ops.iter()
        .find_map(|op| if let Change::Put { lease, .. } = op.change { lease } else { None })
        .unwrap_or(0)
}
