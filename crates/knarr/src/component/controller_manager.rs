//! `knarr controller-manager`, also as `kube-controller-manager`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use auth::pki::CertificateAuthority;
use base::{Random, SharedClock, Shutdown, SystemClock, SystemRandom, TaskGroup};
use clap::Args;
use controllers::certificates::Signer;
use controllers::clients::Clients;

use super::credentials::Accounts;
use super::elect::{self, LeaderElection};
use crate::feature_gates::FeatureGates;
use crate::signer::FromFiles;

/// `knarr controller-manager`
#[derive(Debug, Args)]
pub struct ControllerManager {
    #[command(flatten)]
    pub logging: super::Logging,
    /// How the API server is reached, and as whom
    #[arg(long)]
    kubeconfig: PathBuf,
    #[command(flatten)]
    election: LeaderElection,
    /// Give each controller a service account of its own in kube-system
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    use_service_account_credentials: bool,
    /// Give each node a part of the pod network
    #[arg(long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    allocate_node_cidrs: bool,
    /// The pod network, which nodes are given parts of; or one of each family, parted by a comma
    #[arg(long)]
    cluster_cidr: Option<String>,
    /// The prefix length of a node's part, where there is one family [default: 24 of IPv4, 64 of IPv6]
    #[arg(long)]
    node_cidr_mask_size: Option<u8>,
    /// The prefix length of a node's part of IPv4 [default: 24]
    #[arg(long, conflicts_with = "node_cidr_mask_size")]
    node_cidr_mask_size_ipv4: Option<u8>,
    /// The prefix length of a node's part of IPv6 [default: 64]
    #[arg(long, conflicts_with = "node_cidr_mask_size")]
    node_cidr_mask_size_ipv6: Option<u8>,
    /// How long a node may be silent before it counts as lost
    #[arg(long, default_value = "50s", value_parser = super::go_duration)]
    node_monitor_grace_period: Duration,
    /// How many pods that have ended are kept; 0: all
    #[arg(long, default_value_t = 12_500, allow_negative_numbers = true)]
    terminated_pod_gc_threshold: i32,
    /// The authority that pods are told to trust [default: the kubeconfig's]
    #[arg(long)]
    root_ca_file: Option<PathBuf>,
    /// The authority that signs certificate requests; without it they are left alone
    #[arg(long, requires = "cluster_signing_key_file")]
    cluster_signing_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, requires = "cluster_signing_cert_file")]
    cluster_signing_key_file: Option<PathBuf>,
    #[command(flatten)]
    features: FeatureGates,
}

impl ControllerManager {
    /// Runs the controllers until the process is told to stop.
    ///
    /// # Errors
    /// When a flag makes no sense, or the API server cannot be reached by the kubeconfig.
    pub async fn run(self) -> Result<()> {
        // No gate changes anything here; a wrong one is refused.
        self.features.gates()?;
        let (clock, random) = (SystemClock::shared(), SystemRandom::shared());
        let kubeconfig = super::read(&self.kubeconfig)?;
        let client = super::connect(&self.kubeconfig).await?;
        let clients = self.clients(&kubeconfig, &client, &clock).await?;
        let settings = self.settings(&kubeconfig, &clock)?;
        let shutdown = Shutdown::new();
        let tasks = TaskGroup::new(&shutdown);
        let identity = elect::identity(&SystemRandom.uuid());
        let election = self.election.election("kube-controller-manager", &identity);
        let leading = shutdown.clone();
        tasks.spawn_graceful(async move {
            let work = |tasks| {
                let (clients, settings) = (clients.clone(), settings.clone());
                let (clock, random) = (clock.clone(), random.clone());
                async move { controllers::run(clients, clock, random, settings, &tasks).await }
            };
            Box::pin(elect::lead(election, client.clone(), clock.clone(), leading, work)).await;
        });
        super::wait_for_end(&shutdown).await?;
        shutdown.trigger();
        tasks.stop().await;
        Ok(())
    }

    async fn clients(&self, kubeconfig: &str, client: &kube::Client, clock: &SharedClock) -> Result<Clients> {
        if !self.use_service_account_credentials {
            return Ok(Clients::single(client));
        }
        let mut accounts = Accounts::new(kubeconfig, clock.clone()).await?;
        Clients::new(client.clone(), |name| accounts.client(name))
    }

    fn settings(&self, kubeconfig: &str, clock: &SharedClock) -> Result<controllers::context::Settings> {
        if self.allocate_node_cidrs && self.cluster_cidr.is_none() {
            bail!("--allocate-node-cidrs needs --cluster-cidr");
        }
        let root_ca = match &self.root_ca_file {
            Some(path) => super::read(path)?,
            None => auth::kubeconfig::authority(kubeconfig).context(
                "the kubeconfig embeds no certificate-authority-data: name it with --root-ca-file",
            )?,
        };
        let signer = match (&self.cluster_signing_cert_file, &self.cluster_signing_key_file) {
            (Some(cert), Some(key)) => {
                let authority = CertificateAuthority::load(super::read(cert)?, &super::read(key)?)?;
                Some(Arc::new(FromFiles { authority, clock: clock.clone() }) as Arc<dyn Signer>)
            }
            _ => None,
        };
        let cluster_cidr = self.cluster_cidr.clone().filter(|_| self.allocate_node_cidrs).unwrap_or_default();
        if cluster_cidr.contains(',') && self.node_cidr_mask_size.is_some() {
            bail!("usage of --node-cidr-mask-size is not allowed with dual-stack clusters");
        }
        let bits = |of_family: Option<u8>| of_family.or(self.node_cidr_mask_size);
        let (v4, v6) = (bits(self.node_cidr_mask_size_ipv4), bits(self.node_cidr_mask_size_ipv6));
        let (v4, v6) = (v4.unwrap_or(24), v6.unwrap_or(64));
        if !cluster_cidr.is_empty() {
            controllers::node_ipam::validate(&cluster_cidr, v4, v6).map_err(anyhow::Error::msg)?;
        }
        Ok(controllers::context::Settings {
            cluster_cidr,
            node_cidr_bits: v4,
            node_cidr_bits_v6: v6,
            root_ca,
            node_grace_seconds: i64::try_from(self.node_monitor_grace_period.as_secs())?,
            terminated_pods: usize::try_from(self.terminated_pod_gc_threshold).unwrap_or(0),
            signer,
        })
    }
}
