//! An API server that is measured: one of our own, or the other one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::cluster::Cluster;
use super::http::{Call, Client};
use super::kubeconfig::{self, Endpoint};
use super::peers::Peer;
use super::process::{self, Usage};

/// So many connections share the load.
pub(super) const CONNECTIONS: usize = 4;

/// An API server that is measured.
#[derive(Debug)]
pub(super) struct Target {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Connections for the load.
    pub client: Client,
    /// Its processes.
    pids: Vec<u32>,
    /// The cluster, if it is one of our own. The last field: it goes when the connections have gone.
    pub cluster: Option<Cluster>,
}

impl Target {
    /// A new cluster of our own, with a node or not.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn ours(knarr: &Path, node: Option<Peer>) -> Result<Self> {
        let cluster = Cluster::new(knarr, node)?;
        cluster.up()?;
        let endpoint = kubeconfig::load(&cluster.kubeconfig())?;
        let client = Client::connect(&endpoint, CONNECTIONS).await?;
        let target = Self { endpoint, client, pids: cluster.pids()?, cluster: Some(cluster) };
        target.prepare_namespace("default").await?;
        Ok(target)
    }

    /// Another API server.
    ///
    /// # Errors
    /// When it cannot be reached, or there are no processes of it.
    pub async fn other(kubeconfig: &Path, pids: &[u32], names: &[String]) -> Result<Self> {
        let mut pids = pids.to_vec();
        pids.extend(process::by_name(names)?);
        if pids.is_empty() {
            bail!("which processes are the other API server's? Say so with --against-pids or --against-comm");
        }
        let endpoint = kubeconfig::load(kubeconfig)?;
        let client = Client::connect(&endpoint, CONNECTIONS).await?;
        let target = Self { endpoint, client, pids, cluster: None };
        target.prepare_namespace("default").await?;
        Ok(target)
    }

    /// New connections in the place of those that may have been idle for long: upstream closes them after 90 s.
    /// One of our own that was stopped keeps the old ones: its row makes its own.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect_again(&mut self) -> Result<()> {
        if self.usage().is_ok() {
            self.client = Client::connect(&self.endpoint, CONNECTIONS).await?;
        }
        Ok(())
    }

    /// The cluster that this is.
    ///
    /// # Errors
    /// When it is none of our own.
    pub fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().context("this row is about a cluster of our own")
    }

    /// What its processes have used.
    ///
    /// # Errors
    /// When one of them has ended.
    pub fn usage(&self) -> Result<Usage> {
        process::usage(&self.pids)
    }

    /// The memory of its processes, in bytes.
    pub fn memory(&self) -> u64 {
        process::pss(&self.pids)
    }

    /// Makes a namespace in which pods can be made, with or without controllers.
    ///
    /// # Errors
    /// When it does not come about.
    pub async fn prepare_namespace(&self, name: &str) -> Result<()> {
        let namespace = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}}}}"#);
        let account = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"default"}}"#;
        let accounts = format!("/api/v1/namespaces/{name}/serviceaccounts");
        let (at, since) = (format!("/api/v1/namespaces/{name}"), Instant::now());
        while !self.client.try_call(Call::get(&at)).await? {
            self.client.try_call(Call::post("/api/v1/namespaces", namespace.clone())).await?;
            wait(since).await?;
        }
        // Where there is a controller for accounts, it may be faster.
        while !self.client.try_call(Call::get(format!("{accounts}/default"))).await? {
            self.client.try_call(Call::post(&accounts, account)).await?;
            wait(since).await?;
        }
        Ok(())
    }

    /// Waits until the processes have almost nothing left to do.
    ///
    /// # Errors
    /// When one of them has ended. That they stay busy is no error: they may have reasons.
    pub async fn settle(&self) -> Result<()> {
        for _ in 0..40 {
            let before = self.usage()?;
            tokio::time::sleep(Duration::from_millis(500)).await;
            if self.usage()?.since(before).cpu_us <= 20_000 {
                break;
            }
        }
        Ok(())
    }
}

async fn wait(since: Instant) -> Result<()> {
    if since.elapsed() > Duration::from_secs(30) {
        bail!("a namespace with its service account did not come about in 30 s");
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(())
}
